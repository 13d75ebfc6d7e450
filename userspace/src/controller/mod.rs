// SPDX-License-Identifier: GPL-2.0
//! Policies: what subflows should exist.

pub mod backup;
mod dispatch;
pub mod fullmesh;
pub mod limit;
pub mod ndiffports;
pub mod refresh;
mod retry;
pub mod streaming;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::LocalAddress;
use crate::allowance::Bound;
use crate::backend::Backend;
use crate::command::{SubflowCreate, SubflowDestroy};
use crate::error::{Errno, Error};
use crate::event::{EventSet, SubflowId, Token};
use crate::journal::Journal;
use crate::message::{Address, AddressIds, Connection, Subflow, TcpState};
use crate::table::Table;
use crate::timer::Timers;

pub use dispatch::Dispatch;
pub(crate) use retry::Random;

/// A policy, told by an [`Engine`](crate::Engine) what happens.
///
/// Callbacks run one at a time. The table in the context already contains what
/// a callback tells. Callbacks do nothing unless they are implemented.
#[allow(unused_variables)]
pub trait Controller {
    /// The events to register for. `closed` and `sub_closed` always come too:
    /// without them the table would only grow.
    fn events(&self) -> EventSet;

    /// A connection was there before the controller, or its events were lost.
    /// Whether subflows can be added yet is not known: a command may answer
    /// ENOTCONN, and [`established`](Self::established) may still come.
    fn attached(&mut self, context: &mut Context<'_>, token: Token) {}

    /// A connection exists; no subflow can be added yet.
    fn created(&mut self, context: &mut Context<'_>, token: Token) {}

    /// Both hosts have confirmed Multipath TCP: subflows can be added.
    fn established(&mut self, context: &mut Context<'_>, token: Token) {}

    /// A connection is over, with the subflows it had last; or it goes to
    /// another policy, see [`Dispatch`], and its subflows stay.
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
    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {}
}

impl<C: Controller + ?Sized> Controller for Box<C> {
    fn events(&self) -> EventSet {
        (**self).events()
    }

    fn attached(&mut self, context: &mut Context<'_>, token: Token) {
        (**self).attached(context, token);
    }

    fn created(&mut self, context: &mut Context<'_>, token: Token) {
        (**self).created(context, token);
    }

    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        (**self).established(context, token);
    }

    fn closed(&mut self, context: &mut Context<'_>, connection: &Connection) {
        (**self).closed(context, connection);
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        (**self).subflow_established(context, token, subflow);
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        (**self).subflow_closed(context, token, subflow);
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        (**self).timeout(context, token, subflow);
    }

    fn subflow_priority(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        (**self).subflow_priority(context, token, subflow);
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {
        (**self).address_announced(context, token, address);
    }

    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, ids: AddressIds) {
        (**self).addresses_withdrawn(context, token, ids);
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        (**self).address_up(context, address);
    }

    fn address_down(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        (**self).address_down(context, address);
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        (**self).timer(context, token, key);
    }
}

/// What a controller can see and do.
pub struct Context<'a> {
    pub(crate) backend: &'a mut dyn Backend,
    pub(crate) table: &'a mut Table,
    pub(crate) timers: &'a mut Timers,
    pub(crate) journal: &'a mut Journal,
    pub(crate) addresses: &'a [LocalAddress],
    /// The connections of the policy at hand; none: all are.
    pub(crate) only: Option<&'a BTreeSet<Token>>,
}

impl<'a> Context<'a> {
    /// The same for a policy whose business is `only` these connections.
    pub(crate) fn within<'b>(&'b mut self, only: &'b BTreeSet<Token>) -> Context<'b> {
        Context {
            backend: &mut *self.backend,
            table: &mut *self.table,
            timers: &mut *self.timers,
            journal: &mut *self.journal,
            addresses: self.addresses,
            only: Some(only),
        }
    }

    /// Registers for more events.
    pub(crate) fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        self.backend.listen(events)
    }

    /// Time since some fixed moment.
    pub fn now(&self) -> Duration {
        self.backend.now()
    }

    /// A live connection.
    pub fn connection(&self, token: Token) -> Option<&Connection> {
        self.table.get(token)
    }

    /// All live connections that are the business of this policy.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        let ours = |c: &&Connection| self.only.is_none_or(|only| only.contains(&c.token));
        self.table.iter().filter(ours)
    }

    /// Asks the kernel for a connection: with what TCP and Multipath TCP know
    /// of it now. The table stays as it is, its changes are events.
    pub fn query(&mut self, token: Token) -> Result<Connection, Error> {
        self.backend.connection(token)
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

    /// Opens a subflow; it is in the table when this returns. A connection may open 256
    /// at once and one more each second; all of them together 1024 at once and 100 more
    /// each second to addresses that peers announced and no subflow has reached. Beyond
    /// that it is [`Error::Throttled`].
    pub fn subflow_create(
        &mut self,
        token: Token,
        subflow: &SubflowCreate,
    ) -> Result<Subflow, Error> {
        let allowed = self.table.allow(token, subflow, self.backend.now());
        allowed.map_err(|bound| Error::Throttled(bound.text))?;
        let created = self.backend.subflow_create(token, subflow)?;
        self.table.add(token, created);
        Ok(created)
    }

    /// Opens several subflows at once; those that were not refused are in the table
    /// when this returns.
    pub fn subflow_create_all(
        &mut self,
        token: Token,
        subflows: &[SubflowCreate],
    ) -> Vec<Result<Subflow, Error>> {
        let now = self.backend.now();
        // What one of them may not reach is no reason to refuse the others.
        let each = subflows.iter().map(|s| self.table.allow(token, s, now));
        let each: Vec<_> = each.collect();
        let allowed = subflows.iter().zip(&each).filter(|(_, may)| may.is_ok());
        let allowed: Vec<_> = allowed.map(|(subflow, _)| *subflow).collect();
        let created = self.backend.subflow_create_all(token, &allowed);
        for subflow in created.iter().flatten() {
            self.table.add(token, *subflow);
        }
        let mut created = created.into_iter();
        let answer = |may: Result<(), &Bound>| match may {
            Ok(()) => created
                .next()
                .unwrap_or(Err(Error::NoAnswer("subflow-create"))),
            Err(bound) => Err(Error::Throttled(bound.text)),
        };
        each.into_iter().map(answer).collect()
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

    /// Has [`Controller::timer`] called with `key` after `delay`, if the
    /// connection still lives then. A timer of the connection with the same key
    /// is replaced.
    pub fn timer(&mut self, token: Token, delay: Duration, key: u32) {
        self.timers.set(self.backend.now() + delay, token, key);
    }

    /// Takes back a timer, if it is set.
    pub fn cancel(&mut self, token: Token, key: u32) {
        self.timers.cancel(token, key);
    }

    /// Takes back all timers of a connection: another policy takes charge of it.
    pub fn cancel_all(&mut self, token: Token) {
        self.timers.end(token);
    }

    /// Writes down why something is done or left, for the log and for
    /// [`Engine::decisions`](crate::Engine::decisions): the event at hand, then
    /// a colon, then what follows from it.
    pub fn explain(&mut self, token: Token, why: fmt::Arguments<'_>) {
        self.journal.write(self.backend.now(), token, why);
    }
}

/// Whether a subflow has joined.
fn joined(subflow: &Subflow) -> bool {
    subflow.state == Some(TcpState::ESTABLISHED)
}

/// Whether this host opened a subflow, so that it may close it as well.
fn ours(subflow: &Subflow) -> bool {
    subflow.active || subflow.initial
}

/// The retransmission timeout of a subflow, as far as is known.
fn rto(subflow: &Subflow) -> Duration {
    let asked = subflow.tcp_info.map(|info| info.rto);
    Duration::from_micros(asked.or(subflow.rto).unwrap_or(0).into())
}

/// Whether a refusal holds for the rest of the connection: it is plain TCP, the
/// peer denies joins, it has no longer this path manager, or is over.
fn is_final(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM | Errno::ESRCH)
    )
}

/// The connection, if this host opened it and more subflows are possible.
fn client_side<'a>(context: &'a Context<'_>, token: Token) -> Option<&'a Connection> {
    let connection = context.connection(token);
    connection.filter(|c| !c.server_side && !c.fallback && !c.deny_join_id0)
}
