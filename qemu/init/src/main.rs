// SPDX-License-Identifier: GPL-2.0

//! The first process of the guest: runs one payload and says what came of it.
//!
//! Whatever happens, the last line on the console is one verdict, `smapp-verdict: pass`
//! or `smapp-verdict: fail: REASON`. It is given after everything that can still go
//! wrong has had its chance: the module's unit tests, the payload, the module's unloading,
//! the audit of its connections, the leak check, and the kernel log of the whole run.
//!
//! Words on the kernel command line choose: `smapp.shell` (a shell instead of the
//! payload), `smapp.tests` (the payload has tests: run each by itself), `smapp.out` (send
//! `/out` to the second serial port), `smapp.no-module`.

#![forbid(unsafe_code)]

mod kunit;
mod modules;
mod mounts;
mod payload;
mod results;

use anyhow::{Context, Result};
use smapp_init::{kernel_log, leak, module};

fn main() {
    let verdict = match run() {
        Ok(failures) if failures.is_empty() => "pass".to_owned(),
        Ok(failures) => format!("fail: {}", failures.join("; ")),
        Err(error) => format!("fail: init: {error:#}"),
    };
    // The payload may have left the cursor in the middle of a line.
    println!("\nsmapp-verdict: {}", verdict.replace(['\n', '\r'], " "));
    results::flush_console();
    // Without this the first process would end, and the kernel with it.
    let error = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    panic!("cannot power off: {error:?}");
}

/// Goes through the life of a guest; returns what failed, in order.
fn run() -> Result<Vec<String>> {
    mounts::mount_all()?;
    let words = std::fs::read_to_string("/proc/cmdline").context("cannot read /proc/cmdline")?;
    let asked = |word: &str| words.split_ascii_whitespace().any(|w| w == word);
    let with_module = !asked("smapp.no-module");

    modules::load_all()?;
    payload::run_tool(&["ip", "link", "set", "lo", "up"])?;
    let mut failures = Vec::new();
    let mut check = |step: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            failures.push(format!("{step}: {error:#}"));
        }
    };
    if with_module {
        module::load()?;
        // Now, as a payload may load it again while it lets allocations fail.
        check("unit tests", kunit::check(&kernel_log::read()?));
    }
    if asked("smapp.shell") {
        check("shell", payload::run_shell());
    } else {
        check("payload", payload::run(asked("smapp.tests")));
    }
    check("processes left", payload::end_all());
    check("namespaces left", mounts::unmount_namespaces());
    check("unload", module::unload());
    check("leaks", leak::scan());
    let log = kernel_log::read()?;
    if with_module {
        check("audit", module::audit(&log));
    }
    check("kernel log", kernel_log::check(&log));
    check("kernel taint", kernel_log::check_taint());
    if asked("smapp.out") {
        check("results", results::send(&log));
    }
    Ok(failures)
}
