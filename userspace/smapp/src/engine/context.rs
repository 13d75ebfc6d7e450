// SPDX-License-Identifier: GPL-2.0
//! What a policy can see and do.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::journal::Journal;
use super::moves::Moves;
use super::table::Table;
use super::timers::Timers;
use crate::kernel::{Error, Kernel};
use crate::model::{
    Address, Answer, Command, Connection, Errno, EventSet, LocalAddress, Subflow, SubflowCreate,
    SubflowDestroy, SubflowId, Token,
};

/// The shortest delay of a timer: a policy that sets one again in its callback must not spin.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// What a policy can see and do. A policy that was given some connections sees and
/// touches no others: a command about another is refused with [`Error::NotOurs`].
pub struct Context<'a> {
    pub(super) kernel: &'a mut dyn Kernel,
    pub(super) table: &'a mut Table,
    pub(super) timers: &'a mut Timers,
    pub(super) journal: &'a mut Journal,
    pub(super) addresses: &'a [LocalAddress],
    pub(super) moves: &'a Moves,
    /// The connections that the policy was given; none if it has all.
    pub(super) scope: Option<&'a BTreeSet<Token>>,
    /// One of them, which most of what comes is about: it is not looked up each time.
    pub(super) at_hand: Option<Token>,
}

impl<'a> Context<'a> {
    /// The same for a policy whose business is only the connections in `scope`, to be told
    /// of the one at hand.
    pub(crate) fn within<'b>(
        &'b mut self,
        scope: &'b BTreeSet<Token>,
        at_hand: Option<Token>,
    ) -> Context<'b> {
        Context {
            kernel: &mut *self.kernel,
            table: &mut *self.table,
            timers: &mut *self.timers,
            journal: &mut *self.journal,
            addresses: self.addresses,
            moves: self.moves,
            scope: Some(scope),
            at_hand: at_hand.filter(|token| scope.contains(token)),
        }
    }

    /// What is written down about decisions.
    pub(crate) fn journal(&mut self) -> &mut Journal {
        self.journal
    }

    /// Registers for more events.
    pub(crate) fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        self.kernel.listen(events)
    }

    fn is_ours(&self, token: Token) -> bool {
        self.at_hand == Some(token) || self.scope.is_none_or(|scope| scope.contains(&token))
    }

    fn check(&self, token: Token) -> Result<(), Error> {
        match self.is_ours(token) {
            true => Ok(()),
            false => Err(Error::NotOurs(token)),
        }
    }

    /// The time on the clock of the kernel, since some fixed moment.
    pub fn now(&self) -> Duration {
        self.kernel.now()
    }

    /// The word for what is at hand: that of an event, or `attached`, `timer`, `control`,
    /// `reload`, `routes`.
    pub fn event(&self) -> &'static str {
        self.journal.event()
    }

    /// A live connection.
    pub fn connection(&self, token: Token) -> Option<&Connection> {
        self.table.get(token).filter(|_| self.is_ours(token))
    }

    /// A live connection that this host opened and that can take more subflows.
    pub fn client_connection(&self, token: Token) -> Option<&Connection> {
        let connection = self.connection(token);
        connection.filter(|c| !c.server_side && !c.fallback && !c.deny_join_id0)
    }

    /// All live connections of this policy.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.table.iter().filter(|c| self.is_ours(c.token))
    }

    /// Lets subflows of a connection leave the interface or address that its program is
    /// bound to, or no longer so.
    pub(crate) fn unbind(&mut self, token: Token, unbind: bool) {
        self.table.unbind(token, unbind);
    }

    /// Asks the kernel for a connection: with what TCP and Multipath TCP know
    /// of it now. The table stays as it is, its changes are events.
    pub fn query(&mut self, token: Token) -> Result<Connection, Error> {
        self.check(token)?;
        self.kernel.connection(token)
    }

    /// What the peer of a connection has announced and not withdrawn since the
    /// engine attached. An announcement that was lost is not among them.
    pub fn remote_addresses(&self, token: Token) -> impl Iterator<Item = &Address> {
        let ours = self.is_ours(token).then_some(token).into_iter();
        ours.flat_map(|token| self.table.remote_addresses(token))
    }

    /// For how long a subflow has made no progress, as far as timeouts told: since the
    /// first one in the row that it is in now, according to `subflow`, which is what a
    /// timeout or an answer to [`query`](Self::query) said. The retransmission timeout says
    /// less: TCP takes a doubling of it back when it was this host that could not send
    /// (RFC 6069).
    pub fn stalled(&self, token: Token, subflow: &Subflow) -> Duration {
        let since = match subflow.unanswered() {
            0 => None,
            _ if !self.is_ours(token) => None,
            _ => self.table.stalled_since(token, subflow.id),
        };
        since.map_or(Duration::ZERO, |since| self.now().saturating_sub(since))
    }

    /// The local addresses; [`usable_addresses`](Self::usable_addresses) has those from
    /// which a connection may have new subflows.
    pub fn addresses(&self) -> &'a [LocalAddress] {
        self.addresses
    }

    /// Opens a subflow; it is in the table when this returns. A connection may open 256
    /// at once and one more each second; all of them together 1024 at once and 100 more
    /// each second to addresses that peers announced and no subflow has reached. Beyond
    /// that it is [`Error::Throttled`]. Where the peer refuses the joins of a connection
    /// that has no subflow left, it is [`Error::Disowned`] after a while.
    pub fn subflow_create(
        &mut self,
        token: Token,
        subflow: &SubflowCreate,
    ) -> Result<Subflow, Error> {
        self.allow(token, subflow)?;
        let subflow = self.table.confine(token, subflow);
        let created = self.kernel.subflow_create(token, &subflow)?;
        self.table.add(token, created);
        Ok(created)
    }

    /// Whether a subflow may be opened now, which is counted.
    fn allow(&mut self, token: Token, subflow: &SubflowCreate) -> Result<(), Error> {
        self.check(token)?;
        let now = self.kernel.now();
        if let Some(since) = self.table.disowned_since(token) {
            // The kernel ends a connection without subflows after close_timeout, and each join
            // starts that time anew. Half of it here and one of it there are less than twice.
            if now.saturating_sub(since) >= self.kernel.close_timeout() / 2 {
                return Err(Error::Disowned);
            }
        }
        self.table.allow(token, subflow, now)
    }

    /// Opens several subflows at once; those that were not refused are in the table
    /// when this returns.
    pub fn subflow_create_all(
        &mut self,
        token: Token,
        subflows: &[SubflowCreate],
    ) -> Vec<Result<Subflow, Error>> {
        // If one of them is throttled the others may still be opened.
        let mut answers: Vec<Result<(), Error>> = Vec::with_capacity(subflows.len());
        answers.extend(subflows.iter().map(|subflow| self.allow(token, subflow)));
        let allowed = subflows.iter().zip(&answers).filter(|(_, may)| may.is_ok());
        let commands = allowed.map(|(subflow, _)| self.table.confine(token, subflow));
        let commands = commands.map(|subflow| Command::SubflowCreate(token, subflow));
        let commands: Vec<_> = commands.collect();
        let mut created = self.kernel.commands(&commands).into_iter();
        let answer = |may: Result<(), Error>| {
            may?;
            match created.next() {
                Some(Ok(Answer::Subflow(subflow))) => {
                    self.table.add(token, subflow);
                    Ok(subflow)
                }
                Some(Err(error)) => Err(error),
                _ => Err(Error::NoAnswer("subflow-create")),
            }
        };
        answers.into_iter().map(answer).collect()
    }

    /// Closes a subflow; it leaves the table with its event. One that is over already is no
    /// error: its event is on its way.
    pub fn subflow_destroy(
        &mut self,
        token: Token,
        subflow: impl Into<SubflowDestroy>,
    ) -> Result<(), Error> {
        self.check(token)?;
        match self.kernel.subflow_destroy(token, &subflow.into()) {
            Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }

    /// Asks the peer to use a subflow as backup only, or no longer so.
    pub fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error> {
        self.check(token)?;
        self.kernel.subflow_set_backup(token, id, backup)?;
        self.table.set_backup(token, id, backup);
        Ok(())
    }

    /// Announces a local address to the peer, with a port unless it is the one
    /// of the initial subflow; tells the number that it got.
    pub fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        self.check(token)?;
        self.kernel.announce(token, address, port)
    }

    /// Withdraws an address, as [`announce`](Self::announce) told it. Subflows stay.
    pub fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error> {
        self.check(token)?;
        self.kernel.withdraw(token, address)
    }

    /// Has [`Policy::timer`](super::Policy::timer) called with `key` after `delay`, if the
    /// connection still lives then, and at the soonest in a millisecond. A timer of the
    /// connection with the same key is replaced.
    pub fn timer(&mut self, token: Token, delay: Duration, key: u32) {
        if self.is_ours(token) {
            let due = self.kernel.now().saturating_add(delay.max(SHORTEST_DELAY));
            self.timers.set(due, token, key);
        }
    }

    /// Takes back a timer, if it is set.
    pub fn cancel(&mut self, token: Token, key: u32) {
        if self.is_ours(token) {
            self.timers.cancel(token, key);
        }
    }

    /// Takes back all timers of a connection: another policy takes charge of it.
    pub fn cancel_all(&mut self, token: Token) {
        if self.is_ours(token) {
            self.timers.end(token);
        }
    }

    /// Writes down why something is done or left, for the log and for
    /// [`Engine::decisions`](super::Engine::decisions): the event at hand, then
    /// a colon, then what follows from it.
    pub fn explain(&mut self, token: Token, why: fmt::Arguments<'_>) {
        if self.is_ours(token) {
            self.journal.write(self.kernel.now(), token, why);
        }
    }
}
