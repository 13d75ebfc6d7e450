// SPDX-License-Identifier: GPL-2.0
//! Latency (section 4.5, figure 3): how much longer does a second subflow take when
//! user space decides about it?

use std::path::Path as File;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Axis, Chapter, Claim, Comparison, Experiment, Figure, Plot, Results, Run, Scale};
use super::{median, quantile, table};
use crate::latency::{DECIDERS, Setup};

/// The experiment.
#[derive(Debug)]
pub struct Latency;

/// A download: from its SYN with MP_CAPABLE to its first SYN with MP_JOIN.
#[derive(Debug, Deserialize, Serialize)]
struct Delay {
    download: u32,
    delay_ns: u64,
}

/// Under which the deciders are compared.
struct Condition {
    words: &'static str,
    paper: &'static str,
    hogs: usize,
    delay_us: u64,
    shift: u32,
    downloads: usize,
}

const CONDITIONS: [Condition; 4] = [
    Condition {
        words: "idle, 1 ns",
        paper: "+23 us",
        hogs: 0,
        delay_us: 500,
        shift: 0,
        downloads: 1000,
    },
    Condition {
        words: "idle, 2 ns",
        paper: "-",
        hogs: 0,
        delay_us: 500,
        shift: 1,
        downloads: 200,
    },
    Condition {
        words: "2 CPU hogs, 1 ns",
        paper: "< 37 us",
        hogs: 2,
        delay_us: 500,
        shift: 0,
        downloads: 200,
    },
    Condition {
        words: "idle, no link delay, 1 ns",
        paper: "-",
        hogs: 0,
        delay_us: 0,
        shift: 0,
        downloads: 200,
    },
];

impl Condition {
    fn run(&self, decider: &str, downloads: usize) -> Run {
        Run::new(decider)
            .shift(self.shift)
            .with("hogs", self.hogs)
            .with("delay_us", self.delay_us)
            .with("downloads", downloads)
    }

    fn is_of(&self, run: &Run) -> Result<bool> {
        Ok(run.shift == self.shift
            && run.number::<usize>("hogs")? == self.hogs
            && run.number::<u64>("delay_us")? == self.delay_us)
    }

    /// The delays of a decider in microseconds, in order; empty if there was no run.
    fn delays(&self, results: &Results, decider: &str) -> Result<Vec<f64>> {
        let mut delays = Vec::new();
        for run in results.of(decider) {
            if self.is_of(run)? {
                let rows: Vec<Delay> = results.rows(run, "delays")?;
                delays.extend(rows.iter().map(|row| row.delay_ns as f64 / 1e3));
            }
        }
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Experiment for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn runs(&self, scale: Scale) -> Vec<Run> {
        match scale {
            Scale::Quick => ["minimal", "smapp-fullmesh", "kernel"]
                .map(|decider| CONDITIONS[0].run(decider, 100))
                .into(),
            Scale::Full => {
                // A short one first.
                let conditions = CONDITIONS.iter().rev();
                let runs = conditions.flat_map(|condition| {
                    DECIDERS.map(|decider| condition.run(decider, condition.downloads))
                });
                runs.collect()
            }
        }
    }

    fn measure(&self, run: &Run, out: &File) -> Result<()> {
        let setup = Setup {
            downloads: run.number("downloads")?,
            hogs: run.number("hogs")?,
            delay: Duration::from_micros(run.number("delay_us")?),
            ..Setup::default()
        };
        let delays = setup.measure(&run.variant)?;
        let rows = delays.iter().zip(0..).map(|(delay, download)| Delay {
            download,
            delay_ns: delay.as_nanos() as u64,
        });
        table(out, "delays", &rows.collect::<Vec<_>>())
    }

    fn chapter(&self, results: &Results) -> Result<Chapter> {
        let mut comparison = Comparison::new([
            "delay of the second subflow",
            "paper",
            "7.3, fullmesh",
            "smapp, fullmesh",
            "smapp, ndiffports",
            "minimal loop",
        ]);
        let mut figures = Vec::new();
        let mut claims = Vec::new();
        for condition in &CONDITIONS {
            let delays = |decider: &&str| condition.delays(results, decider);
            let all: Vec<_> = DECIDERS.iter().map(delays).collect::<Result<_>>()?;
            let [kernel, fullmesh, ndiffports, minimal] = &all[..] else {
                unreachable!("as many as deciders");
            };
            if kernel.is_empty() {
                continue;
            }
            let words = condition.words;
            for (name, value, paper) in [
                ("mean", mean as fn(&[f64]) -> f64, condition.paper),
                ("median", median, "-"),
                ("99%", |values| quantile(values, 0.99), "-"),
            ] {
                let base = value(kernel);
                let more = |delays: &[f64]| match delays {
                    [] => "-".into(),
                    _ => format!("{:+.1} us", value(delays) - base),
                };
                comparison.row([
                    format!("{words}: {name}"),
                    paper.into(),
                    format!("{base:.1} us"),
                    more(fullmesh),
                    more(ndiffports),
                    more(minimal),
                ]);
            }
            let (first, last) = (kernel[0], quantile(kernel, 0.99));
            let end = all.iter().filter(|delays| !delays.is_empty());
            let end = end
                .map(|delays| quantile(delays, 0.99))
                .fold(last, f64::max);
            let margin = (end - first) * 0.1;
            let axis = Axis::new("delay in us", first - margin..end + margin);
            let part = Axis::new("part of the downloads", 0.0..1.0);
            let plot = Plot::new(format!("MP_CAPABLE to MP_JOIN, {words}"), axis, part);
            let plot =
                DECIDERS
                    .iter()
                    .zip(&all)
                    .fold(plot, |plot, (decider, delays)| match &delays[..] {
                        [] => plot,
                        delays => plot.cdf(*decider, delays),
                    });
            let name = words.replace(", ", "-").replace(' ', "-");
            figures.push(Figure::new(
                format!("latency-{}", name.to_lowercase()),
                format!(
                    "CDF of the delay from the SYN of a connection to that of its second \
                         subflow: {words} an instruction."
                ),
                plot.svg()?,
            ));
            if condition.delay_us != 0 && condition.hogs == 0 && !minimal.is_empty() {
                // That loop decides nothing: it neither asks the routing tables nor keeps a table.
                let (ours, theirs) = (median(fullmesh), median(minimal) * 1.01);
                claims.push(Claim::new(
                    ours < theirs,
                    format!(
                        "{words}: the second subflow of smapp comes at most 1% later than that of a \
                         minimal loop over 7.3's own userspace path manager: {ours:.1} < {theirs:.1} us"
                    ),
                ));
            }
        }
        Ok(Chapter {
            title: "Latency: what the way through user space costs (section 4.5, figure 3)".into(),
            method: METHOD.into(),
            topology: TOPOLOGY.into(),
            figures,
            comparison,
            discussion: DISCUSSION.into(),
            claims,
        })
    }
}

const METHOD: &str = "\
Consecutive downloads of 512 KB from lighttpd over HTTP/1.0, each over a connection of its own. Whoever
decides opens a second subflow as soon as the connection is established. The delay is the time from the
SYN with MP_CAPABLE to the SYN with MP_JOIN, in a capture at the client. All hosts share one CPU, on
which an instruction takes 1 or 2 ns of virtual time; the kernel is built with PREEMPT_LAZY and
HZ=1000. The columns beside *7.3, fullmesh* are differences to it.

- *7.3, fullmesh*: the path manager of the kernel, with the second address as an endpoint.
- *smapp*: `smapp run fullmesh` and `smapp run ndiffports`.
- *minimal loop*: 7.3's own userspace path manager under a thread that does nothing but to receive an
  event and to send its command (tests/measure/src/minimal.rs).
- *mptcpd*: not measured. `sspi`, as packaged by Debian 12 (0.12), announces addresses when a connection
  is created and has no callback that opens a subflow: there is no MP_JOIN of this host to measure.

With CPU hogs two processes that always compute share the CPU with everyone.";

const TOPOLOGY: &str = "
          eth0 10.0.1.2                          c0
         ,------ path 1, 1 Gbit/s, 500 us -----------------.
  client                                                   router ------ server 10.0.3.2
         `------ path 2, 1 Gbit/s, 500 us -----------------'
          eth1 10.0.2.2                          c1";

const DISCUSSION: &str = "\
Two round trips are the same for all: a client is fully established when its first data is
acknowledged. What is left is the way from the hook to the SYN, which `make hops` counts instruction
by instruction. Virtual time knows no caches, no mitigations and no second CPU. Without a link delay
the processes of client and server queue for the one CPU, and the order in which they run decides: the
path manager of the kernel waits for a worker thread behind them.";
