// SPDX-License-Identifier: GPL-2.0
//! Netlink requests.

use std::net::IpAddr;

use super::attribute::{NESTED, align};
use super::message::REQUEST;

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
        request.0.extend_from_slice(&[command, version, 0, 0]);
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

    /// Adds the fixed header of a protocol, padded to four bytes.
    pub fn body(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// Adds an attribute with these bytes, padded to four.
    pub fn attribute(self, kind: u16, payload: &[u8]) -> Self {
        let len = (4 + payload.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.body(payload)
    }

    /// Adds an attribute with a 32-bit number in host byte order.
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// Adds an attribute with a port, in network byte order.
    pub fn port(self, kind: u16, port: u16) -> Self {
        self.attribute(kind, &port.to_be_bytes())
    }

    /// Adds an attribute with an address: 4 bytes for IPv4, 16 for IPv6.
    pub fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.attribute(kind, &a.octets()),
            IpAddr::V6(a) => self.attribute(kind, &a.octets()),
        }
    }

    /// Adds a flag, an attribute without a value, if it is set.
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
