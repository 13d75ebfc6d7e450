// SPDX-License-Identifier: GPL-2.0
//! The generic netlink family `smapp_pm`: the numbers that the running kernel has given it.
//!
//! C header: `linux/genetlink.h`

use super::missing::Missing;
use super::uapi;
use crate::kernel::Error;
use crate::model::{Errno, EventKind};
use crate::netlink::{Attributes, Malformed, Request, Socket};

/// The family that knows the others.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_VERSION: u16 = 3;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// Multicast group in which generic netlink tells of families that come and go.
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

/// The numbers that the running kernel has given the family.
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

    /// Asks for it in the network namespace of the socket.
    pub fn resolve(socket: &mut Socket, request: &mut Vec<u8>) -> Result<Self, Error> {
        const NAME: &str = "look-up of the family smapp_pm";
        let mut family = None;
        let request = Self::request(request, 1);
        let answer = socket.call(NAME, 1, request, |message| {
            family = Some(Self::decode(message.generic()?.1)?);
            Ok(())
        });
        match answer.map_err(Error::from) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                Err(Error::unusable(Missing::find()))
            }
            Err(error) => Err(error),
            Ok(()) => family.ok_or(Error::NoAnswer(NAME)),
        }
    }

    /// Writes the question for the family's numbers.
    fn request(buffer: &mut Vec<u8>, seq: u32) -> &[u8] {
        let name = [uapi::FAMILY.as_bytes(), &[0]].concat();
        Request::generic(buffer, GENL_ID_CTRL, 0, seq, CTRL_CMD_GETFAMILY, 1)
            .attribute(CTRL_ATTR_FAMILY_NAME, &name)
            .finish()
    }

    /// Reads what generic netlink tells of a family.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Malformed> {
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
        // Another version may have other groups.
        let ours = family.version == u32::from(uapi::VERSION);
        if family.id == 0 || ours && family.groups.contains(&0) {
            return Err(Malformed::Inconsistent(
                "description of the family smapp_pm",
            ));
        }
        Ok(family)
    }

    fn add_group(&mut self, attributes: Attributes<'_>) -> Result<(), Malformed> {
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
