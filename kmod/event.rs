// SPDX-License-Identifier: GPL-2.0

//! Sending events: one message each, to those who have registered for it.

use crate::{
    family::FAMILY,
    size::{
        ADDRESS_ANNOUNCED, ADDRESS_LOCAL, CONNECTION_IDENTITY, CONNECTION_OWNER,
        CONNECTION_WITHDRAWN, NEST, SUBFLOW_FATE, SUBFLOW_IDENTITY, SUBFLOW_TIMER,
    },
    stats,
    sys::{
        connection::{Connection, ConnectionInfo},
        family::{Delivery, Multicast},
        local_address::LocalAddress,
        message::{Body, Context},
        net::Net,
        subflow::{Subflow, SubflowInfo},
    },
    uapi::{cmd, connection, group},
    wire::{put_connection, put_local_address, put_owner, put_subflow},
};
use kernel::prelude::*;

/// A kind of event.
pub(crate) struct Event {
    group: usize,
    /// The number that its messages carry.
    cmd: u8,
    /// That of its hook.
    context: Context,
    /// How many bytes of attributes a message has at most.
    size: usize,
}

/// What an event about a subflow has at least.
const SUBFLOW: usize = CONNECTION_IDENTITY + NEST + SUBFLOW_IDENTITY;

/// An event of a hook in atomic context, or in process context.
macro_rules! events {
    ($($name:ident: $context:ident, $size:expr;)*) => {$(
        pub(crate) const $name: Event = Event {
            group: group::$name,
            cmd: cmd::$name,
            context: Context::$context,
            size: $size,
        };
    )*};
}

events! {
    CREATED: Atomic, SUBFLOW + CONNECTION_OWNER;
    ESTAB: Atomic, SUBFLOW + CONNECTION_OWNER;
    CLOSED: Process, CONNECTION_IDENTITY;
    SUB_ESTAB: Atomic, SUBFLOW;
    SUB_CLOSED: Process, SUBFLOW + SUBFLOW_FATE;
    SUB_PRIORITY: Atomic, SUBFLOW;
    TIMEOUT: Atomic, SUBFLOW + SUBFLOW_TIMER;
    ADD_ADDR: Atomic, CONNECTION_IDENTITY + NEST + ADDRESS_ANNOUNCED;
    REM_ADDR: Atomic, CONNECTION_IDENTITY + CONNECTION_WITHDRAWN;
    NEW_LOCAL_ADDR: Atomic, NEST + ADDRESS_LOCAL;
    DEL_LOCAL_ADDR: Atomic, NEST + ADDRESS_LOCAL;
}

impl Event {
    /// Whether anybody listens, in whichever network namespace: the core counts all together.
    fn has_listeners(&self) -> bool {
        FAMILY.has_listeners(self.group as u32)
    }

    /// Sends an event about a connection to those who listen.
    pub(crate) fn send(
        &self,
        connection: &Connection,
        fill: impl FnOnce(&mut Body<'_>, &ConnectionInfo<'_>) -> Result,
    ) -> Delivery {
        if !self.has_listeners() {
            return Delivery::Unheard;
        }
        let info = connection.info();
        self.multicast(info.net(), |body| {
            put_connection(body, &info)?;
            fill(body, &info)
        })
    }

    /// Sends an event about a connection that begins, with its initial subflow.
    pub(crate) fn send_start(&self, connection: &Connection, subflow: &Subflow) {
        self.send(connection, |body, info| {
            put_owner(body, info)?;
            body.nest(connection::SUBFLOW, |body| {
                put_subflow(body, &subflow.info())
            })
        });
    }

    /// Sends an event about a subflow, which `put` describes.
    pub(crate) fn send_subflow(
        &self,
        connection: &Connection,
        subflow: &Subflow,
        put: fn(&mut Body<'_>, &SubflowInfo) -> Result,
    ) {
        self.send(connection, |body, _| {
            body.nest(connection::SUBFLOW, |body| put(body, &subflow.info()))
        });
    }

    /// Sends an event about a local address to those who listen.
    pub(crate) fn send_local(&self, address: &LocalAddress<'_>) {
        if self.has_listeners() {
            self.multicast(address.net(), |body| put_local_address(body, address));
        }
    }

    fn multicast(&self, net: &Net, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Delivery {
        let to = (self.group, self.cmd);
        let delivery = FAMILY.multicast(net, to, (self.size, self.context), fill);
        match delivery {
            Delivery::Delivered => stats::count(self.cmd, true),
            Delivery::Lost => stats::count(self.cmd, false),
            Delivery::Unheard => {}
        }
        delivery
    }
}
