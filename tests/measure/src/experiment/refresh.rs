// SPDX-License-Identifier: GPL-2.0
//! Refresh (section 4.4, figure 2c): how long does a transfer take through a network
//! that spreads flows over paths of different delay?

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path as File;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Axis, Chapter, Claim, Comparison, Experiment, Figure, Plot, Results, Run, Scale};
use super::{host, median, quantile, table};
use crate::ecmp::{Ecmp, PATHS};
use smapp_tests::capture::Capture;
use smapp_tests::netns::{Netns, tool};
use smapp_tests::wait::{DEADLINE, wait_for};

/// Mbit/s of a path.
const RATE: u32 = 8;
/// What the paper calls 100 MB: its 111.7 s over one path are 100 MiB and headers.
const SIZE: u64 = 100 << 20;
const QUICK_SIZE: u64 = 25 << 20;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=20;
/// As many subflows as the paper's.
const SUBFLOWS: usize = 5;
/// The paths of the first subflows: as it happens, or the same for all.
const CHANCE: &str = "chance";
const ONE_PATH: &str = "one-path";
/// The paper's times in seconds for all four paths, and for one.
const OPTIMUM: f64 = 27.8;
const SINGLE: f64 = 111.7;
/// More bytes on a path than handshakes take.
const USED: u64 = 100_000;

/// `smapp run` both: 7.3 has no in-kernel ndiffports.
const VARIANTS: [&str; 2] = ["refresh", "ndiffports"];

/// The experiment.
#[derive(Debug)]
pub struct Refresh;

/// The transfer: from the SYN to the DATA_ACK for the last byte, at the client's router.
#[derive(Debug, Deserialize, Serialize)]
struct Transfer {
    bytes: u64,
    time_us: u64,
}

/// A subflow, in microseconds since the first SYN.
#[derive(Debug, Deserialize, Serialize)]
struct Subflow {
    port: u16,
    /// Where its data went, 0 to 3.
    path: Option<usize>,
    syn_us: u64,
    last_us: u64,
    bytes: u64,
}

impl Experiment for Refresh {
    fn name(&self) -> &'static str {
        "refresh"
    }

    fn runs(&self, scale: Scale) -> Vec<Run> {
        let (size, start, seeds) = match scale {
            Scale::Full => (SIZE, CHANCE, SEEDS),
            // One seed is enough, as all first subflows are on one path.
            Scale::Quick => (QUICK_SIZE, ONE_PATH, 1..=1),
        };
        let run = |variant| Run::new(variant).with("bytes", size).with("start", start);
        let runs = |seed| VARIANTS.map(|variant| run(variant).seed(seed));
        seeds.flat_map(runs).collect()
    }

    fn measure(&self, run: &Run, out: &File) -> Result<()> {
        let bytes: u64 = run.number("bytes")?;
        let ecmp = Ecmp::new(RATE)?;
        let Ecmp {
            client,
            near,
            server,
            ..
        } = &ecmp;
        host::kernel(server, &[])?;
        let policy = run.variant.as_str();
        ensure!(VARIANTS.contains(&policy), "no variant {policy}");
        let smapp = host::smapp(client, &[policy, "--subflows", &SUBFLOWS.to_string()])?;
        // On its way out each segment has the interface of its path.
        let capture = Capture::of(near, "tcp and outbound")?;
        let host::Pair {
            client: mut sender,
            server: mut receiver,
            to,
            listener: _listener,
        } = host::Pair::connect_to(client, server, Ecmp::SERVER)?;
        match run.text("start")? {
            CHANCE => (),
            ONE_PATH => {
                let ports = wait_for("all subflows", DEADLINE, || ports(client))?;
                ecmp.hash_to_one_path(&ports, to.port())?;
            }
            other => bail!("no start {other}"),
        }
        let received = thread::scope(|scope| -> Result<u64> {
            let writer = scope.spawn(move || -> Result<()> {
                let data = [7; 65536];
                let mut left = bytes;
                while left > 0 {
                    let length = left.min(data.len() as u64);
                    sender.write_all(&data[..length as usize])?;
                    left -= length;
                }
                Ok(())
            });
            let mut data = vec![0; 65536];
            let mut received = 0;
            loop {
                match receiver.read(&mut data)? {
                    0 => break,
                    length => received += length as u64,
                }
            }
            writer.join().expect("it does not panic")?;
            Ok(received)
        })?;
        ensure!(received == bytes, "received {received} of {bytes} bytes");
        let segments = capture.stop()?;
        host::end(Some(smapp), out)?;

        let mut start = None;
        let mut first_ack = None;
        let mut end = None;
        let mut subflows: BTreeMap<_, Subflow> = BTreeMap::new();
        let paths = near.interfaces()?;
        for segment in &segments {
            let start = *start.get_or_insert(segment.time);
            let now = segment.time.saturating_sub(start).as_micros() as u64;
            if segment.from.port() == to.port() {
                let Some(ack) = segment.data_ack else {
                    continue;
                };
                // The bytes of the handshake of `Pair` are before the first.
                let first = *first_ack.get_or_insert(ack);
                let place = ack.wrapping_sub(first);
                if u64::from(place) >= bytes && end.is_none() {
                    end = Some(now);
                }
                continue;
            }
            if segment.is_syn() {
                ensure!(
                    segment.request.is_some(),
                    "a SYN without Multipath TCP: {segment:?}"
                );
                subflows.entry(segment.from).or_insert(Subflow {
                    port: segment.from.port(),
                    path: None,
                    syn_us: now,
                    last_us: now,
                    bytes: 0,
                });
            }
            let subflow = subflows.get_mut(&segment.from);
            let subflow = subflow.with_context(|| format!("no SYN before {segment:?}"))?;
            // The byte of the handshake of `Pair` went before `hash_to_one_path`.
            if segment.length > 1 {
                let name = paths.get(&segment.interface).context("no such interface")?;
                let path = name.strip_prefix('p').and_then(|n| n.parse().ok());
                ensure!(
                    path.is_some() && subflow.path.is_none_or(|known| Some(known) == path),
                    "a subflow that changes its path: {segment:?}"
                );
                subflow.path = path;
                subflow.last_us = now;
                subflow.bytes += u64::from(segment.length);
            }
        }
        let time_us = end.context("the last byte was not acknowledged on the wire")?;
        table(out, "transfer", &[Transfer { bytes, time_us }])?;
        let mut subflows: Vec<_> = subflows.into_values().collect();
        subflows.sort_by_key(|subflow| subflow.syn_us);
        table(out, "subflows", &subflows)
    }

    fn chapter(&self, results: &Results) -> Result<Chapter> {
        let [refresh, ndiffports] = VARIANTS.map(|variant| Transfers::of(results, variant));
        let (refresh, ndiffports) = (refresh?, ndiffports?);
        let bytes: u64 = results.runs().first().context("no runs")?.number("bytes")?;
        let scale = bytes as f64 / SIZE as f64;
        let mut comparison = Comparison::new([
            "",
            "paper",
            "7.3, in-kernel",
            "smapp, ndiffports",
            "smapp, refresh",
        ]);
        let none = || "has none".to_string();
        for (name, part) in [("fastest", 0.0), ("median", 0.5), ("slowest", 1.0)] {
            let at = |of: &Transfers| format!("{:.1} s", quantile(&of.seconds, part));
            comparison.row([
                name.into(),
                "figure 2c".into(),
                none(),
                at(&ndiffports),
                at(&refresh),
            ]);
        }
        comparison.row([
            "all four paths, one path".into(),
            format!("{OPTIMUM} s, {SINGLE} s"),
            none(),
            "-".into(),
            "-".into(),
        ]);
        let four = |of: &Transfers| {
            let runs = of.paths.len();
            format!(
                "{} of {runs} runs",
                of.paths.iter().filter(|&&n| n == PATHS).count()
            )
        };
        comparison.row([
            "all four paths used".into(),
            "-".into(),
            none(),
            four(&ndiffports),
            four(&refresh),
        ]);
        let opened = |of: &Transfers| format!("{:.1}", of.opened);
        comparison.row([
            "subflows opened, on average".into(),
            "-".into(),
            none(),
            opened(&ndiffports),
            opened(&refresh),
        ]);
        let (theirs, ours) = (median(&ndiffports.seconds), median(&refresh.seconds));
        let claims = vec![Claim::new(
            ours < theirs,
            format!("the median with refresh is shorter: {ours:.1} < {theirs:.1} s"),
        )];
        let plot = Plot::new(
            format!("{} MB over four paths of {RATE} Mbit/s", bytes >> 20),
            Axis::new("completion time in s", 0.0..120.0 * scale),
            Axis::new("part of the transfers", 0.0..1.0),
        );
        let svg = plot
            .cdf("smapp, refresh", &refresh.seconds)
            .dashed_cdf("smapp, ndiffports", &ndiffports.seconds)
            .mark(OPTIMUM * scale, "paper: four paths")
            .mark(SINGLE * scale, "paper: one path")
            .svg()?;
        let caption = format!(
            "CDF of the completion times of {} transfers each, 5 subflows.",
            refresh.seconds.len()
        );
        Ok(Chapter {
            title: "Refresh: find the paths of a load balancer (section 4.4, figure 2c)".into(),
            method: METHOD.into(),
            topology: TOPOLOGY.into(),
            figures: vec![Figure::new("refresh", caption, svg)],
            comparison,
            discussion: DISCUSSION.into(),
            claims,
        })
    }
}

/// The local ports of the established subflows.
fn ports(client: &Netns) -> Result<Vec<u16>> {
    let shown = tool(
        "ss",
        &["-N", client.name(), "-Htn", "state", "established"],
        "",
    )?;
    // Queues, the local address, the remote one.
    let port = |line: &str| {
        line.split_whitespace()
            .nth(2)?
            .rsplit_once(':')?
            .1
            .parse()
            .ok()
    };
    let ports: Vec<u16> = shown.lines().filter_map(port).collect();
    ensure!(
        ports.len() == SUBFLOWS,
        "{} subflows:\n{shown}",
        ports.len()
    );
    Ok(ports)
}

/// The transfers of a variant.
#[derive(Debug)]
struct Transfers {
    /// Completion times, in order.
    seconds: Vec<f64>,
    /// How many paths each used.
    paths: Vec<usize>,
    /// Subflows opened, on average.
    opened: f64,
}

impl Transfers {
    fn of(results: &Results, variant: &str) -> Result<Self> {
        let mut transfers = Transfers {
            seconds: Vec::new(),
            paths: Vec::new(),
            opened: 0.0,
        };
        for run in results.of(variant) {
            let transfer: Transfer = results.row(run, "transfer")?;
            transfers.seconds.push(transfer.time_us as f64 / 1e6);
            let subflows: Vec<Subflow> = results.rows(run, "subflows")?;
            let used = |path| {
                let here = subflows.iter().filter(|subflow| subflow.path == Some(path));
                here.map(|subflow| subflow.bytes).sum::<u64>() >= USED
            };
            transfers
                .paths
                .push((0..PATHS).filter(|&path| used(path)).count());
            transfers.opened += subflows.len() as f64;
        }
        transfers.opened /= transfers.seconds.len() as f64;
        transfers.seconds.sort_by(f64::total_cmp);
        Ok(transfers)
    }
}

const METHOD: &str = "\
The client sends 100 MB (100 MiB: with headers that takes the paper's 111.7 s over one path) to the
server. Both routers hash protocol, addresses and ports to choose one of four paths, so the source port
of a subflow decides over which path it goes. (`net.ipv4.fib_multipath_hash_policy=3` with
`fib_multipath_hash_fields=0x37`. Policy 1 stands for the same, but trusts a hash that the sender has
left in the segment; with all hosts in one kernel that is a random number of its socket.) The capture at the client's router shows the path of each subflow; the time is that from the
first SYN to the DATA_ACK for the last byte. A seed is one set of keys, ports and hashes.

- *ndiffports*: `smapp run ndiffports --subflows 5`. Linux 7.3 has no in-kernel ndiffports, which the
  paper compares with.
- *refresh*: `smapp run refresh --subflows 5`. Every 2.5 s the subflow with the lowest pacing rate is
  closed and another one opened from a random port, until the rates are alike.";

const TOPOLOGY: &str = "
                      ,-- 8 Mbit/s, 10 ms --.
  client              |-- 8 Mbit/s, 20 ms --|              server
  10.1.0.2 ---- near -|                     |- far ------- 10.3.0.2
                      |-- 8 Mbit/s, 30 ms --|
                      `-- 8 Mbit/s, 40 ms --'";

const DISCUSSION: &str = "\
Five ports hit all four paths by chance only; ndiffports keeps the paths that it got, and its times are
near 1, 1/2, 1/3 or 1/4 of that of one path. refresh goes on looking, and pays for it with subflows
that start anew. What a transfer takes in the best case is the time of four paths, headers included.";
