// SPDX-License-Identifier: GPL-2.0
//! Why the family `smapp_pm` may be missing, and what to type.

use std::fmt;
use std::fs;

/// Why there is no family `smapp_pm` that can be used.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The kernel has no Multipath TCP.
    Mptcp,
    /// The kernel has no selectable path managers: older than 6.15.
    PathManagers,
    /// The kernel lacks the patch series.
    Series,
    /// The module is not loaded.
    Module,
    /// The module has been unloaded while it was in use here.
    Unloaded,
    /// The module speaks this version of the protocol, the library another.
    Version(u32),
}

impl std::error::Error for Missing {}

impl Missing {
    /// Looks for the reason on this machine.
    pub fn find() -> Self {
        if sysctl("enabled").is_none() {
            Self::Mptcp
        } else if sysctl("path_manager").is_none() {
            Self::PathManagers
        } else if has_series() == Some(false) {
            Self::Series
        } else {
            Self::Module
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mptcp => {
                "this kernel has no multipath tcp (no net.mptcp.enabled): \
                 boot one built with CONFIG_MPTCP=y, `make kernel` builds it"
            }
            Self::PathManagers => {
                "this kernel has no net.mptcp.path_manager: boot linux 7.3 with the \
                 series of kmod/patches, `make kernel` builds it"
            }
            Self::Series => {
                "this kernel lacks the patch series that module smapp_pm needs: boot \
                 linux 7.3 with kmod/patches, `make kernel` builds it"
            }
            Self::Module => {
                "module smapp_pm is not loaded: type `sudo modprobe smapp_pm`, or \
                 `sudo insmod smapp_pm.ko` where it was built"
            }
            Self::Unloaded => "module smapp_pm has been unloaded: load it and start again",
            Self::Version(theirs) => {
                return write!(
                    f,
                    "module smapp_pm speaks protocol version {theirs}, this program speaks {}: \
                     use the module and the program of one release",
                    super::uapi::VERSION
                );
            }
        })
    }
}

/// The value of `net.mptcp.NAME` in this network namespace; none if there is
/// no such sysctl.
pub fn sysctl(name: &str) -> Option<String> {
    let value = fs::read_to_string(format!("/proc/sys/net/mptcp/{name}")).ok()?;
    Some(value.trim_end().to_owned())
}

/// Whether the kernel exports the commands of the series; none if it does not
/// show its symbols.
fn has_series() -> Option<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    if symbols.is_empty() {
        return None;
    }
    Some(symbols.contains(" mptcp_pm_subflow_create"))
}
