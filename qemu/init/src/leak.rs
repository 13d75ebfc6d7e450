// SPDX-License-Identifier: GPL-2.0

//! The leak check of the debug kernel.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// Younger allocations are not reported (MSECS_MIN_AGE in mm/kmemleak.c).
const MIN_AGE: Duration = Duration::from_secs(5);

/// Scans twice, since a pointer may hide in a register during one scan. A kernel
/// without kmemleak has nothing to scan.
pub fn scan() -> Result<()> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(());
    }
    for _ in 0..2 {
        std::thread::sleep(MIN_AGE + Duration::from_secs(1));
        std::fs::write(KMEMLEAK, "scan").context("cannot scan")?;
    }
    let leaks = std::fs::read_to_string(KMEMLEAK).context("cannot read the leaks")?;
    if leaks.is_empty() {
        return Ok(());
    }
    println!("\n{leaks}");
    let count = leaks
        .lines()
        .filter(|l| l.starts_with("unreferenced object"))
        .count();
    bail!("{count} objects leaked");
}
