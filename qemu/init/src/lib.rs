// SPDX-License-Identifier: GPL-2.0

//! What the guest is judged by, for the first process at the end and for a payload in
//! between: the kernel log, the leak check, the audit of the module.

#![forbid(unsafe_code)]

pub mod kernel_log;
pub mod leak;
pub mod module;
