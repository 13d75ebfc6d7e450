// SPDX-License-Identifier: GPL-2.0

//! What leaves the guest: the console and the files in `/out`.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

/// The second serial port, a file on the host.
const PORT: &str = "/dev/ttyS1";

/// Sends `/out` and the kernel log in it as one tar archive.
pub fn send(log: &[String]) -> Result<()> {
    std::fs::write("/out/kernel.log", log.join("\n") + "\n").context("cannot write the log")?;
    let port = File::options().read(true).write(true).open(PORT)?;
    let mut mode = tcgetattr(&port)?;
    mode.make_raw();
    tcsetattr(&port, OptionalActions::Now, &mode)?;
    let status = Command::new("busybox")
        .args(["tar", "-C", "/out", "-cf", "-", "."])
        .env("PATH", "/usr/bin")
        .stdin(Stdio::null())
        .stdout(port.try_clone()?)
        .status()
        .context("cannot run busybox tar")?;
    ensure!(status.success(), "tar: {status}");
    tcdrain(&port).context("cannot drain the port")
}

/// Waits until the console has sent its last byte.
pub fn flush_console() {
    let _ = tcdrain(std::io::stdout());
}
