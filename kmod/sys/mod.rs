// SPDX-License-Identifier: GPL-2.0

//! Safe views of the kernel's C interfaces: the only unsafe code of the module.

pub(crate) mod attribute;
pub(crate) mod connection;
pub(crate) mod family;
pub(crate) mod local_address;
pub(crate) mod message;
pub(crate) mod net;
pub(crate) mod path_manager;
pub(crate) mod request;
