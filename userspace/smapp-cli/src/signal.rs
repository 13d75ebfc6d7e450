// SPDX-License-Identifier: GPL-2.0
//! Signals as something to wait for.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A descriptor that becomes readable when the program is asked to end.
pub fn end() -> Result<SignalFd> {
    of(&[Signal::SIGINT, Signal::SIGTERM])
}

/// As [`end`], and for SIGHUP too. It does not block.
pub fn end_and_reload() -> Result<SignalFd> {
    of(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
}

fn of(signals: &[Signal]) -> Result<SignalFd> {
    let signals: SigSet = signals.iter().copied().collect();
    signals.thread_block().context("blocking signals")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&signals, flags).context("signalfd")
}
