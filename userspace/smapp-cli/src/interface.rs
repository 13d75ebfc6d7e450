// SPDX-License-Identifier: GPL-2.0
//! The interface of the kernel that a command uses, and whether new connections do.

use smapp::module::sysctl;
use smapp::{Client, Error, KernelKind};

/// What `--kernel` said.
#[derive(Clone, Copy, Debug)]
pub struct Choice(pub Option<KernelKind>);

impl Choice {
    /// The interface: the one that was named, else the one of this network namespace.
    pub fn kind(self) -> KernelKind {
        self.0.unwrap_or_else(KernelKind::selected)
    }

    /// Connects to it.
    pub fn connect(self) -> Result<Client, Error> {
        Client::connect_to(self.kind())
    }
}

/// Why new connections of this network namespace are not managed over an interface, and
/// what to type; none if they are.
pub fn other_path_manager(kind: KernelKind) -> Option<String> {
    let wanted = match kind {
        KernelKind::Module => "smapp",
        _ => "userspace",
    };
    let (sysctl, chosen, value) = match sysctl("path_manager") {
        Some(chosen) => ("path_manager", chosen, wanted),
        // Older than 6.15: 0 is the kernel's own, 1 the one in user space.
        None => ("pm_type", sysctl("pm_type")?, "1"),
    };
    (chosen != value).then(|| {
        format!(
            "new connections of this network namespace have net.mptcp.{sysctl}={chosen}: \
             type `sudo sysctl -w net.mptcp.{sysctl}={value}`"
        )
    })
}
