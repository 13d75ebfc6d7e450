// SPDX-License-Identifier: GPL-2.0
//! `struct tcp_info` and `struct mptcp_info` of kernels older and newer than this crate.

use smapp::wire::{decode_mptcp_info, decode_tcp_info};

/// Longer than what this crate reads of either structure.
const KNOWN: usize = 256;

/// Reads both, whole, cut off, and with more at the end.
pub fn run(data: &[u8]) {
    let (tcp, mptcp) = (decode_tcp_info(data), decode_mptcp_info(data));
    // An older kernel knows less: what it does not say reads as 0, but for the field
    // that is cut in two, which no kernel does.
    let whole = data.len() / 8 * 8;
    let older = [&data[..whole], &[0; KNOWN]].concat();
    let cut = &data[..whole];
    assert_eq!(decode_tcp_info(cut), decode_tcp_info(&older));
    assert_eq!(decode_mptcp_info(cut), decode_mptcp_info(&older));
    // A newer one says more: that changes nothing.
    let known = &data[..data.len().min(KNOWN)];
    assert_eq!(
        (decode_tcp_info(known), decode_mptcp_info(known)),
        (tcp, mptcp)
    );
    for info in [serde_json::to_string(&tcp), serde_json::to_string(&mptcp)] {
        info.expect("it can be printed");
    }
}
