// SPDX-License-Identifier: GPL-2.0
//! The live connections, as far as events have told.
//!
//! Events and listings overlap: an event may wait in the queue while a listing
//! already shows what it is about to say. So every change answers whether it
//! was news, and what is not is not told to the controller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::allowance::{self, Allowance, Bound};
use crate::command::SubflowCreate;
use crate::event::{AddressId, Event, SubflowId, Token};
use crate::message::{Address, Connection, Owner, Subflow, TcpState};

#[derive(Clone, Debug, Default)]
struct Entry {
    connection: Connection,
    established: bool,
    /// What the peer has announced: as many as there are IDs at most.
    remote_addresses: BTreeMap<AddressId, Address>,
    allowance: Allowance,
}

fn joined(subflow: &Subflow) -> bool {
    subflow.state == Some(TcpState::ESTABLISHED)
}

impl Entry {
    /// Whether the peer announced an address to which no subflow has joined yet.
    fn is_unreached(&self, address: IpAddr) -> bool {
        let mut subflows = self.connection.subflows.iter();
        let mut announced = self.remote_addresses.values();
        announced.any(|known| known.address == address)
            && !subflows.any(|s| s.remote_address == address && joined(s))
    }
}

/// The live connections by token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: BTreeMap<Token, Entry>,
    /// For all connections.
    unreached: Allowance,
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

    /// Takes in a connection that was listed.
    pub fn insert(&mut self, connection: Connection) {
        let established = connection.subflows.iter().any(|s| !s.initial && joined(s));
        self.entries.insert(
            connection.token,
            Entry {
                connection,
                established,
                ..Entry::default()
            },
        );
    }

    /// Takes in an event other than closed; false if it is no news.
    pub fn apply(&mut self, event: &Event) -> bool {
        match *event {
            Event::Created { subflow, .. } => {
                let new = !self.entries.contains_key(&event.token());
                if new {
                    self.open(event).put(subflow, TcpState::ESTABLISHED);
                }
                new
            }
            Event::Established { subflow, .. } => {
                let entry = self.open(event);
                let known = std::mem::replace(&mut entry.established, true);
                if !known {
                    entry.put(subflow, TcpState::ESTABLISHED);
                }
                !known
            }
            Event::SubflowEstablished { subflow, .. } => {
                let entry = self.open(event);
                // Unless the initial subflow is not known: estab is going to tell of it.
                let subflows = &entry.connection.subflows;
                entry.established |= subflows.iter().any(|known| known.initial);
                entry.put(subflow, TcpState::ESTABLISHED) != Some(TcpState::ESTABLISHED)
            }
            Event::SubflowClosed { token, subflow, .. } => self.remove(token, subflow.id),
            Event::Timeout { token, subflow, .. } => {
                let known = self.find(token, subflow.id);
                known.is_some_and(|known| {
                    known.rto = subflow.rto;
                    known.backoff = subflow.backoff;
                    known.retransmits = subflow.retransmits;
                    known.errno_soft = subflow.errno_soft;
                    known.unacked = subflow.unacked;
                    true
                })
            }
            Event::SubflowPriority { token, subflow, .. } => {
                let known = self.find(token, subflow.id);
                known.is_some_and(|known| {
                    let before = std::mem::replace(&mut known.backup_peer, subflow.backup_peer);
                    before != subflow.backup_peer
                })
            }
            Event::AddressAnnounced { address, .. } => {
                let known = &mut self.open(event).remote_addresses;
                known.insert(address.id, address) != Some(address)
            }
            Event::AddressesWithdrawn {
                token, remote_ids, ..
            } => {
                // News even if the announcement came before this table was there.
                self.entries.get_mut(&token).is_some_and(|entry| {
                    let known = &mut entry.remote_addresses;
                    known.retain(|id, _| !remote_ids.contains(*id));
                    true
                })
            }
            Event::Closed { token, .. } => self.entries.contains_key(&token),
        }
    }

    /// Whether a subflow may be opened on a connection now, which is counted, or which
    /// bound forbids it.
    pub fn allow(
        &mut self,
        token: Token,
        subflow: &SubflowCreate,
        now: Duration,
    ) -> Result<(), &'static Bound> {
        let Some(entry) = self.entries.get_mut(&token) else {
            return Ok(());
        };
        if !entry.allowance.take(&allowance::CONNECTION, now) {
            return Err(&allowance::CONNECTION);
        }
        let reached = !entry.is_unreached(subflow.remote.ip());
        if reached || self.unreached.take(&allowance::UNREACHED, now) {
            Ok(())
        } else {
            Err(&allowance::UNREACHED)
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

    /// The events that lead from what is known to what was `listed`, and the
    /// connections in it that are not known at all.
    pub fn reconcile(&mut self, listed: Vec<Connection>) -> (Vec<Event>, Vec<Connection>) {
        let mut events = Vec::new();
        let by_token: BTreeMap<_, _> = listed.iter().map(|c| (c.token, c)).collect();
        for known in self.iter() {
            let (token, server_side) = (known.token, known.server_side);
            let now = by_token.get(&token).filter(|now| is_same(known, now));
            let Some(now) = now else {
                events.push(Event::Closed { token, server_side });
                continue;
            };
            for &subflow in &known.subflows {
                if now.subflow(subflow.id).is_none() {
                    let subflow = Subflow {
                        errno: None,
                        state: Some(TcpState::CLOSE),
                        ..subflow
                    };
                    events.push(Event::SubflowClosed {
                        token,
                        server_side,
                        subflow,
                    });
                }
            }
            for &subflow in &now.subflows {
                let before = known.subflow(subflow.id).map(|s| s.state);
                let joined = subflow.state == Some(TcpState::ESTABLISHED);
                if joined && before != Some(Some(TcpState::ESTABLISHED)) {
                    events.push(Event::SubflowEstablished {
                        token,
                        server_side,
                        subflow,
                    });
                } else if known.subflow(subflow.id).map(|s| s.backup_peer)
                    == Some(!subflow.backup_peer)
                {
                    events.push(Event::SubflowPriority {
                        token,
                        server_side,
                        subflow,
                    });
                }
            }
        }
        let mut unknown = Vec::new();
        for connection in listed {
            let entry = self.entries.get_mut(&connection.token);
            let entry = entry.filter(|known| is_same(&known.connection, &connection));
            let Some(entry) = entry else {
                if !is_connecting(&connection) {
                    unknown.push(connection);
                }
                continue;
            };
            entry.connection.fallback = connection.fallback;
            for subflow in connection.subflows {
                if subflow.state == Some(TcpState::SYN_SENT) {
                    entry.put(subflow, TcpState::SYN_SENT);
                }
            }
        }
        (events, unknown)
    }

    /// The entry of a connection, made from `event` if it has none: a listener
    /// may have registered for fewer events, or have started in their midst.
    fn open(&mut self, event: &Event) -> &mut Entry {
        let (deny_join_id0, owner) = match *event {
            Event::Created {
                deny_join_id0,
                owner,
                ..
            }
            | Event::Established {
                deny_join_id0,
                owner,
                ..
            } => (deny_join_id0, owner),
            _ => (false, Owner::default()),
        };
        self.entries.entry(event.token()).or_insert_with(|| Entry {
            connection: Connection {
                token: event.token(),
                server_side: event.server_side(),
                deny_join_id0,
                owner,
                ..Connection::default()
            },
            ..Entry::default()
        })
    }

    fn find(&mut self, token: Token, id: SubflowId) -> Option<&mut Subflow> {
        let subflows = &mut self.entries.get_mut(&token)?.connection.subflows;
        subflows.iter_mut().find(|subflow| subflow.id == id)
    }

    fn remove(&mut self, token: Token, id: SubflowId) -> bool {
        let Some(entry) = self.entries.get_mut(&token) else {
            return false;
        };
        let subflows = &mut entry.connection.subflows;
        let before = subflows.len();
        subflows.retain(|subflow| subflow.id != id);
        subflows.len() < before
    }
}

impl Entry {
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

/// Whether a connection may still fail to come about: its end would not be told.
fn is_connecting(connection: &Connection) -> bool {
    let mut subflows = connection.subflows.iter();
    subflows.any(|s| s.initial && s.state == Some(TcpState::SYN_SENT))
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
        assert_eq!(table.reconcile(connecting), (vec![], vec![]));
        let connected = vec![listed(TcpState::ESTABLISHED)];
        assert_eq!(table.reconcile(connected.clone()), (vec![], connected));
    }
}
