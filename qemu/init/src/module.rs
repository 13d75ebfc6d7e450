// SPDX-License-Identifier: GPL-2.0

//! Loading, unloading and auditing the module.

use std::ffi::CStr;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::system::{delete_module, finit_module};

const PATH: &str = "/lib/smapp/smapp_pm.ko";
const NAME: &CStr = c"smapp_pm";
/// A connection may linger for the TIME_WAIT of its subflows before it lets go.
const LINGER: Duration = Duration::from_secs(70);

/// Inserts the module.
pub fn load() -> Result<()> {
    let file = File::open(PATH).with_context(|| format!("cannot open {PATH}"))?;
    finit_module(file, c"", 0).with_context(|| format!("cannot load {PATH}"))
}

/// Removes the module, waiting for the last connection to let go of it. Nothing to do
/// where the payload has done it.
pub fn unload() -> Result<()> {
    let deadline = Instant::now() + LINGER;
    loop {
        match delete_module(NAME, OFlags::NONBLOCK.bits() as i32) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::AGAIN | Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(Errno::AGAIN | Errno::BUSY) => {
                bail!("{NAME:?} still in use after {} s", LINGER.as_secs())
            }
            Err(error) => return Err(error).context("cannot unload the module"),
        }
    }
}

/// Every unload reports how many connections came and went: the counts must agree.
pub fn audit(log: &[String]) -> Result<()> {
    let mut reports = 0;
    for line in log {
        let Some(report) = line.strip_prefix("smapp_pm: unloaded: ") else {
            continue;
        };
        let counts = report
            .split_once(" connections attached, ")
            .and_then(|(a, r)| Some((a, r.strip_suffix(" released")?)))
            .and_then(|(a, r)| Some((a.parse::<u64>().ok()?, r.parse::<u64>().ok()?)));
        let (attached, released) = counts.with_context(|| format!("cannot read {line:?}"))?;
        ensure!(
            attached == released,
            "{attached} connections attached, {released} released"
        );
        reports += 1;
    }
    ensure!(reports > 0, "the module did not report its unloading");
    Ok(())
}
