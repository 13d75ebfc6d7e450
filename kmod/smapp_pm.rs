// SPDX-License-Identifier: GPL-2.0

//! An MPTCP path manager whose decisions are taken in user space.
//!
//! The hooks of the path manager become events ([`event`]), commands act on subflows
//! ([`command`]); what both look like is written in `spec/smapp_pm.yaml`.

#![deny(unsafe_code)]

mod command;
mod event;
mod stats;
#[allow(unsafe_code)]
mod sys;
#[allow(dead_code, unreachable_pub)]
mod uapi;

use command::{Announce, ConnGet, SubflowCreate, SubflowDestroy, SubflowSet, Withdraw};
use event::Smapp;
use kernel::{module::this_module, prelude::*, sync::atomic::Relaxed};
use stats::{Counted, StatsGet, ATTACHED, RELEASED};
use sys::{
    family::{self, Family, Group, Operation},
    local_address::{self, Notifiers},
    path_manager::{self, Ops},
};

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

static PATH_MANAGER: Ops = Ops::new::<Smapp>(this_module::<LocalModule>());

static LOCAL_ADDRESSES: Notifiers = Notifiers::new::<Smapp>();

static FAMILY: Family = Family::new(
    this_module::<LocalModule>(),
    (uapi::FAMILY, uapi::VERSION),
    &OPERATIONS,
    &GROUPS,
);

static OPERATIONS: [Operation; 8] = [
    Operation::command::<Counted<ConnGet>>(),
    Operation::dump::<ConnGet>(),
    Operation::command::<Counted<SubflowCreate>>(),
    Operation::command::<Counted<SubflowDestroy>>(),
    Operation::command::<Counted<SubflowSet>>(),
    Operation::command::<Counted<Announce>>(),
    Operation::command::<Counted<Withdraw>>(),
    Operation::command::<Counted<StatsGet>>(),
];

static GROUPS: [Group; uapi::GROUPS.len()] = {
    let mut groups = [const { Group::new("") }; uapi::GROUPS.len()];
    let mut i = 0;
    while i < groups.len() {
        groups[i] = Group::new(uapi::GROUPS[i]);
        i += 1;
    }
    groups
};

/// Fields drop in the order of their declaration: hooks end before the family that they send to.
struct Module {
    _path_manager: path_manager::Registration,
    _local_addresses: local_address::Registration,
    _family: family::Registration,
}

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let family = FAMILY.register()?;
        let local_addresses = LOCAL_ADDRESSES.register()?;
        let path_manager = PATH_MANAGER.register()?;
        pr_info!("loaded: select it with sysctl net.mptcp.path_manager=smapp\n");
        Ok(Self {
            _path_manager: path_manager,
            _local_addresses: local_addresses,
            _family: family,
        })
    }
}

impl Drop for Module {
    /// No connection is left, or the module could not go.
    fn drop(&mut self) {
        let (attached, released) = (ATTACHED.load(Relaxed), RELEASED.load(Relaxed));
        pr_info!("unloaded: {attached} connections attached, {released} released\n");
    }
}
