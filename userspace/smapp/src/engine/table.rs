// SPDX-License-Identifier: GPL-2.0
//! The live connections, as far as events have told.
//!
//! Events and listings overlap: an event may wait in the queue while a listing
//! already shows what it is about to say. So every change answers whether it
//! was news, and only news are told to the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::rate_limit::{CONNECTION, RateLimit, UNREACHED};
use crate::kernel::Error;
use crate::model::{
    Address, AddressId, Connection, Errno, Event, Owner, Start, Subflow, SubflowCreate, SubflowId,
    TcpState, Token, What,
};

#[derive(Clone, Debug, Default)]
struct Entry {
    connection: Connection,
    /// Both hosts have confirmed Multipath TCP, as far as is known.
    established: bool,
    /// The policy has been told to take charge of it.
    adopted: bool,
    /// What the peer has announced: as many as there are IDs at most.
    remote_addresses: BTreeMap<AddressId, Address>,
    /// How many subflows this host has opened.
    opened: RateLimit,
    /// Its subflows may leave what its program is bound to.
    unbound: bool,
    /// Subflows whose timer has expired since they made progress last.
    stalls: BTreeMap<SubflowId, Stall>,
    /// When the peer refused a join first, with a RST, while no subflow was left.
    disowned: Option<Duration>,
}

/// Timeouts of a subflow in a row.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Duration,
    timeouts: u8,
}

impl Entry {
    /// Whether the peer announced an address to which no subflow has joined yet.
    fn is_unreached(&self, address: IpAddr) -> bool {
        let mut subflows = self.connection.subflows.iter();
        let mut announced = self.remote_addresses.values();
        announced.any(|known| known.address == address)
            && !subflows.any(|s| s.remote_address == address && s.has_joined())
    }
}

/// How a listing differs from what is known.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reconciled {
    /// What must have happened to the connections that are known.
    pub events: Vec<Event>,
    /// Connections that are known, and that the policy has not been told to take charge
    /// of: the event that would have done it may be lost.
    pub unadopted: Vec<Token>,
    /// Connections that are not known at all.
    pub unknown: Vec<Connection>,
}

/// The live connections by token.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<Token, Entry>,
    /// How many subflows were opened to unreached addresses, on all connections.
    unreached: RateLimit,
}

impl Table {
    pub fn get(&self, token: Token) -> Option<&Connection> {
        self.entries.get(&token).map(|entry| &entry.connection)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.entries.values().map(|entry| &entry.connection)
    }

    /// What the peer of a connection has announced, by ID.
    pub fn remote_addresses(&self, token: Token) -> impl Iterator<Item = &Address> {
        let entry = self.entries.get(&token).into_iter();
        entry.flat_map(|entry| entry.remote_addresses.values())
    }

    /// Takes in a connection that was listed: the policy is told to take charge of it.
    pub fn insert(&mut self, connection: Connection) {
        let established = connection
            .subflows
            .iter()
            .any(|s| !s.initial && s.has_joined());
        self.entries.insert(
            connection.token,
            Entry {
                connection,
                established,
                adopted: true,
                ..Entry::default()
            },
        );
    }

    /// When the timer of a subflow expired first in the row of timeouts that it is in.
    pub fn stalled_since(&self, token: Token, id: SubflowId) -> Option<Duration> {
        let stall = self.entries.get(&token)?.stalls.get(&id)?;
        Some(stall.since)
    }

    /// When the peer refused a join first since the connection has been without a subflow.
    pub fn disowned_since(&self, token: Token) -> Option<Duration> {
        self.entries.get(&token)?.disowned
    }

    /// Takes in an event other than closed; false if it is no news. Only the beginning
    /// of a connection can be about one that is not known.
    pub fn apply(&mut self, event: &Event, now: Duration) -> bool {
        let token = event.token;
        let start = match &event.what {
            What::Created(start) | What::Established(start) => start,
            _ => {
                let entry = self.entries.get_mut(&token);
                return entry.is_some_and(|entry| entry.apply(&event.what, now));
            }
        };
        let new = !self.entries.contains_key(&token);
        let entry = self.open(event, start);
        if let What::Created(_) = event.what {
            if new {
                entry.put(start.subflow, TcpState::ESTABLISHED);
            }
            return new;
        }
        let adopted = std::mem::replace(&mut entry.adopted, true);
        let established = std::mem::replace(&mut entry.established, true);
        if !established {
            entry.put(start.subflow, TcpState::ESTABLISHED);
        }
        // After a join the connection counts as established, but the policy may not have been
        // told to take charge of it.
        !(adopted && established)
    }

    /// Whether a subflow may be opened on a connection now, which is counted.
    pub fn allow(
        &mut self,
        token: Token,
        subflow: &SubflowCreate,
        now: Duration,
    ) -> Result<(), Error> {
        let Some(entry) = self.entries.get_mut(&token) else {
            return Ok(());
        };
        if !entry.opened.take(&CONNECTION, now) {
            return Err(Error::Throttled(CONNECTION.text));
        }
        if entry.is_unreached(subflow.remote.ip()) && !self.unreached.take(&UNREACHED, now) {
            return Err(Error::Throttled(UNREACHED.text));
        }
        Ok(())
    }

    /// The owner of a connection whose subflows stay where it has bound its socket.
    pub fn bound(&self, token: Token) -> Option<&Owner> {
        let entry = self.entries.get(&token)?;
        Some(&entry.connection.owner).filter(|_| !entry.unbound)
    }

    /// Lets subflows of a connection leave what its program is bound to, or no longer so.
    pub fn unbind(&mut self, token: Token, unbind: bool) {
        if let Some(entry) = self.entries.get_mut(&token) {
            entry.unbound = unbind;
        }
    }

    /// A subflow that is bound to the interface that its program is bound to, if it is.
    pub fn confine(&self, token: Token, subflow: &SubflowCreate) -> SubflowCreate {
        let bound = self.bound(token).and_then(|owner| owner.ifindex);
        SubflowCreate {
            ifindex: subflow.ifindex.or(bound),
            ..*subflow
        }
    }

    /// This host asked the peer to use a subflow as backup only, or no longer so.
    pub fn set_backup(&mut self, token: Token, id: SubflowId, backup: bool) {
        let entry = self.entries.get_mut(&token);
        if let Some(subflow) = entry.and_then(|entry| entry.find(id)) {
            subflow.backup = backup;
        }
    }

    /// Takes in a subflow whose SYN has been sent.
    pub fn add(&mut self, token: Token, subflow: Subflow) {
        if let Some(entry) = self.entries.get_mut(&token) {
            entry.put(subflow, TcpState::SYN_SENT);
        }
    }

    /// Takes out a connection that is over.
    pub fn close(&mut self, token: Token) -> Option<Connection> {
        self.entries.remove(&token).map(|entry| entry.connection)
    }

    /// The connections that are known and not in a listing.
    pub fn missing_in(&self, listed: &[Connection]) -> Vec<Token> {
        let listed: BTreeSet<_> = listed.iter().map(|c| c.token).collect();
        let known = self.entries.keys().copied();
        known.filter(|token| !listed.contains(token)).collect()
    }

    /// Compares what is known with what was `listed`.
    pub fn reconcile(&mut self, listed: Vec<Connection>) -> Reconciled {
        let mut events = Vec::new();
        let by_token: BTreeMap<_, _> = listed.iter().map(|c| (c.token, c)).collect();
        for known in self.iter() {
            let event = |what| Event {
                token: known.token,
                server_side: known.server_side,
                what,
            };
            let now = by_token.get(&known.token);
            match now.filter(|now| is_same(known, now)) {
                Some(now) => events.extend(differences(known, now).map(event)),
                None => events.push(event(What::Closed)),
            }
        }
        let mut unadopted = Vec::new();
        let mut unknown = Vec::new();
        for connection in listed {
            let entry = self.entries.get_mut(&connection.token);
            let entry = entry.filter(|known| is_same(&known.connection, &connection));
            let Some(entry) = entry else {
                if !connection.is_connecting() {
                    unknown.push(connection);
                }
                continue;
            };
            entry.connection.fallback = connection.fallback;
            if !std::mem::replace(&mut entry.adopted, true) {
                unadopted.push(connection.token);
            }
            for subflow in connection.subflows {
                if subflow.state == Some(TcpState::SYN_SENT) {
                    entry.put(subflow, TcpState::SYN_SENT);
                }
            }
        }
        Reconciled {
            events,
            unadopted,
            unknown,
        }
    }

    /// The entry of a connection, made from the beginning of it if it has none.
    fn open(&mut self, event: &Event, start: &Start) -> &mut Entry {
        self.entries.entry(event.token).or_insert_with(|| Entry {
            connection: Connection {
                token: event.token,
                server_side: event.server_side,
                deny_join_id0: start.deny_join_id0,
                owner: start.owner,
                ..Connection::default()
            },
            ..Entry::default()
        })
    }
}

impl Entry {
    /// Takes in what happened to a connection that is known.
    fn apply(&mut self, what: &What, now: Duration) -> bool {
        match *what {
            What::SubflowEstablished(subflow) => {
                self.disowned = None;
                // A subflow can join only after both hosts have confirmed.
                self.established = true;
                self.put(subflow, TcpState::ESTABLISHED) != Some(TcpState::ESTABLISHED)
            }
            What::SubflowClosed(subflow) => {
                self.note_refusal(&subflow, now);
                let subflows = &mut self.connection.subflows;
                let before = subflows.len();
                subflows.retain(|known| known.id != subflow.id);
                self.stalls.remove(&subflow.id);
                subflows.len() < before
            }
            What::Timeout(subflow) => {
                let Some(known) = self.find(subflow.id) else {
                    return false;
                };
                known.rto = subflow.rto;
                known.backoff = subflow.backoff;
                known.retransmits = subflow.retransmits;
                known.probes = subflow.probes;
                known.errno_soft = subflow.errno_soft;
                known.unacked = subflow.unacked;
                self.note_stall(&subflow, now);
                true
            }
            What::SubflowPriority(subflow) => self.find(subflow.id).is_some_and(|known| {
                let before = std::mem::replace(&mut known.backup_peer, subflow.backup_peer);
                before != subflow.backup_peer
            }),
            What::AddressAnnounced(address) => {
                self.remote_addresses.insert(address.id, address) != Some(address)
            }
            What::AddressesWithdrawn(ids) => {
                // The policy is told even if the table never had the announcement.
                self.remote_addresses.retain(|id, _| !ids.contains(*id));
                true
            }
            What::Closed | What::Created(_) | What::Established(_) => true,
        }
    }

    /// Notes that the peer refused a join. It may do so for its own reasons, but if none
    /// works it has lost the connection.
    fn note_refusal(&mut self, subflow: &Subflow, now: Duration) {
        let mut subflows = self.connection.subflows.iter();
        if subflow.errno == Some(Errno::ECONNREFUSED) && !subflows.any(Subflow::has_joined) {
            self.disowned.get_or_insert(now);
        }
    }

    /// Notes a timeout. A count that does not go on begins a new row.
    fn note_stall(&mut self, subflow: &Subflow, now: Duration) {
        let timeouts = subflow.unanswered();
        let stall = self.stalls.entry(subflow.id);
        let stall = stall.or_insert(Stall {
            since: now,
            timeouts,
        });
        // The kernel counts up to 255, or begins again with 0.
        let goes_on = timeouts > stall.timeouts || stall.timeouts == u8::MAX;
        if !goes_on {
            stall.since = now;
        }
        stall.timeouts = timeouts;
    }

    fn find(&mut self, id: SubflowId) -> Option<&mut Subflow> {
        let mut subflows = self.connection.subflows.iter_mut();
        subflows.find(|subflow| subflow.id == id)
    }

    /// Puts a subflow in, in `state`; gives the state that it had before.
    fn put(&mut self, subflow: Subflow, state: TcpState) -> Option<TcpState> {
        let subflow = Subflow {
            state: Some(state),
            ..subflow
        };
        let subflows = &mut self.connection.subflows;
        match subflows.iter_mut().find(|known| known.id == subflow.id) {
            Some(known) => std::mem::replace(known, subflow).state,
            None => {
                subflows.push(subflow);
                None
            }
        }
    }
}

/// Whether two connections with one token are the same: the token of one that is over may
/// come again, the cookie of its socket does not.
fn is_same(known: &Connection, now: &Connection) -> bool {
    let cookies = known.owner.cookie.zip(now.owner.cookie);
    known.server_side == now.server_side && cookies.is_none_or(|(before, now)| before == now)
}

/// What happened to a connection between two looks at it.
fn differences<'a>(before: &'a Connection, now: &'a Connection) -> impl Iterator<Item = What> + 'a {
    let gone = before
        .subflows
        .iter()
        .filter(|s| now.subflow(s.id).is_none());
    let gone = gone.map(|&subflow| {
        What::SubflowClosed(Subflow {
            errno: None,
            state: Some(TcpState::CLOSE),
            ..subflow
        })
    });
    let changed = now.subflows.iter().filter_map(|&subflow| {
        let known = before.subflow(subflow.id);
        if subflow.has_joined() && !known.is_some_and(Subflow::has_joined) {
            return Some(What::SubflowEstablished(subflow));
        }
        let turned = known.is_some_and(|known| known.backup_peer != subflow.backup_peer);
        turned.then_some(What::SubflowPriority(subflow))
    });
    gone.chain(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_still_connecting_is_not_taken_in() {
        let listed = |state| Connection {
            token: Token(1),
            subflows: vec![Subflow {
                initial: true,
                state: Some(state),
                ..Subflow::default()
            }],
            ..Connection::default()
        };
        let mut table = Table::default();
        let connecting = vec![listed(TcpState::SYN_SENT)];
        assert_eq!(table.reconcile(connecting), Reconciled::default());
        let connected = vec![listed(TcpState::ESTABLISHED)];
        assert_eq!(table.reconcile(connected.clone()).unknown, connected);
    }
}
