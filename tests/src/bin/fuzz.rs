// SPDX-License-Identifier: GPL-2.0
//! Sends mutated messages to the family: `fuzz [MESSAGES [SEED]]`.
#![forbid(unsafe_code)]

use std::time::Instant;

use anyhow::{Context, Result};
use smapp_tests::fuzz;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |name: &str, default: u64| {
        let text = arguments.next();
        let number = text.map_or(Ok(default), |text| text.parse());
        number.with_context(|| format!("{name}: expected a number"))
    };
    let messages = number("MESSAGES", 1_000_000)?;
    let seed = number("SEED", 1)?;
    println!("{messages} messages, seed {seed}");
    let start = Instant::now();
    let outcome = fuzz::run(seed, messages, |outcome| {
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{} messages in {seconds:.1} s of the guest's time",
            outcome.sent
        );
    })?;
    print!("{outcome}");
    Ok(())
}
