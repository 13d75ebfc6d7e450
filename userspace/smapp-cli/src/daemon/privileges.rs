// SPDX-License-Identifier: GPL-2.0
//! What a daemon may do: change networks, and nothing else that needs a privilege.

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// What it takes to begin: unmodified kernels tell of timeouts by BPF programs, which are
/// loaded once.
pub const TO_BEGIN: &[Capability] = &[
    Capability::CAP_NET_ADMIN,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
];

/// What it takes to go on.
pub const TO_GO_ON: &[Capability] = &[Capability::CAP_NET_ADMIN];

/// Gives up every capability but these, for good. The user stays: the configuration is
/// read again, and the socket of `smapp why` removed, as the user that started the daemon.
pub fn keep(capabilities: &[Capability]) -> Result<()> {
    give_up_all_but(capabilities).context("giving up privileges")
}

fn give_up_all_but(capabilities: &[Capability]) -> Result<()> {
    let keep: CapsHashSet = capabilities.iter().copied().collect();
    // The bounding set is what a program that this one starts could get; it starts none. To
    // shrink it takes CAP_SETPCAP, which is given up the first time: so it shrinks to what
    // is kept in the end.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for other in
            caps::read(None, CapSet::Bounding)?.difference(&TO_GO_ON.iter().copied().collect())
        {
            caps::drop(None, CapSet::Bounding, *other)?;
        }
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let before = caps::read(None, set)?;
        let kept: CapsHashSet = before.intersection(&keep).copied().collect();
        // Where a service manager has given them up already, it may forbid the system call.
        if kept != before {
            caps::set(None, set, &kept)?;
        }
    }
    set_no_new_privs()?;
    Ok(())
}
