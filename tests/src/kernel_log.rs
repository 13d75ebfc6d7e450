// SPDX-License-Identifier: GPL-2.0
//! The kernel's log.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result};
use rustix::fs::OFlags;

/// Reads what the kernel logs from now on.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
    lines: Vec<String>,
}

impl KernelLog {
    /// Start at the end of the log.
    pub fn from_now() -> Result<Self> {
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let open = OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg");
        let mut file = open.context("cannot open /dev/kmsg")?;
        file.seek(SeekFrom::End(0))
            .context("cannot seek /dev/kmsg")?;
        Ok(KernelLog {
            file,
            lines: Vec::new(),
        })
    }

    /// All messages since [`KernelLog::from_now`].
    pub fn lines(&mut self) -> Result<&[String]> {
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                // One record a read: "priority,sequence,time,flags;message\n..".
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    let line = text.lines().next().unwrap_or_default();
                    let message = line.split_once(';').map_or(line, |(_, message)| message);
                    self.lines.push(message.into());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(&self.lines),
                Err(error) => return Err(error).context("cannot read /dev/kmsg"),
            }
        }
    }
}
