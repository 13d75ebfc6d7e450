// SPDX-License-Identifier: GPL-2.0
//! Netlink on the byte level: messages, attributes, requests.
//!
//! Reading is total: whatever the bytes are, an iterator ends or yields an
//! error, it never panics and never reads out of bounds. Nothing here
//! allocates, except that a request grows the buffer it is written into.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Errno, Error};

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

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the type without its two flags.
const TYPE_MASK: u16 = 0x3fff;
/// `NLM_F_CAPPED` of an error message: the request is not repeated in it.
const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS` of an error message: attributes follow.
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const EXTACK_MESSAGE: u16 = 1;

fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// One netlink message.
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
    /// The generic netlink command and its attributes.
    pub fn generic(&self) -> Result<(u8, Attributes<'a>), Error> {
        match self.payload {
            [command, _version, _, _, rest @ ..] => Ok((*command, Attributes::new(rest))),
            _ => Err(Error::Malformed("generic netlink header")),
        }
    }

    /// What an error message says: errno (0 for an acknowledgement) and the
    /// extended acknowledgement of the kernel.
    pub fn error(&self) -> Result<(Errno, Option<&'a str>), Error> {
        const MALFORMED: Error = Error::Malformed("netlink error message");
        let code = u32_at(self.payload, 0).ok_or(MALFORMED)? as i32;
        let errno = Errno(code.unsigned_abs());
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

    /// The errno at the end of a dump, 0 if it is complete.
    pub fn dump_error(&self) -> Errno {
        Errno(u32_at(self.payload, 0).map_or(0, |code| (code as i32).unsigned_abs()))
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
    type Item = Result<Message<'a>, Error>;

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
        Some(message.ok_or(Error::Malformed("netlink message")))
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without the flags for nests and byte order.
    pub kind: u16,
    /// Its value.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn array<const N: usize>(&self) -> Result<[u8; N], Error> {
        self.payload.try_into().map_err(|_| Error::Attribute {
            kind: self.kind,
            len: self.payload.len(),
        })
    }

    /// An 8-bit number.
    pub fn u8(&self) -> Result<u8, Error> {
        self.array().map(u8::from_ne_bytes)
    }

    /// A 16-bit number in host byte order.
    pub fn u16(&self) -> Result<u16, Error> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A port: a 16-bit number in network byte order.
    pub fn port(&self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit number in host byte order.
    pub fn u32(&self) -> Result<u32, Error> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A 64-bit number in host byte order.
    pub fn u64(&self) -> Result<u64, Error> {
        self.array().map(u64::from_ne_bytes)
    }

    /// An IPv4 or IPv6 address, told apart by its length; an IPv4 address
    /// mapped into IPv6 is IPv4.
    pub fn address(&self) -> Result<IpAddr, Error> {
        match self.payload.len() {
            4 => self.array::<4>().map(|a| Ipv4Addr::from(a).into()),
            _ => self.array::<16>().map(|a| IpAddr::from(a).to_canonical()),
        }
    }

    /// A string, with or without its terminating zero.
    pub fn str(&self) -> Result<&'a str, Error> {
        let end = self.payload.iter().position(|&b| b == 0);
        let bytes = &self.payload[..end.unwrap_or(self.payload.len())];
        std::str::from_utf8(bytes).map_err(|_| Error::Attribute {
            kind: self.kind,
            len: self.payload.len(),
        })
    }

    /// The attributes of a nest.
    pub fn nest(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }
}

/// A row of attributes.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads the attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let attribute = (|| {
            let &[a, b, c, d] = bytes.first_chunk()?;
            let len = usize::from(u16::from_ne_bytes([a, b]));
            let attribute = Attribute {
                kind: u16::from_ne_bytes([c, d]) & TYPE_MASK,
                payload: bytes.get(4..len)?,
            };
            self.0 = bytes.get(align(len)..).unwrap_or(&[]);
            Some(attribute)
        })();
        // Not ok_or(): that makes an error for each attribute, and drops it.
        Some(match attribute {
            Some(attribute) => Ok(attribute),
            None => Err(Error::Malformed("netlink attribute")),
        })
    }
}

/// Writes one request into a buffer that is used again and again.
#[derive(Debug)]
pub struct Request<'a>(&'a mut Vec<u8>);

impl<'a> Request<'a> {
    /// Starts a request to the generic netlink family `family`.
    pub fn generic(
        buffer: &'a mut Vec<u8>,
        family: u16,
        flags: u16,
        seq: u32,
        command: u8,
        version: u8,
    ) -> Self {
        let request = Self::new(buffer, family, flags, seq);
        let header: [u8; GENERIC_HEADER] = [command, version, 0, 0];
        request.0.extend_from_slice(&header);
        request
    }

    /// Starts a request of the type `kind`, without a body.
    pub fn new(buffer: &'a mut Vec<u8>, kind: u16, flags: u16, seq: u32) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        buffer.extend_from_slice(&kind.to_ne_bytes());
        buffer.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        buffer.extend_from_slice(&seq.to_ne_bytes());
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        Self(buffer)
    }

    /// Adds a fixed header of a protocol, padded.
    pub fn body(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// Adds an attribute.
    pub fn attribute(self, kind: u16, payload: &[u8]) -> Self {
        let len = (4 + payload.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.body(payload)
    }

    /// Adds an attribute in host byte order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds a port, in network byte order.
    pub fn port(self, kind: u16, port: u16) -> Self {
        self.attribute(kind, &port.to_be_bytes())
    }

    /// Adds an address.
    pub fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }

    /// Adds a flag, if it is set.
    pub fn flag(self, kind: u16, set: bool) -> Self {
        match set {
            true => self.attribute(kind, &[]),
            false => self,
        }
    }

    /// Adds a nest with what `fill` adds to it.
    pub fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        let filled = fill(self.attribute(kind | NESTED, &[]));
        let len = (filled.0.len() - start) as u16;
        filled.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        filled
    }

    /// Writes the length: the bytes are ready to be sent.
    pub fn finish(self) -> &'a [u8] {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}
