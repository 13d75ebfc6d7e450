// SPDX-License-Identifier: GPL-2.0

//! Which hook makes which event, and what is decided without asking user space.

use crate::{
    event::{
        ADD_ADDR, CLOSED, CREATED, DEL_LOCAL_ADDR, ESTAB, NEW_LOCAL_ADDR, REM_ADDR, SUB_CLOSED,
        SUB_ESTAB, SUB_PRIORITY, TIMEOUT,
    },
    module_parameters,
    path_manager::Smapp,
    stats::{ATTACHED, CHANGES, RELEASED},
    sys::{
        address::Endpoint,
        connection::{Connection, Join},
        family::Delivery,
        local_address::LocalAddress,
        notifier::Watcher,
        path_manager::PathManager,
        subflow::Subflow,
    },
    uapi::connection,
    wire::{put_address, put_fate, put_subflow, put_timeout},
};
use kernel::{prelude::*, sync::atomic::Relaxed};

#[vtable]
impl PathManager for Smapp {
    const NAME: &'static str = "smapp";

    fn attached() {
        ATTACHED.fetch_add(1, Relaxed);
    }

    fn released() {
        RELEASED.fetch_add(1, Relaxed);
        CHANGES.fetch_add(1, Relaxed);
    }

    fn created(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        CREATED.send_start(connection, subflow);
    }

    fn established(connection: &Connection, subflow: &Subflow) {
        ESTAB.send_start(connection, subflow);
    }

    fn closed(connection: &Connection) {
        CHANGES.fetch_add(1, Relaxed);
        CLOSED.send(connection, |_, _| Ok(()));
    }

    fn subflow_established(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        SUB_ESTAB.send_subflow(connection, subflow, put_subflow);
    }

    fn subflow_closed(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        SUB_CLOSED.send_subflow(connection, subflow, put_fate);
    }

    fn subflow_timeout(connection: &Connection, subflow: &Subflow) {
        TIMEOUT.send_subflow(connection, subflow, put_timeout);
    }

    fn subflow_priority(connection: &Connection, subflow: &Subflow) {
        SUB_PRIORITY.send_subflow(connection, subflow, put_subflow);
    }

    fn address_announced(connection: &Connection, address: Endpoint<'_>) -> bool {
        match ADD_ADDR.send(connection, |body, _| put_address(body, &address)) {
            Delivery::Delivered => true,
            Delivery::Unheard => module_parameters::echo_add_addr.value(),
            Delivery::Lost => false,
        }
    }

    fn addresses_withdrawn(connection: &Connection, ids: &[u8]) {
        REM_ADDR.send(connection, |body, _| {
            body.bytes(connection::REMOTE_IDS, ids)
        });
    }

    fn accepts_subflow(connection: &Connection) -> bool {
        connection.info().peer_subflows() < module_parameters::peer_subflows.value()
    }

    fn accepts_join(join: &Join<'_>) -> bool {
        join.siblings() < u32::from(module_parameters::peer_address_subflows.value())
    }
}

impl Watcher for Smapp {
    fn usable(address: &LocalAddress<'_>) {
        NEW_LOCAL_ADDR.send_local(address);
    }

    fn gone(address: &LocalAddress<'_>) {
        DEL_LOCAL_ADDR.send_local(address);
    }
}
