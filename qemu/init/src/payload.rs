// SPDX-License-Identifier: GPL-2.0

//! Running programs as the first process, which inherits every orphan.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};

const PAYLOAD: &str = "/payload";
/// The arguments of the payload, each ended by a NUL byte.
const ARGUMENTS: &str = "/payload.args";
/// Runs the tests of a binary one by one, and knows which cannot pass.
const HERE: &str = "/bin/here";
/// What came of them, a line each.
const RESULTS: &str = "/out/tests.tsv";
/// Sets up the two-path topology and runs a shell inside; plain `dash` without it.
const TOPOLOGY: &str = "/bin/topology";

/// Runs the payload until it ends; if it has tests, each by itself.
pub fn run(tests: bool) -> Result<()> {
    let arguments = std::fs::read_to_string(ARGUMENTS).context("cannot read the arguments")?;
    let mut command = if tests {
        let mut here = Command::new(HERE);
        here.args(["test", "--own-kernel", "--results", RESULTS, PAYLOAD]);
        here
    } else {
        Command::new(PAYLOAD)
    };
    command
        .args(arguments.split_terminator('\0'))
        .stdin(Stdio::null());
    run_to_end(command)
}

/// Runs an interactive shell on the console. `setsid -c` makes the console its
/// controlling terminal: job control and Ctrl-C work.
pub fn run_shell() -> Result<()> {
    let mut command = Command::new("busybox");
    command.args(["setsid", "-c"]);
    if std::fs::exists(TOPOLOGY)? {
        command.args([TOPOLOGY, "shell"]);
    } else {
        command.arg("dash");
    }
    // The status of a shell is that of its last command: no failure of the guest.
    let _ = run_to_end(command);
    Ok(())
}

/// Runs a tool of the guest that the guest cannot do without.
pub fn run_tool(words: &[&str]) -> Result<()> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    run_to_end(command).with_context(|| words.join(" "))
}

/// Kills every process but this one and waits for their ends.
pub fn end_all() -> Result<()> {
    // As kill(-1): every process but this one.
    match kill_process_group(Pid::INIT, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => (),
        Err(error) => bail!("cannot end the processes left: {error}"),
    }
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error).context("cannot wait for the processes left"),
        }
    }
}

/// Runs `command`, reaping orphans meanwhile.
fn run_to_end(mut command: Command) -> Result<()> {
    let child = command
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/tmp")
        .env("TERM", "linux")
        .env("RUST_BACKTRACE", "1")
        .env("RUST_TEST_THREADS", "1")
        .current_dir("/")
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == child.id() => {
                return check_status(status);
            }
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error).context("cannot wait for it"),
        }
    }
}

fn check_status(status: WaitStatus) -> Result<()> {
    if let Some(signal) = status.terminating_signal() {
        bail!("killed by signal {signal}");
    }
    ensure!(
        status.exit_status() == Some(0),
        "exit status {}",
        status.exit_status().unwrap_or(-1)
    );
    Ok(())
}
