// SPDX-License-Identifier: GPL-2.0
//! `make demo`, `make try`: a download goes on while its first path is dead, and uses it
//! again when it is back, because a policy in user space decides so.
//!
//! In the guest, or in the namespaces of the program `here`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use smapp::{EventSet, Subflow, SubflowId};
use smapp_tests::capture::{Capture, join_delays};
use smapp_tests::netns::tool;
use smapp_tests::shaping::Shaping;
use smapp_tests::{
    DEADLINE, Family, Fault, Netns, Path, PathManager, Process, Shape, Topology, web,
};

const COPY: &str = "/tmp/copy";
const SIZE: usize = 12_000_000;
/// When this much has come, the first path is cut.
const CUT_AT: u64 = 2_000_000;
/// How long the path stays cut after the server has given it up.
const DEAD: Duration = Duration::from_secs(2);
/// Between two looks at the download.
const STEP: Duration = Duration::from_millis(20);
/// For the whole download. With one path alone it takes about 25 s.
const PATIENCE: Duration = Duration::from_secs(120);

const SHAPES: [Shape; 2] = [
    Shape {
        rate: 6,
        delay: Duration::from_millis(10),
    },
    Shape {
        rate: 4,
        delay: Duration::from_millis(10),
    },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}

fn run() -> Result<()> {
    say("A client with two addresses, a router, a server: three network namespaces.");
    let topology = Topology::with_plain_names(SHAPES)?;
    let delay = match Shaping::of_this_kernel(&topology.router)? {
        Shaping::Netem => "20 ms round trip",
        Shaping::TokenBucket => "no delay, as this kernel has no netem",
    };
    println!("   path 1: 10.0.1.2 (eth0), 6 Mbit/s, {delay}");
    println!("   path 2: 10.0.2.2 (eth1), 4 Mbit/s, {delay}");
    println!("   Times are those of the kernel's clock; in the guest it is virtual by default.");
    for host in [&topology.client, &topology.server] {
        host.manage_by_smapp()?;
    }
    // The default of 15 gives up after a quarter of an hour.
    topology.server.set_sysctl("ipv4/tcp_retries2", "3")?;
    println!(
        "   client, server: net.mptcp.path_manager={}",
        topology.client.path_manager()?
    );
    println!("   server: net.ipv4.tcp_retries2=3, to give a dead path up in seconds");

    // Each path has been used before: nobody waits for ARP.
    for path in [Path::First, Path::Second] {
        topology
            .try_path(path)
            .with_context(|| format!("{path} does not work"))?;
    }

    let mut web = web::serve(&topology.server, SIZE)?;
    say("On the client: smapp run fullmesh decides, smapp monitor prints.");
    let mut fullmesh = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    fullmesh.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    println!("   The server, who sends the data, has a monitor of timeouts and ends, no policy.");
    let mut monitors = Monitors::start(&topology)?;
    let capture = Capture::start(&topology.client)?;

    say("mptcpize run curl http://10.0.3.2/file (12 MB, from lighttpd)");
    let curl = format!("run curl -sS --keepalive-time 2 -o {COPY} http://10.0.3.2/file");
    let curl: Vec<&str> = curl.split(' ').collect();
    let mut curl = Process::start(&topology.client, "mptcpize", &curl)?;
    let mut download = Download::watch(&topology.client)?;
    let start = Instant::now();
    let mut act = Act::Downloading;
    while !curl.ended()? {
        ensure!(
            start.elapsed() < PATIENCE,
            "no end of the download after {PATIENCE:?}"
        );
        monitors.print(STEP)?;
        download.look()?;
        act = act.next(&topology, &download, &monitors)?;
    }
    let took = start.elapsed();
    let status = curl.wait()?;
    ensure!(
        status.success(),
        "curl: {status}: {}",
        curl.seen().join(" ")
    );
    monitors.drain()?;

    say(&format!(
        "The download has ended after {:.1} s.",
        took.as_secs_f64()
    ));
    let checksum = |file| -> Result<String> {
        let line = tool("sha256sum", &[file], "")?;
        Ok(line.split(' ').next().unwrap_or_default().to_owned())
    };
    let (sent, received) = (checksum(web::FILE)?, checksum(COPY)?);
    println!("   sha256 sent      {sent}\n   sha256 received  {received}");
    ensure!(sent == received, "the checksums differ");
    let syns = capture.stop()?;
    fullmesh.interrupt()?;
    web.signal(rustix::process::Signal::TERM)?;
    web.wait()?;
    let shaping = Shaping::of_this_kernel(&topology.router)?;
    summary(&download, &monitors, &join_delays(&syns), shaping)?;
    act.ended(&download, &monitors)
}

/// What has been done to the first path.
enum Act {
    Downloading,
    Cut,
    GivenUp(Instant),
    Back,
}

impl Act {
    fn next(self, topology: &Topology, download: &Download, monitors: &Monitors) -> Result<Self> {
        match self {
            Act::Downloading if download.received() >= CUT_AT => {
                say("Path 1 is cut: the router drops its packets, the link stays up.");
                topology.break_path(Path::First, Fault::Blackhole)?;
                Ok(Act::Cut)
            }
            Act::Cut if monitors.count("server", "sub_closed") > 0 => {
                say("The server has given up path 1. The download goes on over path 2.");
                Ok(Act::GivenUp(Instant::now()))
            }
            Act::GivenUp(since) if since.elapsed() >= DEAD => {
                say("Path 1 is back. The server does not know its old subflow: a RST will say so.");
                topology.repair_path(Path::First, Fault::Blackhole)?;
                Ok(Act::Back)
            }
            act => Ok(act),
        }
    }

    /// Has everything happened that was to be shown?
    fn ended(&self, download: &Download, monitors: &Monitors) -> Result<()> {
        let back = matches!(self, Act::Back);
        ensure!(back, "the download ended before path 1 was back");
        let timeouts = monitors.count("server", "timeout");
        ensure!(timeouts > 0, "no timeout was seen");
        let first = Path::First.client(Family::V4);
        let joined = monitors.from("client", "sub_estab", first);
        ensure!(joined > 0, "no subflow came back to path 1");
        let carried = |subflow: &Subflow| {
            subflow.local_address == first && !subflow.initial && received(subflow) > 0
        };
        let used = download.subflows.values().any(carried);
        ensure!(used, "nothing came over the subflow that came back");
        Ok(())
    }
}

/// `smapp monitor` on both hosts, printed line by line.
struct Monitors {
    monitors: [(&'static str, Process); 2],
    /// Host and text of the events so far.
    events: Vec<(&'static str, String)>,
}

impl Monitors {
    fn start(topology: &Topology) -> Result<Self> {
        let start = |host: &Netns, args: &[&str]| -> Result<Process> {
            let mut monitor = Process::start(host, "smapp", &[&["monitor"], args].concat())?;
            monitor.expect("to listen", DEADLINE, |line| line.contains("listening"))?;
            Ok(monitor)
        };
        let client = start(&topology.client, &[])?;
        let server = start(&topology.server, &["--events", "timeout,sub_closed"])?;
        Ok(Monitors {
            monitors: [("client", client), ("server", server)],
            events: Vec::new(),
        })
    }

    /// Print what came, and wait a step for more.
    fn print(&mut self, step: Duration) -> Result<()> {
        for (host, monitor) in &mut self.monitors {
            while let Some(line) = monitor.line(step / 2) {
                println!("{host} {}", abridged(&line));
                self.events.push((*host, line));
            }
            ensure!(!monitor.ended()?, "the monitor of the {host} has ended");
        }
        Ok(())
    }

    /// Print what is still to come: the end of the connection.
    fn drain(&mut self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        while self.count("client", "closed") == 0 {
            ensure!(Instant::now() < end, "the connection was not closed");
            self.print(STEP)?;
        }
        self.print(STEP)
    }

    /// The events of a kind that a host has seen.
    fn of<'a>(&'a self, host: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
        let events = self.events.iter().filter(move |(at, _)| *at == host);
        let lines = events.map(|(_, line)| line.as_str());
        lines.filter(move |line| line.split(' ').nth(1) == Some(word))
    }

    fn count(&self, host: &str, word: &str) -> usize {
        self.of(host, word).count()
    }

    /// How many of them are about a subflow from this address.
    fn from(&self, host: &str, word: &str, address: IpAddr) -> usize {
        let start = format!(" {address}:");
        self.of(host, word)
            .filter(|line| line.contains(&start))
            .count()
    }
}

/// A line of the monitor in fewer columns: without the leading zeros of the time, the
/// commas, and the words for an errno that has a name.
fn abridged(line: &str) -> String {
    let line = line.trim_start_matches("00:").replace(',', "");
    // "ETIMEDOUT (110): connection timed out"
    let end = line.find("): ").map_or(line.len(), |colon| colon + 1);
    line[..end]
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the subflows of the connection have received, as last seen.
struct Download<'a> {
    client: PathManager<'a>,
    subflows: BTreeMap<SubflowId, Subflow>,
}

impl<'a> Download<'a> {
    fn watch(client: &'a Netns) -> Result<Self> {
        let client = PathManager::with_events(client, EventSet::default())?;
        Ok(Download {
            client,
            subflows: BTreeMap::new(),
        })
    }

    fn look(&mut self) -> Result<()> {
        for connection in self.client.connections()? {
            let subflows = connection.subflows.into_iter();
            self.subflows
                .extend(subflows.map(|subflow| (subflow.id, subflow)));
        }
        Ok(())
    }

    fn received(&self) -> u64 {
        self.subflows.values().map(received).sum()
    }
}

fn received(subflow: &Subflow) -> u64 {
    subflow.tcp_info.map_or(0, |info| info.bytes_received)
}

fn summary(
    download: &Download,
    monitors: &Monitors,
    delays: &[Duration],
    shaping: Shaping,
) -> Result<()> {
    say("Summary");
    println!("   received over (what was sent twice counts twice)");
    for (id, subflow) in &download.subflows {
        let path = match subflow.local_address {
            address if address == Path::First.client(Family::V4) => Path::First,
            _ => Path::Second,
        };
        let megabytes = received(subflow) as f64 / 1e6;
        println!(
            "     subflow {id}, {path}, from {:<18} {megabytes:5.1} MB",
            subflow.local()
        );
    }
    println!("   events");
    for (host, words) in [
        (
            "client",
            &[
                "created",
                "estab",
                "sub_estab",
                "sub_closed",
                "timeout",
                "closed",
            ][..],
        ),
        ("server", &["timeout", "sub_closed"]),
    ] {
        let counts = words
            .iter()
            .map(|word| format!("{word} {}", monitors.count(host, word)));
        println!("     {host}: {}", counts.collect::<Vec<_>>().join(", "));
    }
    match delays {
        [delay] => {
            let milliseconds = delay.as_secs_f64() * 1e3;
            println!(
                "   from the SYN of the connection (MP_CAPABLE) to that of its second subflow"
            );
            print!("   (MP_JOIN), on the wire: {milliseconds:.2} ms");
            match shaping {
                Shaping::Netem => println!(", of which two round trips are 40 ms"),
                Shaping::TokenBucket => println!(),
            }
        }
        other => bail!("expected one connection on the wire, with a join: {other:?}"),
    }
    Ok(())
}
