// SPDX-License-Identifier: GPL-2.0

//! An MPTCP path manager whose decisions are taken in user space.
//!
//! Hooks ([`hooks`]) become events ([`event`]), requests become commands ([`command`]). What both
//! look like ([`wire`]) is written in `spec/smapp_pm.yaml`, from which [`uapi`], [`group`],
//! [`policy`] and [`size`] are generated.

#![deny(unsafe_code)]

mod command;
mod event;
mod family;
mod group;
mod hooks;
mod load;
mod path_manager;
mod policy;
mod size;
mod stats;
#[allow(unsafe_code)]
mod sys;
#[allow(dead_code, unreachable_pub)]
mod uapi;
mod wire;

use kernel::prelude::*;

module! {
    type: Module,
    name: "smapp_pm",
    authors: ["The smapp developers"],
    description: "MPTCP path manager controlled from user space",
    license: "GPL",
    alias: ["net-pf-16-proto-16-family-smapp_pm"],
    params: {
        peer_subflows: u8 {
            default: 8,
            description: "Subflows beside the initial one that a peer may open on a connection",
        },
        peer_address_subflows: u8 {
            default: 255,
            description: "Subflows of a connection from one address of the peer, the initial one included",
        },
        echo_add_addr: bool {
            default: true,
            description: "Confirm an address that a peer announces when nobody listens to add_addr",
        },
    },
}

/// What is registered as long as the module is loaded ([`load`]).
///
/// Fields drop in the order of their declaration: hooks end before the family that they send to.
struct Module {
    _path_manager: sys::path_manager::Registration,
    _local_addresses: sys::notifier::Registration,
    _family: kernel::net::netlink::Registration,
}
