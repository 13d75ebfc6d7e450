// SPDX-License-Identifier: GPL-2.0
//! Debian's web server, made to use Multipath TCP.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::process::Process;
use crate::wait::{DEADLINE, wait_for};

/// What can be had as `/file`.
pub const FILE: &str = "/srv/file";

/// Start lighttpd on port 80, with one file of `size` bytes, which are made up.
pub fn serve(host: &Netns, size: usize) -> Result<Process> {
    // Any bytes will do, as long as no part equals another (xorshift64).
    let mut state = 1u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let content: Vec<u8> = words.flatten().take(size).collect();
    fs::write(FILE, content).with_context(|| format!("cannot write {FILE}"))?;
    let conf = "/tmp/lighttpd.conf";
    fs::write(conf, "server.document-root = \"/srv\"\nserver.port = 80\n")
        .with_context(|| format!("cannot write {conf}"))?;
    let mut command = Command::new("mptcpize");
    command.args(["run", "lighttpd", "-D", "-f", conf]);
    let process = Process::start_command(host, command)?;
    wait_for("lighttpd to listen", DEADLINE, || {
        let shown = String::from_utf8(host.run("ss", &["-Mltn"])?.stdout)?;
        ensure!(shown.contains(":80 "), "{shown}");
        Ok(())
    })?;
    Ok(process)
}
