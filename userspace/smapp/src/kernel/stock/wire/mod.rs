// SPDX-License-Identifier: GPL-2.0
//! The bytes: of the family `mptcp_pm`, of `sock_diag`, of the BPF programs.
//!
//! Reading is total: whatever the bytes are, it gives a value or an error.

#[cfg(test)]
pub(crate) mod captured;
pub(crate) mod command;
pub(crate) mod diag;
pub(crate) mod ends;
pub(crate) mod event;
pub(crate) mod family;
pub(crate) mod record;
