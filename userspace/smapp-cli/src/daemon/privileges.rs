// SPDX-License-Identifier: GPL-2.0
//! What a daemon may do: change networks, and nothing else that needs a privilege.

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// Gives up every capability but CAP_NET_ADMIN, for good. The user stays: the
/// configuration is read again, and the socket of `smapp why` removed, as the user
/// that started the daemon.
pub fn drop_all_but_net_admin() -> Result<()> {
    give_up().context("giving up privileges")
}

fn give_up() -> Result<()> {
    let keep = CapsHashSet::from([Capability::CAP_NET_ADMIN]);
    // What a child could have; there is none. It takes a capability to shrink it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for other in caps::read(None, CapSet::Bounding)?.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *other)?;
        }
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let before = caps::read(None, set)?;
        let kept: CapsHashSet = before.intersection(&keep).copied().collect();
        // A service manager has done it, and forbids the system call.
        if kept != before {
            caps::set(None, set, &kept)?;
        }
    }
    set_no_new_privs()?;
    Ok(())
}
