// SPDX-License-Identifier: GPL-2.0
//! An unmodified kernel, by what it has: `mptcp_pm`, `sock_diag`, BPF.

mod bpf;
#[cfg(test)]
mod captured;
mod command;
mod diag;
mod ends;
mod event;
mod record;
