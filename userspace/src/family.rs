// SPDX-License-Identifier: GPL-2.0
//! The generic netlink family: its numbers, and why it may be missing.

use std::fmt;
use std::fs;

use crate::error::Error;
use crate::event::EventKind;
use crate::netlink::{Attributes, Request};
use crate::uapi;

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_VERSION: u16 = 3;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// Group in which generic netlink tells of families that come and go.
pub(crate) const NOTIFY_GROUP: u32 = 0x10;

/// Whether a message of that group says that the family has gone.
pub(crate) fn is_removal(command: u8, mut attributes: Attributes<'_>) -> bool {
    const CTRL_CMD_DELFAMILY: u8 = 2;
    command == CTRL_CMD_DELFAMILY
        && attributes.any(|attribute| {
            attribute.is_ok_and(|a| {
                a.kind == CTRL_ATTR_FAMILY_NAME && a.str().is_ok_and(|name| name == uapi::FAMILY)
            })
        })
}

/// What the running kernel calls the family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// `nlmsg_type` of its messages.
    pub id: u16,
    /// Version of the protocol that the module speaks.
    pub version: u32,
    groups: [u32; uapi::GROUPS.len()],
}

impl Family {
    /// Number of the multicast group of an event.
    pub fn group(&self, kind: EventKind) -> u32 {
        self.groups[kind as usize]
    }

    /// Writes the question for the family's numbers.
    pub(crate) fn request(buffer: &mut Vec<u8>, seq: u32) -> &[u8] {
        let name = [uapi::FAMILY.as_bytes(), &[0]].concat();
        Request::generic(buffer, CONTROLLER, 0, seq, CTRL_CMD_GETFAMILY, 1)
            .attribute(CTRL_ATTR_FAMILY_NAME, &name)
            .finish()
    }

    /// Reads what generic netlink tells of a family.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let mut family = Self::default();
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                CTRL_ATTR_FAMILY_ID => family.id = a.u16()?,
                CTRL_ATTR_VERSION => family.version = a.u32()?,
                CTRL_ATTR_MCAST_GROUPS => {
                    for group in a.nest() {
                        family.add_group(group?.nest())?;
                    }
                }
                _ => {}
            }
        }
        if family.version != u32::from(uapi::VERSION) {
            return Err(Error::Version(family.version));
        }
        if family.id == 0 || family.groups.contains(&0) {
            return Err(Error::Malformed("description of the family smapp_pm"));
        }
        Ok(family)
    }

    fn add_group(&mut self, attributes: Attributes<'_>) -> Result<(), Error> {
        let (mut name, mut id) = ("", 0);
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                CTRL_ATTR_MCAST_GRP_NAME => name = a.str()?,
                CTRL_ATTR_MCAST_GRP_ID => id = a.u32()?,
                _ => {}
            }
        }
        if let Some(index) = uapi::GROUPS.iter().position(|&known| known == name) {
            self.groups[index] = id;
        }
        Ok(())
    }
}

/// Why there is no family `smapp_pm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The kernel has no Multipath TCP.
    Mptcp,
    /// The kernel has no selectable path managers: older than 6.16.
    PathManagers,
    /// The kernel lacks the patch series.
    Series,
    /// The module is not loaded.
    Module,
    /// The module has been unloaded while it was in use here.
    Unloaded,
}

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
