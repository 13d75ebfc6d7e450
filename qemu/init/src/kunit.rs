// SPDX-License-Identifier: GPL-2.0

//! The module's unit tests, which a kernel with KUnit runs when the module is loaded.

use std::path::Path;

use anyhow::{Result, ensure};

/// There if the kernel has KUnit.
const KUNIT: &str = "/sys/module/kunit";
/// What the names of the module's suites begin with.
const SUITE: &str = "smapp_pm_";

/// Fails if a test in `log` has failed, or if none has run where the kernel has KUnit.
pub fn check(log: &[String]) -> Result<()> {
    if !Path::new(KUNIT).exists() {
        return Ok(());
    }
    // "ok 1 name" or "not ok 1 name", indented if it is a test of a suite.
    let results = || log.iter().flat_map(|message| message.lines());
    for line in results() {
        ensure!(!line.trim_start().starts_with("not ok "), "{}", line.trim());
    }
    let suites = results()
        .filter(|line| line.starts_with("ok "))
        .filter(|line| line.split(' ').nth(2).is_some_and(|n| n.starts_with(SUITE)))
        .count();
    ensure!(suites > 0, "the module's tests have not run");
    Ok(())
}
