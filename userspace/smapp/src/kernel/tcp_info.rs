// SPDX-License-Identifier: GPL-2.0
//! `struct tcp_info` and `struct mptcp_info`, the parts that are of use here.
//!
//! Both structures grow at their end from kernel to kernel: a field that lies
//! beyond the end of what came reads as 0.
//!
//! C headers: `linux/tcp.h`, `linux/mptcp.h`

use crate::model::{MptcpInfo, TcpInfo};

/// Reads as much of a `struct tcp_info` as is there.
pub fn decode_tcp_info(bytes: &[u8]) -> TcpInfo {
    TcpInfo {
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

/// Reads as much of a `struct mptcp_info` as is there.
pub fn decode_mptcp_info(bytes: &[u8]) -> MptcpInfo {
    MptcpInfo {
        flags: u32_at(bytes, 8),
        retransmits: u32_at(bytes, 44),
        bytes_retrans: u64_at(bytes, 48),
        bytes_sent: u64_at(bytes, 56),
        bytes_received: u64_at(bytes, 64),
        bytes_acked: u64_at(bytes, 72),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    field.map_or(0, u64::from_ne_bytes)
}
