// SPDX-License-Identifier: GPL-2.0
//! Messages of the protocol, byte by byte, as a little-endian kernel sends them.

pub const FAMILY: u16 = 0x20;

/// `sub_closed` of an IPv4 subflow: ECONNREFUSED, with reset reason 3.
#[rustfmt::skip]
pub const SUB_CLOSED_V4: [u8; 104] = [
    104, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0, // length, family
    20, 1, 0, 0,                                            // sub-closed, version
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,                    // token
    76, 0, 6, 0x80,                                         // subflow
    8, 0, 1, 0,  2, 0, 0, 0,                                // id
    8, 0, 2, 0,  10, 0, 2, 1,                               // local-address
    6, 0, 3, 0,  0x9c, 0x41, 0, 0,                          // local-port 40001
    5, 0, 4, 0,  1, 0, 0, 0,                                // local-id
    8, 0, 5, 0,  10, 0, 3, 1,                               // remote-address
    6, 0, 6, 0,  0, 80, 0, 0,                               // remote-port
    8, 0, 8, 0,  3, 0, 0, 0,                                // ifindex
    8, 0, 14, 0,  111, 0, 0, 0,                             // errno
    5, 0, 16, 0,  3, 0, 0, 0,                               // reset-reason
];

/// `timeout` of an IPv6 subflow of a connection that this host accepted.
#[rustfmt::skip]
pub const TIMEOUT_V6: [u8; 128] = [
    128, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    21, 1, 0, 0,
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
    4, 0, 2, 0,                                             // server-side
    96, 0, 6, 0x80,
    8, 0, 1, 0,  1, 0, 0, 0,
    20, 0, 2, 0,  0xfd, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    6, 0, 3, 0,  0, 80, 0, 0,
    20, 0, 5, 0,  0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    6, 0, 6, 0,  0x9c, 0x41, 0, 0,
    4, 0, 11, 0,                                            // initial
    8, 0, 17, 0,  0x40, 0x2a, 6, 0,                         // rto 404032
    5, 0, 18, 0,  1, 0, 0, 0,                               // backoff
    5, 0, 19, 0,  2, 0, 0, 0,                               // retransmits
];

/// `add_addr` with a port, over IPv6.
#[rustfmt::skip]
pub const ADD_ADDR_V6: [u8; 68] = [
    68, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    23, 1, 0, 0,
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
    40, 0, 8, 0x80,                                         // address
    5, 0, 1, 0,  9, 0, 0, 0,                                // id
    20, 0, 2, 0,  0xfd, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    6, 0, 3, 0,  0x1f, 0x90, 0, 0,                          // port 8080
];

/// `rem_addr` with three IDs.
#[rustfmt::skip]
pub const REM_ADDR: [u8; 36] = [
    36, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    24, 1, 0, 0,
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
    7, 0, 9, 0,  9, 1, 255, 0,                              // remote-ids
];

/// `created` by user 1000, with a mark, bound to an interface.
#[rustfmt::skip]
pub const CREATED: [u8; 88] = [
    88, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    16, 1, 0, 0,
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
    8, 0, 10, 0,  0xe8, 3, 0, 0,                            // uid
    8, 0, 11, 0,  7, 0, 0, 0,                               // mark
    8, 0, 12, 0,  3, 0, 0, 0,                               // ifindex
    12, 0, 13, 0,  1, 0, 0, 0, 0, 0, 0, 0x80,               // cookie
    12, 0, 14, 0,  0x2a, 0, 0, 0, 0, 0, 0, 0,               // cgroup
    12, 0, 6, 0x80,  8, 0, 1, 0,  0, 0, 0, 0,               // subflow, id
];

/// `sub_closed` of a subflow that was established, reset for a while.
#[rustfmt::skip]
pub const SUB_CLOSED_RESET: [u8; 92] = [
    92, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    20, 1, 0, 0,
    8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
    64, 0, 6, 0x80,
    8, 0, 1, 0,  2, 0, 0, 0,
    8, 0, 15, 0,  113, 0, 0, 0,                             // errno-soft
    5, 0, 16, 0,  2, 0, 0, 0,                               // reset-reason
    4, 0, 26, 0,                                            // reset-transient
    8, 0, 22, 0,  5, 0, 0, 0,                               // unacked
    4, 0, 23, 0,                                            // established
    12, 0, 24, 0,  0, 0, 0, 0, 1, 0, 0, 0,                  // bytes-acked
    8, 0, 99, 0,  0, 0, 0, 0,                               // of a later kernel
];

/// `new_local_addr` of an IPv6 address of eth1.
#[rustfmt::skip]
pub const NEW_LOCAL_ADDR: [u8; 72] = [
    72, 0, 0, 0,  0x20, 0,  0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    25, 1, 0, 0,
    52, 0, 8, 0x80,                                         // address
    20, 0, 2, 0,  0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    8, 0, 4, 0,  3, 0, 0, 0,                                // ifindex
    9, 0, 5, 0,  b'e', b't', b'h', b'1', 0, 0, 0, 0,        // interface
    5, 0, 6, 0,  0, 0, 0, 0,                                // scope
];

/// Every golden message.
pub const GOLDEN: [&[u8]; 6] = [
    &SUB_CLOSED_V4,
    &TIMEOUT_V6,
    &ADD_ADDR_V6,
    &REM_ADDR,
    &CREATED,
    &SUB_CLOSED_RESET,
];
