// SPDX-License-Identifier: GPL-2.0
//! Netlink messages.

use super::attribute::{Attributes, align, u16_at, u32_at};
use super::error::Malformed;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer a success with an error message of errno 0.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR` of an answer: the dump is not one consistent state.
pub const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;

/// `NLMSG_ERROR`.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub const DONE: u16 = 3;

pub(super) const HEADER: usize = 16;
/// `NLM_F_MULTI`: more messages of this answer follow.
pub const MULTI: u16 = 0x2;
/// `NLM_F_CAPPED` of an error message: the request is not repeated in it.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS` of an error message: attributes follow.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const EXTACK_MESSAGE: u16 = 1;

/// One netlink message (`struct nlmsghdr` and what follows it).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`: the id of the family, or a control message.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: of the request that this answers.
    pub seq: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The generic netlink command (`struct genlmsghdr`) and its attributes.
    pub fn generic(&self) -> Result<(u8, Attributes<'a>), Malformed> {
        match self.payload {
            [command, _version, _, _, rest @ ..] => Ok((*command, Attributes::new(rest))),
            _ => Err(Malformed::Inconsistent("generic netlink header")),
        }
    }

    /// What an error message (`struct nlmsgerr`) says: a positive errno, 0 for an
    /// acknowledgement, and the text of the extended acknowledgement if there is one.
    pub fn error(&self) -> Result<(u32, Option<&'a str>), Malformed> {
        const MALFORMED: Malformed = Malformed::Inconsistent("netlink error message");
        let code = u32_at(self.payload, 0).ok_or(MALFORMED)? as i32;
        let errno = code.unsigned_abs();
        if self.flags & ACK_TLVS == 0 {
            return Ok((errno, None));
        }
        let request = match self.flags & CAPPED {
            0 => u32_at(self.payload, 4).ok_or(MALFORMED)? as usize,
            _ => HEADER,
        };
        let rest = 4usize.saturating_add(align(request.min(self.payload.len())));
        let mut text = None;
        for attribute in Attributes::new(self.payload.get(rest..).ok_or(MALFORMED)?) {
            let attribute = attribute?;
            if attribute.kind == EXTACK_MESSAGE {
                text = attribute.str().ok();
            }
        }
        Ok((errno, text))
    }

    /// The positive errno at the end of a dump, 0 if it is complete.
    pub fn dump_error(&self) -> u32 {
        u32_at(self.payload, 0).map_or(0, |code| (code as i32).unsigned_abs())
    }
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads the messages in `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let message = (|| {
            let len = u32_at(bytes, 0)? as usize;
            let message = Message {
                kind: u16_at(bytes, 4)?,
                flags: u16_at(bytes, 6)?,
                seq: u32_at(bytes, 8)?,
                payload: bytes.get(HEADER..len)?,
            };
            self.0 = bytes.get(align(len)..).unwrap_or(&[]);
            Some(message)
        })();
        Some(message.ok_or(Malformed::Inconsistent("netlink message")))
    }
}
