// SPDX-License-Identifier: GPL-2.0

//! The leak check of the debug kernel.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// Younger allocations are not reported (MSECS_MIN_AGE in mm/kmemleak.c).
const MIN_AGE: Duration = Duration::from_secs(5);

/// How often to scan. The first scan remembers what an object holds, the next one reports
/// the object if that is still the same and no pointer leads there. A leak is missed if an
/// old stack or a sheaf of the allocator still has its address.
const SCANS: usize = 3;

/// A kernel without kmemleak has nothing to scan.
pub fn scan() -> Result<()> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(());
    }
    for _ in 0..SCANS {
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
