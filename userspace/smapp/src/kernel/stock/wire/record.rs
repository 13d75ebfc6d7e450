// SPDX-License-Identifier: GPL-2.0
//! What the BPF programs write into their ring buffer.
//!
//! The layout is that of `struct record` in `bpf/smapp.bpf.c`.

use std::net::SocketAddr;

use super::ends::{Ends, unpadded};
use crate::model::{Errno, TcpState, Token};

/// Length of a record.
const LENGTH: usize = 88;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The retransmission timer has expired; the values are those now in force.
    Timeout,
    /// It has expired; the values are those before its work.
    TimeoutBefore,
    /// A TCP socket, a subflow, has closed.
    SubflowClosed,
    /// The socket of a connection has closed.
    ConnectionClosed,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: Kind,
    /// None if the socket had lost it by then: its ends tell.
    pub token: Option<Token>,
    pub ends: Ends,
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
        let end = |address_at: usize, port_at| {
            let address = bytes[address_at..address_at + 16].try_into().ok()?;
            let port = u16::from_be(u16_at(port_at));
            Some(SocketAddr::new(unpadded(family, address)?, port))
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
            ends: Ends::new(family, end(16, 72)?, end(32, 74)?),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A timeout of a subflow of IPv4, as the programs write it on a little-endian machine.
    fn timeout() -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[16..20].copy_from_slice(&[10, 71, 1, 1]);
        bytes[32..36].copy_from_slice(&[10, 71, 1, 2]);
        bytes[48..52].copy_from_slice(&0xf534_16d4u32.to_ne_bytes());
        bytes[52..56].copy_from_slice(&51u32.to_ne_bytes());
        bytes[56..60].copy_from_slice(&u32::MAX.to_ne_bytes());
        bytes[60..64].copy_from_slice(&999u32.to_ne_bytes());
        bytes[72..74].copy_from_slice(&39776u16.to_be_bytes());
        bytes[74..76].copy_from_slice(&7001u16.to_be_bytes());
        bytes[76..78].copy_from_slice(&2u16.to_ne_bytes());
        bytes[78..82].copy_from_slice(&[1, 1, 3, 2]);
        bytes
    }

    #[test]
    fn a_timeout() {
        let record = Record::decode(&timeout()).unwrap();
        assert_eq!(record.kind, Kind::Timeout);
        assert_eq!(record.token, Some(Token(0xf534_16d4)));
        assert_eq!(record.ends.local.to_string(), "10.71.1.1:39776");
        assert_eq!(record.ends.remote.to_string(), "10.71.1.2:7001");
        assert_eq!((record.rto, record.retransmits, record.backoff), (51, 3, 2));
        // Sequence numbers wrap.
        assert_eq!(record.unacked, 1000);
    }

    #[test]
    fn a_socket_that_has_lost_its_token_is_known_by_its_ends() {
        let mut bytes = timeout();
        bytes[48..52].fill(0);
        assert_eq!(Record::decode(&bytes).unwrap().token, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, whole: [u8; 32]) {
            let _ = Record::decode(&bytes);
            let mut record = timeout();
            record[56..].copy_from_slice(&whole);
            let _ = Record::decode(&record);
        }
    }
}
