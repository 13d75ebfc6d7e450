// SPDX-License-Identifier: GPL-2.0
//! What the BPF programs write into their ring buffer.
//!
//! The layout is that of `struct record` in `bpf/smapp.bpf.c`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::error::Errno;
use crate::event::Token;
use crate::message::TcpState;

/// Length of a record.
const LENGTH: usize = 88;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The retransmission timer has expired; the values are those now in force.
    Timeout,
    /// It has expired; the values are those before its work.
    TimeoutBefore,
    /// A TCP socket, a subflow, has closed.
    SubflowClosed,
    /// The socket of a connection has closed.
    ConnectionClosed,
}

/// One record, ends unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub kind: Kind,
    /// None if the socket had lost it by then: its ends tell.
    pub token: Option<Token>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Before it closed, if it has.
    pub state: TcpState,
    pub errno: Errno,
    pub errno_soft: Errno,
    /// In jiffies.
    pub rto: u32,
    pub retransmits: u8,
    pub backoff: u8,
    pub snd_una: u32,
    pub unacked: u32,
    pub bytes_acked: u64,
    pub bytes_received: u64,
}

impl Record {
    /// Reads a record; none if it is none that this version writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let family = u16_at(76);
        let address = |at: usize| match family {
            AF_INET => Some(Ipv4Addr::from(u32_at(at).to_ne_bytes()).into()),
            AF_INET6 => {
                let octets: [u8; 16] = bytes[at..at + 16].try_into().ok()?;
                Some(IpAddr::from(octets).to_canonical())
            }
            _ => None,
        };
        let end = |address_at, port_at| {
            let port = u16::from_be(u16_at(port_at));
            Some(SocketAddr::new(address(address_at)?, port))
        };
        let snd_una = u32_at(56);
        Some(Self {
            kind: match bytes[78] {
                1 => Kind::Timeout,
                2 => Kind::TimeoutBefore,
                3 => Kind::SubflowClosed,
                4 => Kind::ConnectionClosed,
                _ => return None,
            },
            token: Some(Token(u32_at(48))).filter(|&token| token != Token(0)),
            local: end(16, 72)?,
            remote: end(32, 74)?,
            state: TcpState(bytes[79]),
            errno: Errno(u32_at(64)),
            errno_soft: Errno(u32_at(68)),
            rto: u32_at(52),
            retransmits: bytes[80],
            backoff: bytes[81],
            snd_una,
            unacked: u32_at(60).wrapping_sub(snd_una),
            bytes_acked: u64_at(0),
            bytes_received: u64_at(8),
        })
    }
}
