// SPDX-License-Identifier: GPL-2.0
//! The live connections, and what the kernel's events and sockets mean for them.
//!
//! The kernel tells some things never (a connection that the peer closed by MP_FASTCLOSE),
//! some twice (to who listens while a listing is on its way), and some out of order
//! (ESTABLISHED after CLOSED). What is about a connection that is not known is about one
//! that is over, or has another path manager: it is ignored.

use std::collections::BTreeMap;
use std::time::Duration;

use super::addresses::Ids;
use super::subflows::{Entry, Subflows};
use super::wire::diag::{ConnectionSocket, SubflowSocket, Ulp};
use super::wire::ends::Ends;
use super::wire::event;
use super::wire::record::Record;
use crate::kernel::Input;
use crate::model::{
    Address, Connection, Errno, Event, IfIndex, Owner, Start, Subflow, SubflowId, TcpState, Token,
    What,
};

/// A subflow that ends sooner after it has joined may have been refused: the peer's
/// answer to the last packet of the handshake takes a round trip.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// A connection as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub token: Token,
    pub server_side: bool,
    pub deny_join_id0: bool,
    pub owner: Owner,
    /// Those of its own socket, and of the initial subflow.
    pub ends: Ends,
    pub subflows: Subflows,
    pub ids: Ids,
    /// First byte that was not acknowledged when it was seen first.
    first_una: Option<u64>,
    /// The path manager in user space has it: what is another's is only known in order to
    /// be ignored.
    pub managed: bool,
    /// Its socket has closed; the event may be still to come.
    pub ended: bool,
}

impl Known {
    fn new(token: Token, server_side: bool, ends: Ends) -> Self {
        Self {
            token,
            server_side,
            deny_join_id0: false,
            owner: Owner::default(),
            ends,
            subflows: Subflows::default(),
            ids: Ids::default(),
            first_una: None,
            managed: true,
            ended: false,
        }
    }

    /// An input about this connection.
    pub fn tell(&self, what: What) -> Input {
        Input::Event(Event {
            token: self.token,
            server_side: self.server_side,
            what,
        })
    }

    /// Takes in what its socket says.
    fn learn(&mut self, socket: &ConnectionSocket) {
        self.owner = socket.owner;
        self.first_una = self.first_una.or(Some(socket.snd_una));
    }

    fn start(&self, subflow: Subflow) -> Start {
        Start {
            deny_join_id0: self.deny_join_id0,
            owner: self.owner,
            subflow,
        }
    }

    /// The entry of the initial subflow, whose handshake is complete from the start.
    fn initial(&mut self, now: Duration) -> &mut Entry {
        let entry = self.subflows.meet(&self.ends);
        entry.initial = true;
        entry.active = !self.server_side;
        entry.joined = entry.joined.or(Some(now));
        entry
    }

    /// The value of the model, with these of its subflows.
    pub fn connection(&self, socket: &ConnectionSocket, subflows: Vec<Subflow>) -> Connection {
        /// Where the kernel's structure ends that has no bytes_acked: up to 6.1.
        const SHORT: usize = 80;
        let mut info = socket.info;
        if let (..SHORT, Some(first)) = (socket.info_len, self.first_una) {
            info.bytes_acked = socket.snd_una.wrapping_sub(first);
        }
        Connection {
            token: self.token,
            server_side: self.server_side,
            deny_join_id0: self.deny_join_id0,
            fallback: socket.fallback,
            extra_subflows: socket.extra_subflows,
            owner: self.owner,
            info: Some(info),
            subflows,
        }
    }
}

/// Why a subflow has ended: what the event says, else what its socket said when it closed.
/// `complete` tells that no such record is missing.
fn why(entry: &Entry, told: Option<Errno>, complete: bool, now: Duration) -> Option<Errno> {
    if entry.destroyed {
        return Some(Errno(0));
    }
    if told.is_some() {
        return told;
    }
    match entry.end {
        // A FIN takes a socket through other states than these.
        Some(end) if end.errno == Errno(0) && is_open(end.state) => Some(Errno::ECONNRESET),
        Some(end) => Some(end.errno),
        None if complete => Some(Errno(0)),
        // Of a refusal after the SYN/ACK the kernel tells what it tells of a FIN.
        None => {
            let joined = entry.joined?;
            (entry.initial || now.saturating_sub(joined) > SHORT_LIFE).then_some(Errno(0))
        }
    }
}

/// Whether neither host has closed its direction.
fn is_open(state: TcpState) -> bool {
    matches!(state, TcpState::ESTABLISHED | TcpState::SYN_SENT)
}

/// The live connections by token.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections {
    known: BTreeMap<Token, Known>,
}

impl Connections {
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Those that the path manager in user space has.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.known.values().filter(|known| known.managed)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.known.values_mut().filter(|known| known.managed)
    }

    /// A connection that is managed.
    pub fn get(&self, token: Token) -> Option<&Known> {
        self.known.get(&token).filter(|known| known.managed)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Known> {
        self.known.get_mut(&token).filter(|known| known.managed)
    }

    /// Whether the connection is known, whoever has it.
    pub fn contains(&self, token: Token) -> bool {
        self.known.contains_key(&token)
    }

    /// Takes in a connection that its event tells of.
    pub fn created(
        &mut self,
        event: &event::Event,
        ends: Ends,
        socket: Option<&ConnectionSocket>,
        managed: bool,
        now: Duration,
    ) -> Vec<Input> {
        let token = event.token;
        let mut inputs = Vec::new();
        // The end of one that had the token before was not told.
        if let Some(known) = self.known.get(&token) {
            if !known.ends.are(&ends) {
                inputs.extend(self.closed(token));
            }
        }
        let entry = self.known.entry(token);
        let known = entry.or_insert_with(|| Known::new(token, event.server_side, ends));
        known.deny_join_id0 = event.deny_join_id0;
        known.managed = managed;
        if let Some(socket) = socket {
            known.learn(socket);
        }
        let subflow = known.initial(now).subflow();
        known.ids.learn(subflow.local_address, subflow.local_id);
        if managed {
            inputs.push(known.tell(What::Created(known.start(subflow))));
        }
        inputs
    }

    /// Takes in a connection that a listing has, with its subflows.
    pub fn found(&mut self, socket: &ConnectionSocket, subflows: &[SubflowSocket], managed: bool) {
        let ulps = || subflows.iter().filter_map(|socket| socket.subflow);
        // Once the initial one is gone the others tell: a client opens them.
        let active = match ulps().find(Ulp::initial) {
            Some(ulp) => ulp.active(),
            None => ulps().any(|ulp| ulp.active()),
        };
        let mut known = Known::new(socket.token, !active, socket.ends);
        known.managed = managed;
        self.known.insert(socket.token, known);
    }

    /// Takes in what a listing says of a connection; none if it is not known.
    pub fn listed(
        &mut self,
        socket: &ConnectionSocket,
        subflows: &mut [SubflowSocket],
        now: Duration,
    ) -> Option<Connection> {
        let known = self.get_mut(socket.token)?;
        known.learn(socket);
        for entry in known.subflows.iter_mut() {
            entry.missing = entry.missing.saturating_add(1);
        }
        // So that two programs, or one that starts again, see the same numbers as long as
        // nothing changes.
        subflows.sort_by_key(|socket| {
            let ulp = socket.subflow.unwrap_or_default();
            let ends = socket.ends;
            let ids = (ulp.local_id, ulp.remote_id);
            (!ulp.initial(), ids, ends.local, ends.remote)
        });
        let mut values = Vec::new();
        for socket in &*subflows {
            let entry = known.subflows.meet(&socket.ends);
            entry.learn(socket, now);
            values.push(entry.subflow_now(socket));
        }
        for subflow in &values {
            known.ids.learn(subflow.local_address, subflow.local_id);
        }
        Some(known.connection(socket, values))
    }

    /// The subflows that two listings in a row did not have: nobody told why.
    pub fn missing(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for known in self.iter_mut() {
            let gone = known.subflows.iter().filter(|entry| entry.missing > 1);
            let gone: Vec<SubflowId> = gone.map(|entry| entry.id).collect();
            for id in gone {
                if let Some(entry) = known.subflows.remove(id) {
                    inputs.push(known.tell(What::SubflowClosed(entry.subflow_closed(None))));
                }
            }
        }
        inputs
    }

    /// Takes in that both hosts have confirmed Multipath TCP.
    pub fn established(&mut self, event: &event::Event, now: Duration) -> Option<Input> {
        let known = self.get_mut(event.token)?;
        known.deny_join_id0 |= event.deny_join_id0;
        let subflow = known.initial(now).subflow();
        Some(known.tell(What::Established(known.start(subflow))))
    }

    /// Takes out a connection that is over.
    pub fn closed(&mut self, token: Token) -> Option<Input> {
        let known = self.known.remove(&token)?;
        known.managed.then(|| known.tell(What::Closed))
    }

    /// Takes in an address that the peer announced.
    pub fn announced(&mut self, event: &event::Event) -> Option<Input> {
        let known = self.get_mut(event.token)?;
        // Without a port in the option, it is that of the subflow which brought it.
        let mut subflows = known.subflows.iter();
        let told = subflows.all(|entry| entry.ends.remote.port() != event.remote_port);
        Some(known.tell(What::AddressAnnounced(Address {
            id: event.remote_id,
            address: event.remote_address?,
            port: told.then_some(event.remote_port),
        })))
    }

    /// Takes in an address that the peer withdrew.
    pub fn removed(&mut self, event: &event::Event) -> Option<Input> {
        let known = self.get_mut(event.token)?;
        let ids = [event.remote_id].into_iter().collect();
        Some(known.tell(What::AddressesWithdrawn(ids)))
    }

    /// Takes in a subflow that has joined; `socket` if it was not known.
    pub fn joined(
        &mut self,
        event: &event::Event,
        ends: &Ends,
        socket: Option<&SubflowSocket>,
        now: Duration,
    ) -> Option<Input> {
        let known = self.get_mut(event.token)?;
        let entry = known.subflows.meet(ends);
        if let Some(socket) = socket {
            entry.learn(socket, now);
        }
        entry.local_id = event.local_id;
        entry.remote_id = event.remote_id;
        entry.backup_peer = event.backup;
        entry.ifindex = event.ifindex;
        entry.joined = Some(now);
        let subflow = entry.subflow();
        known.ids.learn(subflow.local_address, subflow.local_id);
        Some(known.tell(What::SubflowEstablished(subflow)))
    }

    /// Takes in a changed priority.
    pub fn priority(&mut self, event: &event::Event, ends: &Ends) -> Option<Input> {
        let known = self.get_mut(event.token)?;
        let entry = known.subflows.find(ends)?;
        entry.backup_peer = event.backup;
        let subflow = entry.subflow();
        Some(known.tell(What::SubflowPriority(subflow)))
    }

    /// Takes out a subflow that has ended; see [`why`] for `complete`. After a FIN there may
    /// still be a `socket`.
    pub fn subflow_closed(
        &mut self,
        event: &event::Event,
        ends: &Ends,
        socket: Option<&SubflowSocket>,
        complete: bool,
        now: Duration,
    ) -> Option<(Input, Entry)> {
        let known = self.get_mut(event.token)?;
        let entry = match known.subflows.find(ends) {
            Some(entry) => entry,
            None => match known.subflows.find_local(ends) {
                Some(entry) => entry,
                // Another program of this host opened it, and it never joined.
                None => {
                    let entry = known.subflows.add(*ends);
                    entry.active = true;
                    entry.local_id = event.local_id;
                    entry.remote_id = event.remote_id;
                    entry
                }
            },
        };
        let id = entry.id;
        let mut entry = known.subflows.remove(id)?;
        let path = socket.and_then(|socket| socket.path);
        entry.bytes = path.map(|path| (path.info.bytes_acked, path.info.bytes_received));
        let mut subflow = entry.subflow_closed(why(&entry, event.errno, complete, now));
        if let Some((reason, transient)) = event.reset {
            subflow.reset_reason = Some(reason);
            subflow.reset_transient = transient;
        }
        Some((known.tell(What::SubflowClosed(subflow)), entry))
    }

    /// The connection that a record is about.
    fn of_record(&mut self, record: &Record) -> Option<&mut Known> {
        let token = match record.token {
            Some(token) => token,
            // By its own ends, or by those of a subflow.
            None => {
                let ends = &record.ends;
                let mut all = self.iter();
                all.find(|known| {
                    known.ends.are(ends) || known.subflows.iter().any(|s| s.ends.are(ends))
                })?
                .token
            }
        };
        self.get_mut(token)
    }

    /// The socket of the subflow that a record is about.
    pub fn socket_of(&mut self, record: &Record) -> Option<(Ends, Option<IfIndex>)> {
        let entry = self.of_record(record)?.subflows.find(&record.ends)?;
        Some((entry.ends, entry.ifindex))
    }

    /// Takes in that the socket of a subflow has closed: which one that was.
    pub fn subflow_ended(&mut self, record: &Record) -> Option<(Token, SubflowId)> {
        let known = self.of_record(record)?;
        let entry = known.subflows.find(&record.ends)?;
        entry.end = Some(*record);
        let id = entry.id;
        Some((known.token, id))
    }

    /// Takes out a subflow whose socket has closed, unless an event has.
    pub fn overdue(&mut self, token: Token, id: SubflowId, now: Duration) -> Option<Input> {
        let known = self.get_mut(token)?;
        if known.ended || known.subflows.get(id)?.end.is_none() {
            return None;
        }
        let entry = known.subflows.remove(id)?;
        let subflow = entry.subflow_closed(why(&entry, None, true, now));
        Some(known.tell(What::SubflowClosed(subflow)))
    }

    /// Takes in that the socket of a connection has closed: which one that was.
    pub fn ended(&mut self, record: &Record) -> Option<Token> {
        let known = self.of_record(record)?;
        known.ended = true;
        Some(known.token)
    }

    /// Takes in a timeout; `socket` says what is in force now, if it could be asked.
    pub fn timeout(
        &mut self,
        record: &Record,
        rto: Option<u32>,
        socket: Option<&SubflowSocket>,
    ) -> Option<Input> {
        let known = self.of_record(record)?;
        let entry = known.subflows.find(&record.ends)?;
        entry.errno_soft = Some(record.errno_soft);
        let subflow = match socket {
            Some(socket) => entry.subflow_now(socket),
            None => Subflow {
                state: Some(record.state),
                rto,
                backoff: rto.map(|_| record.backoff),
                retransmits: rto.map(|_| record.retransmits),
                unacked: Some(record.unacked),
                ..entry.subflow()
            },
        };
        let subflow = Subflow {
            errno_soft: Some(record.errno_soft),
            snd_una: Some(record.snd_una),
            tcp_info: None,
            ..subflow
        };
        Some(known.tell(What::Timeout(subflow)))
    }
}
