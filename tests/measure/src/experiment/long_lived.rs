// SPDX-License-Identifier: GPL-2.0
//! Long-lived connections (section 4.1): what becomes of an idle connection whose NAT
//! forgets it, and of a subflow that is lost in other ways?

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path as File;
use std::thread::{self, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::{Chapter, Claim, Comparison, Experiment, Results, Run, Scale};
use super::{host, table};
use crate::stream;
use smapp_tests::capture::Capture;
use smapp_tests::topology::{Family, Fault, Path, Shape, Topology};

/// What happens, with words for the report.
const FAULTS: [(&str, &str); 5] = [
    ("nat-drop", "NAT forgets the idle connection and drops it"),
    ("nat-reset", "NAT forgets the idle connection and resets it"),
    ("reset", "a middlebox resets the subflow on path 1"),
    ("unreachable", "path 1 is unreachable (ICMP) for 30 s"),
    ("down", "the interface of path 1 is down for 30 s"),
];
/// In-kernel fullmesh, the same with somebody who removes and adds the endpoint with
/// its address, and `smapp run fullmesh`.
const VARIANTS: [&str; 3] = ["smapp", "kernel", "kernel-endpoint"];

/// How long the router remembers an idle connection, and how long it is idle.
const MEMORY: &str = "60";
const IDLE: Duration = Duration::from_secs(300);
/// How long a path is broken.
const BROKEN: Duration = Duration::from_secs(30);
/// How long to wait for the recovery: longer than 15 retransmissions take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// The experiment.
#[derive(Debug)]
pub struct LongLived;

/// Microseconds since the application's write or, if a path was broken, since it
/// was repaired.
#[derive(Debug, Deserialize, Serialize)]
struct Recovery {
    /// The first answer of the server (no RST) to a segment on a path that was lost.
    answer_us: Option<u64>,
    /// It was a SYN/ACK: there is a new subflow.
    new_subflow: bool,
    /// What was written was complete at the server.
    delivered_us: Option<u64>,
    /// The longest time without progress at the server from the fault on; none for
    /// one write.
    stall_us: Option<u64>,
}

impl Experiment for LongLived {
    fn name(&self) -> &'static str {
        "long-lived"
    }

    fn runs(&self, scale: Scale) -> Vec<Run> {
        let faults: &[(&str, &str)] = match scale {
            Scale::Full => &FAULTS,
            Scale::Quick => &FAULTS[..1],
        };
        let runs = |variant: &str| -> Vec<Run> {
            // An endpoint comes and goes with an address only.
            let fits = |fault: &&(&str, &str)| variant != "kernel-endpoint" || fault.0 == "down";
            let run = |fault: &(&str, &str)| Run::new(variant).with("fault", fault.0);
            faults.iter().filter(fits).map(run).collect()
        };
        VARIANTS.into_iter().flat_map(runs).collect()
    }

    fn measure(&self, run: &Run, out: &File) -> Result<()> {
        let shape = |ms| Shape {
            rate: 10,
            delay: Duration::from_millis(ms),
        };
        let topology = Topology::with_shapes([shape(10), shape(20)])?.without_offload()?;
        let Topology {
            client,
            router,
            server,
            ..
        } = &topology;
        let fault = run.text("fault")?;
        let unknown = if fault == "nat-reset" {
            "reject with tcp reset"
        } else {
            "drop"
        };
        router.nft(&format!(
            "table ip nat {{\n\
               chain postrouting {{\n\
                 type nat hook postrouting priority 100;\n\
                 oifname s0 masquerade\n\
               }}\n\
             }}\n\
             table inet strict {{\n\
               chain input {{\n\
                 type filter hook input priority 0;\n\
                 meta l4proto tcp ct state invalid drop\n\
               }}\n\
               chain forward {{\n\
                 type filter hook forward priority 0;\n\
                 meta l4proto tcp ct state invalid {unknown}\n\
               }}\n\
             }}\n"
        ))?;
        router.set_sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
        router.set_sysctl("netfilter/nf_conntrack_tcp_timeout_established", MEMORY)?;
        host::kernel(server, &[])?;
        let mut daemon = None;
        match run.variant.as_str() {
            "smapp" => daemon = Some(host::smapp(client, &["fullmesh"])?),
            "kernel" | "kernel-endpoint" => host::kernel(
                client,
                &[
                    "endpoint add 10.0.1.2 dev eth0 id 1 subflow fullmesh",
                    "endpoint add 10.0.2.2 dev eth1 id 2 subflow fullmesh",
                ],
            )?,
            other => bail!("no variant {other}"),
        }
        let [at_client, at_server] = [Capture::of(client, "tcp")?, Capture::of(server, "tcp")?];
        let host::Pair {
            client: mut writer,
            server: reader,
            to,
            listener: _listener,
        } = host::Pair::connect(client, server)?;
        SockRef::from(&writer).set_linger(Some(Duration::ZERO))?;
        let ended = reader.try_clone()?;
        let mut far = reader;
        let reader = thread::spawn(move || {
            let mut data = [0; 4096];
            while far.read(&mut data).is_ok_and(|length| length > 0) {}
        });
        // Time for the second subflow.
        sleep(Duration::from_secs(2));
        let faulty = now()?;
        let since = match fault {
            "nat-drop" | "nat-reset" => {
                sleep(IDLE);
                let written = now()?;
                writer.write_all(&[7; 1000])?;
                sleep(PATIENCE);
                written
            }
            "reset" | "unreachable" | "down" => {
                let mut talk = |time: Duration| -> Result<()> {
                    for _ in 0..time.as_secs() {
                        // A connection without a subflow says EPIPE after a minute.
                        writer.write_all(&[7; 100])?;
                        sleep(Duration::from_secs(1));
                    }
                    Ok(())
                };
                let kept = run.variant == "kernel-endpoint";
                match fault {
                    "reset" => topology.break_path(Path::First, Fault::Reset)?,
                    "unreachable" => topology.break_path(Path::First, Fault::Unreachable)?,
                    _ => {
                        if kept {
                            client.ip("mptcp endpoint delete id 1\n")?;
                        }
                        topology.remove_address(Path::First)?;
                        client.ip("link set eth0 down\n")?;
                    }
                }
                talk(if fault == "reset" {
                    Duration::from_secs(2)
                } else {
                    BROKEN
                })?;
                let repaired = now()?;
                match fault {
                    "reset" => topology.repair_path(Path::First, Fault::Reset)?,
                    "unreachable" => topology.repair_path(Path::First, Fault::Unreachable)?,
                    _ => {
                        client.ip("link set eth0 up\n")?;
                        topology.add_address(Path::First)?;
                        if kept {
                            client.ip(
                                "mptcp endpoint add 10.0.1.2 dev eth0 id 1 subflow fullmesh\n",
                            )?;
                        }
                    }
                }
                talk(PATIENCE)?;
                repaired
            }
            other => bail!("no fault {other}"),
        };
        let (segments, arrived) = (at_client.stop()?, at_server.stop()?);
        drop(writer);
        let _ = ended.shutdown(std::net::Shutdown::Both);
        reader.join().expect("it does not panic");
        host::end(daemon, out)?;

        let after = |time: Duration| time.saturating_sub(since).as_micros() as u64;
        let idle = fault.starts_with("nat");
        let first = Path::First.client(Family::V4);
        // A segment that the server sends on its own on a subflow that was given up is no answer.
        let mut asked = BTreeSet::new();
        let mut answer = None;
        for s in segments.iter().filter(|s| s.time > since && !s.is_rst()) {
            if s.outgoing {
                asked.insert((s.from, s.to));
            } else if asked.contains(&(s.to, s.from)) && (idle || s.to.ip() == first) {
                answer = answer.or(Some(s));
            }
        }
        let progress = stream::progress(&stream::pieces(&arrived, to.port())?);
        let delivered = progress.iter().find(|(time, _)| *time > since);
        let times = progress
            .iter()
            .map(|(time, _)| *time)
            .filter(|&time| time > faulty);
        let times: Vec<_> = [faulty]
            .into_iter()
            .chain(times)
            .chain([since + PATIENCE])
            .collect();
        let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let stall = gaps.max().filter(|_| !idle);
        table(
            out,
            "recovery",
            &[Recovery {
                answer_us: answer.map(|s| after(s.time)),
                new_subflow: answer.is_some_and(|s| s.is_syn_ack()),
                delivered_us: delivered.map(|&(time, _)| after(time)),
                stall_us: stall.map(|gap| gap.as_micros() as u64),
            }],
        )
    }

    fn chapter(&self, results: &Results) -> Result<Chapter> {
        let mut comparison = Comparison::new([
            "fault",
            "measured",
            "paper",
            "7.3, fullmesh",
            "7.3, endpoint follows the address",
            "smapp, fullmesh",
        ]);
        let mut claims = Vec::new();
        for (fault, words) in FAULTS {
            let of = |variant| -> Result<Option<Recovery>> {
                let mut runs = results.of(variant);
                let run = runs.find(|run| run.text("fault").is_ok_and(|f| f == fault));
                run.map(|run| results.row(run, "recovery")).transpose()
            };
            let (smapp, kernel, endpoint) = (of("smapp")?, of("kernel")?, of("kernel-endpoint")?);
            let mut row = |what: &str, show: fn(&Recovery) -> String| {
                let cell = |recovery: &Option<Recovery>| recovery.as_ref().map_or("-".into(), show);
                comparison.row([
                    words.into(),
                    what.into(),
                    "opens it again".into(),
                    cell(&kernel),
                    cell(&endpoint),
                    cell(&smapp),
                ]);
            };
            if fault.starts_with("nat") {
                row("the next write arrives after", |r| seconds(r.delivered_us));
                row("a subflow works again after", answer);
            } else {
                row("path 1 works again, after its repair", answer);
                row("longest time without progress", |r| seconds(r.stall_us));
            }
            let (Some(smapp), Some(kernel)) = (smapp, kernel) else {
                continue;
            };
            claims.push(Claim::new(
                smapp.answer_us.is_some(),
                format!("{words}: smapp recovers ({})", answer(&smapp)),
            ));
            // A connection that never recovers counts as later than any time. Other faults leave
            // the old subflow alive: its next retransmission decides, whatever the variant.
            if ["nat-drop", "nat-reset", "reset"].contains(&fault) {
                let time = |recovery: &Recovery| recovery.answer_us.unwrap_or(u64::MAX);
                claims.push(Claim::new(
                    time(&smapp) < time(&kernel),
                    format!("{words}: smapp recovers before in-kernel fullmesh"),
                ));
            }
        }
        Ok(Chapter {
            title: "Long-lived connections: a subflow that is lost comes back (section 4.1)".into(),
            method: METHOD.into(),
            topology: TOPOLOGY.into(),
            figures: Vec::new(),
            comparison,
            discussion: DISCUSSION.into(),
            claims,
        })
    }
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn seconds(us: Option<u64>) -> String {
    match us {
        Some(us) => format!("{:.2} s", us as f64 / 1e6),
        None => format!("never within {} s", PATIENCE.as_secs()),
    }
}

fn answer(recovery: &Recovery) -> String {
    let how = match (recovery.answer_us, recovery.new_subflow) {
        (None, _) => "",
        (_, true) => ", by a new subflow",
        (_, false) => ", by the old subflow",
    };
    seconds(recovery.answer_us) + how
}

const METHOD: &str = "\
A connection with a subflow on each path, through a router that is a NAT (nftables, masquerade) and
drops what belongs to no connection that it knows.

- *NAT forgets*: the router remembers idle connections for a minute
  (`nf_conntrack_tcp_timeout_established`), the application writes nothing for five, then 1000
  bytes. What the router does not know is dropped, or answered by a RST.
- *RST, ICMP, interface*: the application writes 100 bytes every second. A middlebox answers what
  comes on path 1 with RSTs for two seconds; or path 1 answers \"host unreachable\" for 30 s; or the
  interface of path 1 and its address go for 30 s.

Captures at both hosts show when the server answers again on a path that was lost, whether that is a
new subflow, and when the data arrives. *Endpoint follows the address* is the in-kernel path manager
with somebody beside it who removes the endpoint with the address and adds it again, as
NetworkManager does.";

const TOPOLOGY: &str = "
          eth0 10.0.1.2                  c0
         ,------ path 1, 10 Mbit/s, 10 ms ------.     NAT, conntrack
  client                                        router ------ server 10.0.3.2
         `------ path 2, 10 Mbit/s, 20 ms ------'
          eth1 10.0.2.2                  c1";

const DISCUSSION: &str = "\
The in-kernel path manager opens subflows when a connection is established or an endpoint is added. A
subflow that dies is not opened again, and a connection that has lost its last one is closed by
`net.mptcp.close_timeout`. smapp is told of the death with its errno, and opens another: soon after
a RST. A NAT that drops gives no error: smapp sees the retransmission timeout grow, and opens another
subflow beside the silent one when it exceeds ten seconds (`--replace-after`).

An ICMP message does not end an established subflow, nor does the loss of an address: when the path is
back, the next retransmission finds it. Within half a minute there is little to win there.

The paper describes this policy without a figure.";
