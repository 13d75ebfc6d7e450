// SPDX-License-Identifier: GPL-2.0

//! Reading the kernel log and finding what must not be in it.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;

/// What a healthy kernel never says.
const SPLATS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "KASAN",
    "UBSAN",
    "ODEBUG",
    "refcount_t:",
    "ref_tracker:",
    "list_add corruption",
    "list_del corruption",
    "general protection fault",
    "unable to handle",
    "scheduling while atomic",
    "sleeping function called",
    "suspicious RCU usage",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "bad unlock balance",
    "held lock freed",
    "detected stalls",
    "self-detected stall",
    "soft lockup",
    "blocked for more than",
    "unregister_netdevice: waiting",
    "new suspected memory leaks",
];
/// What a debugging aid says of itself when its own allocation has failed, as a test wanted.
const SHORTAGE: &str = "ref_tracker: memory allocation failure";
/// How much of a splat goes to the console.
const SPLAT_LINES: usize = 80;
/// Loading an unsigned module (13) from outside the tree (12) is what the guest is for;
/// KUnit (18) says that tests ran.
const EXPECTED_TAINT: u32 = 1 << 12 | 1 << 13 | 1 << 18;

/// Reads the whole log, one message (with its continuation lines) each.
pub fn read() -> Result<Vec<String>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open("/dev/kmsg")
        .context("cannot open /dev/kmsg")?;
    let mut messages = Vec::new();
    let mut record = [0; 8192];
    loop {
        let length = match file.read(&mut record) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
            Err(error) => return Err(error).context("cannot read /dev/kmsg"),
        };
        // "priority,sequence,microseconds,flags;message"
        let text = String::from_utf8_lossy(&record[..length]);
        let (header, message) = text.split_once(';').context("a record without a header")?;
        if messages.is_empty() {
            let first = header.split(',').nth(1);
            ensure!(first == Some("0"), "the log ran over: raise log_buf_len");
        }
        messages.push(message.trim_end().to_owned());
    }
}

/// Fails on the first splat and prints it.
pub fn check(log: &[String]) -> Result<()> {
    let Some(at) = log.iter().position(|line| is_splat(line)) else {
        return Ok(());
    };
    println!();
    for line in log.iter().skip(at).take(SPLAT_LINES) {
        println!("kernel: {line}");
    }
    bail!("{}", log[at].lines().next().unwrap_or_default());
}

/// Whether a line says one of [`SPLATS`], at the beginning of a word: "DEBUG:" is none.
fn is_splat(line: &str) -> bool {
    let says = |splat| {
        let mut places = line.match_indices(splat);
        places.any(|(at, _)| !line[..at].ends_with(char::is_alphanumeric))
    };
    SPLATS.iter().copied().any(says) && !line.starts_with(SHORTAGE)
}

/// The kernel remembers warnings even if the log has lost them.
pub fn check_taint() -> Result<()> {
    let path = "/proc/sys/kernel/tainted";
    let taint: u32 = std::fs::read_to_string(path)?
        .trim()
        .parse()
        .context("an odd taint")?;
    ensure!(
        taint & !EXPECTED_TAINT == 0,
        "{taint:#x}: see kernel-parameters tainted-kernels"
    );
    Ok(())
}
