// SPDX-License-Identifier: GPL-2.0

//! Safe views of the kernel's C interfaces: the only unsafe code of the module.

// Multipath TCP.
pub(crate) mod address;
pub(crate) mod connection;
pub(crate) mod held;
pub(crate) mod new_subflow;
pub(crate) mod path_manager;
pub(crate) mod subflow;

// Generic netlink.
pub(crate) mod attribute;
pub(crate) mod family;
pub(crate) mod message;
pub(crate) mod request;

// Devices and their addresses.
pub(crate) mod local_address;
pub(crate) mod net;
pub(crate) mod notifier;
