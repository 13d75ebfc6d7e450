// SPDX-License-Identifier: GPL-2.0
//! `struct tcp_info` and `struct mptcp_info`, the parts that are of use here.
//!
//! Both structures grow at their end from kernel to kernel: a field that lies
//! beyond the end of what came reads as 0.
//!
//! C headers: `linux/tcp.h`, `linux/mptcp.h`

use serde::Serialize;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    field.map_or(0, u64::from_ne_bytes)
}

/// What TCP knows of a subflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpInfo {
    /// Retransmission timeout in microseconds.
    pub rto: u32,
    /// Smoothed round-trip time in microseconds.
    pub rtt: u32,
    /// Mean deviation of the round-trip time in microseconds.
    pub rttvar: u32,
    /// Congestion window in segments.
    pub snd_cwnd: u32,
    /// Segments retransmitted in all.
    pub total_retrans: u32,
    /// Rate at which TCP paces the segments, in bytes per second.
    pub pacing_rate: u64,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Most recent delivery rate in bytes per second.
    pub delivery_rate: u64,
    /// Bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes retransmitted.
    pub bytes_retrans: u64,
}

impl TcpInfo {
    /// Reads as much as is there.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            rto: u32_at(bytes, 8),
            rtt: u32_at(bytes, 68),
            rttvar: u32_at(bytes, 72),
            snd_cwnd: u32_at(bytes, 80),
            total_retrans: u32_at(bytes, 100),
            pacing_rate: u64_at(bytes, 104),
            bytes_acked: u64_at(bytes, 120),
            bytes_received: u64_at(bytes, 128),
            delivery_rate: u64_at(bytes, 160),
            bytes_sent: u64_at(bytes, 200),
            bytes_retrans: u64_at(bytes, 208),
        }
    }
}

/// What Multipath TCP knows of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MptcpInfo {
    /// `MPTCP_INFO_FLAG_*`.
    pub flags: u32,
    /// Segments retransmitted on another subflow.
    pub retransmits: u32,
    /// Bytes retransmitted on another subflow.
    pub bytes_retrans: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
}

impl MptcpInfo {
    /// Reads as much as is there.
    pub fn decode(bytes: &[u8]) -> Self {
        Self {
            flags: u32_at(bytes, 8),
            retransmits: u32_at(bytes, 44),
            bytes_retrans: u64_at(bytes, 48),
            bytes_sent: u64_at(bytes, 56),
            bytes_received: u64_at(bytes, 64),
            bytes_acked: u64_at(bytes, 72),
        }
    }
}
