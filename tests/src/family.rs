// SPDX-License-Identifier: GPL-2.0
//! The families of addresses that tests use.

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, for a test that holds for either.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];
}
