// SPDX-License-Identifier: GPL-2.0
//! What TCP knows of a subflow, and Multipath TCP of a connection.

use serde::Serialize;

/// What TCP knows of a subflow.
///
/// Each field is the one of `struct tcp_info` (linux/tcp.h) with this name; 0 if the kernel
/// does not tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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

/// What Multipath TCP knows of a connection.
///
/// Each field is the one of `struct mptcp_info` (linux/mptcp.h) with this name; 0 if the
/// kernel does not tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MptcpInfo {
    /// Bits `MPTCP_INFO_FLAG_*`.
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
