// SPDX-License-Identifier: GPL-2.0

//! Safe views of the kernel's C interfaces: the only unsafe code of the module.

pub(crate) mod connection;
pub(crate) mod netlink;
pub(crate) mod path_manager;
