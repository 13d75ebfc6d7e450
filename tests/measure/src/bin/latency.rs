// SPDX-License-Identifier: GPL-2.0
//! How long a second subflow takes: from the SYN of a connection (MP_CAPABLE) to the
//! SYN of its next subflow (MP_JOIN), on the wire, for whoever decides about it.
//!
//! Everyone is measured with the same downloads, one after the other. All need two round
//! trips: what is more is the time that a decision takes.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use smapp_measure::latency::{DECIDERS, Setup};

const USAGE: &str = "usage: latency [DECIDER..] [downloads=N] [size=BYTES] [hogs=N] [delay=US]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latency: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut setup = Setup {
        downloads: 100,
        size: 16384,
        ..Setup::default()
    };
    let mut deciders = Vec::new();
    for word in std::env::args().skip(1) {
        let Some((name, value)) = word.split_once('=') else {
            deciders.push(word);
            continue;
        };
        let value: usize = value.parse().context(USAGE)?;
        match name {
            "downloads" => setup.downloads = value,
            "size" => setup.size = value,
            "hogs" => setup.hogs = value,
            "delay" => setup.delay = Duration::from_micros(value as u64),
            _ => bail!(USAGE),
        }
    }
    if deciders.is_empty() {
        deciders.extend(DECIDERS.map(str::to_owned));
    }
    let Setup {
        downloads,
        size,
        hogs,
        delay,
    } = setup;
    println!(
        "SYN (MP_CAPABLE) to SYN (MP_JOIN) in microseconds: {downloads} downloads of {size} bytes,\n\
         round trip of {} us, {hogs} CPU hogs\n",
        2 * delay.as_micros()
    );
    println!(
        "{:<18}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "mean", "median", "p99", "min", "max"
    );
    for decider in deciders {
        let mut delays = setup.measure(&decider).context(decider.clone())?;
        delays.sort();
        let count = delays.len();
        let mean = delays.iter().sum::<Duration>() / count as u32;
        let at = |percent: usize| delays[(count * percent).div_ceil(100).max(1) - 1];
        let columns = [mean, at(50), at(99), at(0), at(100)];
        let column = |delay: &Duration| format!("{:>8}", delay.as_micros());
        let columns: String = columns.iter().map(column).collect();
        println!("{decider:<18}{columns}");
    }
    Ok(())
}
