// SPDX-License-Identifier: GPL-2.0
//! Policies: what subflows should exist.

mod fullmesh;

use std::net::IpAddr;
use std::time::Duration;

use crate::address::LocalAddress;
use crate::backend::Backend;
use crate::command::{SubflowCreate, SubflowDestroy};
use crate::error::Error;
use crate::event::{EventSet, SubflowId, Token};
use crate::message::{Address, AddressIds, Connection, Subflow};
use crate::table::Table;
use crate::timer::Timers;

pub use fullmesh::Fullmesh;

/// A policy, told by an [`Engine`](crate::Engine) what happens.
///
/// Callbacks run one at a time. The table in the context already contains what
/// a callback tells. Callbacks do nothing unless they are implemented.
#[allow(unused_variables)]
pub trait Controller {
    /// The events to register for. `closed` always comes too: without it the
    /// table would only grow.
    fn events(&self) -> EventSet;

    /// A connection was there before the controller, or its events were lost.
    /// Whether subflows can be added yet is not known: a command may answer
    /// ENOTCONN, and [`established`](Self::established) may still come.
    fn attached(&mut self, context: &mut Context<'_>, token: Token) {}

    /// A connection exists; no subflow can be added yet.
    fn created(&mut self, context: &mut Context<'_>, token: Token) {}

    /// Both hosts have confirmed Multipath TCP: subflows can be added.
    fn established(&mut self, context: &mut Context<'_>, token: Token) {}

    /// A connection is over, with the subflows it had last.
    fn closed(&mut self, context: &mut Context<'_>, connection: &Connection) {}

    /// A subflow has joined.
    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// A subflow is over or could not be set up; its errno tells why.
    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The retransmission timer of a subflow has expired.
    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The peer has asked to use a subflow as backup only, or no longer so.
    fn subflow_priority(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The peer has announced an address; [`Context::remote_addresses`] has
    /// all of them.
    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {}

    /// The peer has withdrawn the addresses with these numbers; the kernel
    /// closes the subflows to them.
    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, ids: AddressIds) {}

    /// A local address can be used from now on.
    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {}

    /// A local address can no longer be used.
    fn address_down(&mut self, context: &mut Context<'_>, address: LocalAddress) {}

    /// A timer that was set for a live connection is due.
    fn timer(&mut self, context: &mut Context<'_>, token: Token) {}
}

/// What a controller can see and do.
pub struct Context<'a> {
    pub(crate) backend: &'a mut dyn Backend,
    pub(crate) table: &'a mut Table,
    pub(crate) timers: &'a mut Timers,
    pub(crate) addresses: &'a [LocalAddress],
}

impl<'a> Context<'a> {
    /// Time since some fixed moment.
    pub fn now(&self) -> Duration {
        self.backend.now()
    }

    /// A live connection.
    pub fn connection(&self, token: Token) -> Option<&Connection> {
        self.table.get(token)
    }

    /// All live connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.table.iter()
    }

    /// What the peer of a connection has announced and not withdrawn since the
    /// engine attached. An announcement that was lost is not among them.
    pub fn remote_addresses(&self, token: Token) -> impl Iterator<Item = &Address> {
        self.table.remote_addresses(token)
    }

    /// The usable local addresses.
    pub fn addresses(&self) -> &'a [LocalAddress] {
        self.addresses
    }

    /// Opens a subflow; it is in the table when this returns.
    pub fn subflow_create(
        &mut self,
        token: Token,
        subflow: &SubflowCreate,
    ) -> Result<Subflow, Error> {
        let created = self.backend.subflow_create(token, subflow)?;
        self.table.add(token, created);
        Ok(created)
    }

    /// Closes a subflow; it leaves the table with its event.
    pub fn subflow_destroy(
        &mut self,
        token: Token,
        subflow: impl Into<SubflowDestroy>,
    ) -> Result<(), Error> {
        self.backend.subflow_destroy(token, &subflow.into())
    }

    /// Asks the peer to use a subflow as backup only, or no longer so.
    pub fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error> {
        self.backend.subflow_set_backup(token, id, backup)
    }

    /// Announces a local address to the peer, with a port unless it is the one
    /// of the initial subflow; tells the number that it got.
    pub fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        self.backend.announce(token, address, port)
    }

    /// Withdraws an address, as [`announce`](Self::announce) told it. Subflows stay.
    pub fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error> {
        self.backend.withdraw(token, address)
    }

    /// Has [`Controller::timer`] called after `delay`, if the connection still
    /// lives then.
    pub fn timer(&mut self, token: Token, delay: Duration) {
        self.timers.set(self.backend.now() + delay, token);
    }
}
