// SPDX-License-Identifier: GPL-2.0
//! Streaming (section 4.3, figure 2b): how late is a block of a live stream when one
//! of two paths loses packets?

use std::io::{Read, Write};
use std::path::Path as File;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Axis, Chapter, Claim, Comparison, Experiment, Figure, Plot, Results, Run, Scale};
use super::{host, quantile, table};
use crate::stream;
use smapp_tests::capture::Capture;
use smapp_tests::topology::{Family, Path, Shape, Topology};

/// Loss on the first path in percent, in each direction.
const LOSSES: [u32; 5] = [0, 10, 20, 30, 40];
const SEEDS: std::ops::RangeInclusive<u64> = 1..=2;
const BLOCKS: u64 = 200;
const BLOCK: u64 = 65536;
const PERIOD: Duration = Duration::from_secs(1);
/// The last block may take so long after the others have been written.
const PATIENCE: Duration = Duration::from_secs(600);

/// In-kernel fullmesh and `smapp run streaming`.
const VARIANTS: [&str; 2] = ["smapp", "kernel"];

/// The experiment.
#[derive(Debug)]
pub struct Streaming;

/// A block: from its time to be sent to its last byte at the server, with all before.
#[derive(Debug, Deserialize, Serialize)]
struct Block {
    block: u64,
    delay_us: u64,
}

/// Data on a path, retransmissions included.
#[derive(Debug, Deserialize, Serialize)]
struct Load {
    path: u8,
    bytes: u64,
}

impl Experiment for Streaming {
    fn name(&self) -> &'static str {
        "streaming"
    }

    fn runs(&self, scale: Scale) -> Vec<Run> {
        let run =
            |variant, loss, blocks| Run::new(variant).with("loss", loss).with("blocks", blocks);
        match scale {
            Scale::Quick => VARIANTS.map(|variant| run(variant, 30, 40)).into(),
            Scale::Full => {
                let runs = VARIANTS
                    .iter()
                    .flat_map(|v| LOSSES.map(|l| run(v, l, BLOCKS)));
                let seeded = |run: Run| SEEDS.map(move |seed| run.clone().seed(seed));
                runs.flat_map(seeded).collect()
            }
        }
    }

    fn measure(&self, run: &Run, out: &File) -> Result<()> {
        let (loss, blocks) = (run.number("loss")?, run.number::<u32>("blocks")?);
        let shape = Shape {
            rate: 5,
            delay: Duration::from_millis(10),
        };
        let topology = Topology::with_shapes([shape; 2])?.without_offload()?;
        let Topology { client, server, .. } = &topology;
        host::kernel(server, &[])?;
        let mut daemon = None;
        match run.variant.as_str() {
            "smapp" => daemon = Some(host::smapp(client, &["streaming"])?),
            "kernel" => {
                let endpoint = "endpoint add 10.0.2.2 dev eth1 subflow fullmesh";
                host::kernel(client, &[endpoint])?;
            }
            other => anyhow::bail!("no variant {other}"),
        }
        let [at_client, at_server] = [Capture::of(client, "tcp")?, Capture::of(server, "tcp")?];
        let mut pair = host::Pair::connect(client, server)?;
        let port = pair.to.port();
        // Time for a second subflow, if there is one from the start.
        sleep(Duration::from_millis(500));
        topology.set_loss(Path::First, loss)?;
        pair.server
            .set_read_timeout(Some(PERIOD * blocks + PATIENCE))?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH)?;
        thread::scope(|scope| -> Result<()> {
            let writer = scope.spawn(|| -> Result<()> {
                let start = Instant::now();
                for block in 0..blocks {
                    let due = start + PERIOD * block;
                    sleep(due.saturating_duration_since(Instant::now()));
                    pair.client.write_all(&[7; BLOCK as usize])?;
                }
                Ok(())
            });
            let mut data = [0; BLOCK as usize];
            for block in 0..blocks {
                let read = pair.server.read_exact(&mut data);
                read.with_context(|| format!("block {block} of {blocks} did not come"))?;
            }
            writer.join().expect("it does not panic")
        })?;
        let (sent, arrived) = (at_client.stop()?, at_server.stop()?);
        drop(pair);
        host::end(daemon, out)?;

        let sent = stream::pieces(&sent, port)?;
        let arrived = stream::pieces(&arrived, port)?;
        let mut rows = Vec::new();
        for (time, complete) in stream::progress(&arrived) {
            while complete >= (rows.len() as u64 + 1) * BLOCK {
                let block = rows.len() as u64;
                let due = start + PERIOD * block as u32;
                let delay_us = time.saturating_sub(due).as_micros() as u64;
                rows.push(Block { block, delay_us });
            }
        }
        ensure!(
            rows.len() as u32 == blocks,
            "{} of {blocks} blocks on the wire",
            rows.len()
        );
        table(out, "blocks", &rows)?;
        let load = |path, here: Path| {
            let here = here.client(Family::V4);
            let bytes = sent.iter().filter(|piece| piece.from.ip() == here);
            let bytes = bytes.map(|piece| piece.length).sum();
            Load { path, bytes }
        };
        table(out, "load", &[load(1, Path::First), load(2, Path::Second)])
    }

    fn chapter(&self, results: &Results) -> Result<Chapter> {
        let mut comparison = Comparison::new([
            "loss on path 1",
            "block delay",
            "paper",
            "7.3, fullmesh",
            "smapp, streaming",
        ]);
        let mut claims = Vec::new();
        let mut figures = Vec::new();
        let mut every = plot("Block delay, all losses (dashed: in-kernel fullmesh)");
        for (n, loss) in LOSSES.into_iter().enumerate() {
            let kernel = Delays::of(results, "kernel", loss)?;
            let smapp = Delays::of(results, "smapp", loss)?;
            let (Some(kernel), Some(smapp)) = (kernel, smapp) else {
                continue;
            };
            for (name, part) in [("median", 0.5), ("95%", 0.95), ("longest", 1.0)] {
                comparison.row([
                    format!("{loss}%"),
                    name.into(),
                    "figure 2b".into(),
                    format!("{:.2} s", kernel.at(part)),
                    format!("{:.2} s", smapp.at(part)),
                ]);
            }
            comparison.row([
                format!("{loss}%"),
                "data on path 2".into(),
                "-".into(),
                format!("{:.0}%", kernel.second * 100.0),
                format!("{:.0}%", smapp.second * 100.0),
            ]);
            every = every
                .cdf(format!("smapp, {loss}%"), &smapp.seconds)
                .colour(n)
                .dashed_cdf(format!("kernel, {loss}%"), &kernel.seconds)
                .colour(n);
            // 7.3's scheduler finds the good path too: the policy is only claimed to do so.
            if loss >= 30 {
                let second = smapp.second;
                claims.push(Claim::new(
                    second > 0.5,
                    format!(
                        "at {loss}% loss smapp sends most on path 2: {:.0}%",
                        second * 100.0
                    ),
                ));
            }
        }
        figures.push(Figure::new(
            "streaming",
            "CDF of the delay of a block of 64 KB, sent every second over two paths of 5 Mbit/s, \
             of which the first loses packets.",
            every.svg()?,
        ));
        Ok(Chapter {
            title: "Streaming: blocks in time (section 4.3, figure 2b)".into(),
            method: METHOD.into(),
            topology: TOPOLOGY.into(),
            figures,
            comparison,
            discussion: DISCUSSION.into(),
            claims,
        })
    }
}

fn plot(title: &str) -> Plot {
    Plot::new(
        title,
        Axis::log("block delay in s", 0.05..100.0),
        Axis::new("part of the blocks", 0.0..1.0),
    )
}

/// The delays of the blocks of a variant at a loss, in all runs.
#[derive(Debug)]
struct Delays {
    /// In seconds, in order.
    seconds: Vec<f64>,
    /// The part of the data that went over the second path.
    second: f64,
}

impl Delays {
    fn of(results: &Results, variant: &str, loss: u32) -> Result<Option<Self>> {
        let mut seconds = Vec::new();
        let mut bytes = [0, 0];
        for run in results.of(variant) {
            if run.number::<u32>("loss")? != loss {
                continue;
            }
            let rows: Vec<Block> = results.rows(run, "blocks")?;
            seconds.extend(rows.iter().map(|row| row.delay_us as f64 / 1e6));
            for load in results.rows::<Load>(run, "load")? {
                bytes[usize::from(load.path == 2)] += load.bytes;
            }
        }
        seconds.sort_by(f64::total_cmp);
        let second = bytes[1] as f64 / (bytes[0] + bytes[1]) as f64;
        Ok((!seconds.is_empty()).then_some(Delays { seconds, second }))
    }

    /// The delay within which so large a part of the blocks comes.
    fn at(&self, part: f64) -> f64 {
        quantile(&self.seconds, part)
    }
}

const METHOD: &str = "\
The client writes a block of 64 KB every second, whatever became of those before. The first path
loses packets in both directions from the first block on, at random. The delay of a block is the time
from the moment at which the application writes it (or would, were it not still busy with those before)
to the segment that completes it and all blocks before it, in the capture at the server.

- *7.3, fullmesh*: a subflow on each path from the start; the scheduler spreads the data.
- *smapp*: `smapp run streaming`. The second path gets a subflow when half a second into a period less
  than half of a block is acknowledged, and a subflow whose retransmission timeout exceeds one second
  is closed. It runs beside the application and guesses when a block begins.";

const TOPOLOGY: &str = "
          eth0 10.0.1.2                          c0
         ,------ path 1, 5 Mbit/s, 10 ms, 0-40% loss ------.
  client                                                   router ------ server 10.0.3.2
         `------ path 2, 5 Mbit/s, 10 ms ------------------'
          eth1 10.0.2.2                          c1";

const DISCUSSION: &str = "\
Without loss in-kernel fullmesh has the rate of both paths, and smapp of one: that is what the policy is
for, to leave the second path alone. With loss the scheduler of 7.3 estimates which subflow sends a
block sooner, and once the estimate of the lossy one is bad it hardly uses it any more; the paper's
scheduler kept to the path with the shorter round trip time. smapp closes the lossy subflow once its
retransmission timeout exceeds a second. Its longest delay is that of the block during which it finds
out: half a period, a handshake, and retransmissions that have to come first.";
