// SPDX-License-Identifier: GPL-2.0
//! The generic netlink family `mptcp_pm`: what the running kernel calls it.

use crate::netlink::{Attributes, Malformed, Request};

/// Its name.
pub(crate) const NAME: &str = "mptcp_pm";
/// The multicast group of its events.
const GROUP: &str = "mptcp_pm_events";

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;

/// The numbers of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// `nlmsg_type` of its messages.
    pub id: u16,
    /// The multicast group of its events.
    pub events: u32,
}

impl Family {
    /// Writes the question for the numbers.
    pub fn request(buffer: &mut Vec<u8>, seq: u32) -> &[u8] {
        let name = [NAME.as_bytes(), &[0]].concat();
        Request::generic(buffer, CONTROLLER, 0, seq, CTRL_CMD_GETFAMILY, 1)
            .attribute(CTRL_ATTR_FAMILY_NAME, &name)
            .finish()
    }

    /// Reads the answer.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let (mut id, mut events) = (None, None);
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                CTRL_ATTR_FAMILY_ID => id = Some(a.u16()?),
                CTRL_ATTR_MCAST_GROUPS => {
                    for group in a.nest() {
                        events = events.or(group_of_events(group?.nest())?);
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            id: id.ok_or(Malformed::Absent("family id"))?,
            events: events.ok_or(Malformed::Absent("group mptcp_pm_events"))?,
        })
    }
}

fn group_of_events(attributes: Attributes<'_>) -> Result<Option<u32>, Malformed> {
    let (mut name, mut id) = ("", None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            CTRL_ATTR_MCAST_GRP_NAME => name = a.str()?,
            CTRL_ATTR_MCAST_GRP_ID => id = Some(a.u32()?),
            _ => {}
        }
    }
    Ok(id.filter(|_| name == GROUP))
}
