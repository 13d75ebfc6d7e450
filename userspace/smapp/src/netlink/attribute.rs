// SPDX-License-Identifier: GPL-2.0
//! Netlink attributes.

use std::net::{IpAddr, Ipv4Addr};

use super::error::Malformed;

/// `NLA_F_NESTED`.
pub(super) const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the type without its two flags.
const TYPE_MASK: u16 = 0x3fff;

pub(super) fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// One attribute (`struct nlattr`).
///
/// Its readers fail with [`Malformed::Length`] if the value has another length than their
/// type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without the flags for nests and byte order.
    pub kind: u16,
    /// Its value.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.payload.try_into().map_err(|_| Malformed::Length {
            kind: self.kind,
            len: self.payload.len(),
        })
    }

    /// An 8-bit number.
    pub fn u8(&self) -> Result<u8, Malformed> {
        self.array().map(u8::from_ne_bytes)
    }

    /// A 16-bit number in host byte order.
    pub fn u16(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A port: a 16-bit number in network byte order.
    pub fn port(&self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A 32-bit number in host byte order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A 64-bit number in host byte order.
    pub fn u64(&self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// An IPv4 or IPv6 address, told apart by its length; an IPv4 address
    /// mapped into IPv6 is IPv4.
    pub fn address(&self) -> Result<IpAddr, Malformed> {
        match self.payload.len() {
            4 => self.array::<4>().map(|a| Ipv4Addr::from(a).into()),
            _ => self.array::<16>().map(|a| IpAddr::from(a).to_canonical()),
        }
    }

    /// A string of any bytes, with or without its terminating zero.
    pub fn string(&self) -> &'a [u8] {
        let end = self.payload.iter().position(|&b| b == 0);
        &self.payload[..end.unwrap_or(self.payload.len())]
    }

    /// A string of UTF-8, with or without its terminating zero.
    pub fn str(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()).map_err(|_| Malformed::Length {
            kind: self.kind,
            len: self.payload.len(),
        })
    }

    /// The attributes of a nest.
    pub fn nest(&self) -> Attributes<'a> {
        Attributes::new(self.payload)
    }
}

/// The attributes of a message or of a nest, in their order.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads the attributes in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

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
            None => Err(Malformed::Inconsistent("netlink attribute")),
        })
    }
}
