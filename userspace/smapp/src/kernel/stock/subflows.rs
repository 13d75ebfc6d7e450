// SPDX-License-Identifier: GPL-2.0
//! The subflows of a connection: the kernel names them by their ends, this by numbers.

use std::time::Duration;

use super::wire::diag::SubflowSocket;
use super::wire::ends::Ends;
use super::wire::record::Record;
use crate::model::{AddressId, Errno, IfIndex, Subflow, SubflowId, TcpState};

/// A subflow as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub id: SubflowId,
    /// The local port is 0 as long as nothing has told which one the kernel chose.
    pub ends: Ends,
    pub local_id: AddressId,
    pub remote_id: AddressId,
    pub ifindex: Option<IfIndex>,
    pub backup: bool,
    pub backup_peer: bool,
    pub initial: bool,
    pub active: bool,
    /// When it joined, if it has.
    pub joined: Option<Duration>,
    /// Asked for as backup: some kernels do not pass that on to the peer.
    pub wants_backup: bool,
    /// This host has asked for its end.
    pub destroyed: bool,
    /// A program tells of its timeouts.
    pub told: bool,
    /// What the last timeout said.
    pub errno_soft: Option<Errno>,
    /// Timeouts in a row and bytes acknowledged, when a timeout was seen last.
    pub seen: (u8, u64),
    /// Its socket has closed; the event may be still to come.
    pub end: Option<Record>,
    /// Bytes acknowledged and received, if they were asked for at its end.
    pub bytes: Option<(u64, u64)>,
    /// How many listings in a row did not have it.
    pub missing: u8,
}

impl Entry {
    /// A subflow with these ends, of which nothing else is known.
    fn new(id: SubflowId, ends: Ends) -> Self {
        Self {
            id,
            ends,
            local_id: AddressId(0),
            remote_id: AddressId(0),
            ifindex: None,
            backup: false,
            backup_peer: false,
            initial: false,
            active: false,
            joined: None,
            wants_backup: false,
            destroyed: false,
            told: false,
            errno_soft: None,
            seen: (0, 0),
            end: None,
            bytes: None,
            missing: 0,
        }
    }

    /// The value of the model, without what changes all the time.
    pub fn subflow(&self) -> Subflow {
        Subflow {
            id: self.id,
            local_address: self.ends.local.ip(),
            local_port: self.ends.local.port(),
            local_id: self.local_id,
            remote_address: self.ends.remote.ip(),
            remote_port: self.ends.remote.port(),
            remote_id: self.remote_id,
            ifindex: self.ifindex,
            backup: self.backup,
            backup_peer: self.backup_peer,
            initial: self.initial,
            active: self.active,
            state: Some(match self.joined {
                Some(_) => TcpState::ESTABLISHED,
                None => TcpState::SYN_SENT,
            }),
            ..Subflow::default()
        }
    }

    /// The value of the model, with what its socket says now.
    pub fn subflow_now(&self, socket: &SubflowSocket) -> Subflow {
        Subflow {
            state: Some(socket.state),
            // The next acknowledgement clears it.
            errno_soft: self.errno_soft.filter(|_| socket.retransmits > 0),
            retransmits: Some(socket.retransmits),
            rto: socket.path.map(|path| path.info.rto),
            backoff: socket.path.map(|path| path.backoff),
            unacked: socket.unacked(),
            tcp_info: socket.path.map(|path| path.info),
            ..self.subflow()
        }
    }

    /// The value of the model at its end; `errno` is why, if that is known.
    pub fn subflow_closed(&self, errno: Option<Errno>) -> Subflow {
        let bytes = self.end.map(|end| (end.bytes_acked, end.bytes_received));
        let bytes = bytes.or(self.bytes);
        Subflow {
            state: Some(TcpState::CLOSE),
            errno,
            errno_soft: self.end.map(|end| end.errno_soft),
            established: Some(self.joined.is_some()),
            bytes_acked: bytes.map(|(acked, _)| acked),
            bytes_received: bytes.map(|(_, received)| received),
            ..self.subflow()
        }
    }

    /// Takes in what its socket says.
    pub fn learn(&mut self, socket: &SubflowSocket, now: Duration) {
        self.ends = socket.ends;
        self.ifindex = socket.ifindex;
        self.missing = 0;
        if let Some(ulp) = socket.subflow {
            self.local_id = ulp.local_id;
            self.remote_id = ulp.remote_id;
            self.backup = ulp.backup();
            self.backup_peer = ulp.backup_peer();
            self.initial = ulp.initial();
            self.active = ulp.active();
        }
        if socket.state != TcpState::SYN_SENT {
            self.joined = self.joined.or(Some(now));
        }
    }
}

/// The subflows of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Subflows {
    entries: Vec<Entry>,
    /// How many numbers were given away.
    numbered: u32,
}

impl Subflows {
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Entry> {
        self.entries.iter_mut()
    }

    /// Adds one with the next number; the initial one gets 1.
    pub fn add(&mut self, ends: Ends) -> &mut Entry {
        self.numbered += 1;
        self.entries
            .push(Entry::new(SubflowId(self.numbered), ends));
        let last = self.entries.len() - 1;
        &mut self.entries[last]
    }

    pub fn get(&self, id: SubflowId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    pub fn get_mut(&mut self, id: SubflowId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// The one with these ends; or one that was opened towards them, whose port was not
    /// known: now it is.
    pub fn find(&mut self, ends: &Ends) -> Option<&mut Entry> {
        let index = self.position(ends)?;
        let entry = &mut self.entries[index];
        entry.ends = *ends;
        Some(entry)
    }

    /// Like `find`, but adds it if there is none.
    pub fn meet(&mut self, ends: &Ends) -> &mut Entry {
        match self.position(ends) {
            Some(index) => {
                let entry = &mut self.entries[index];
                entry.ends = *ends;
                entry
            }
            None => self.add(*ends),
        }
    }

    fn position(&self, ends: &Ends) -> Option<usize> {
        let entries = || self.entries.iter();
        let exact = entries().position(|entry| entry.ends.are(ends));
        exact.or_else(|| {
            entries().position(|entry| {
                let end = entry.ends;
                end.local.port() == 0
                    && (end.local.ip(), end.remote) == (ends.local.ip(), ends.remote)
            })
        })
    }

    /// The one with this local end. A subflow that this host destroys in SYN_SENT has lost
    /// its remote port by the time that the kernel tells.
    pub fn find_local(&mut self, ends: &Ends) -> Option<&mut Entry> {
        let mut entries = self.entries.iter_mut();
        entries.find(|entry| {
            let port = entry.ends.local.port();
            entry.joined.is_none()
                && entry.ends.local.ip() == ends.local.ip()
                && entry.ends.remote.ip() == ends.remote.ip()
                && (port == ends.local.port() || port == 0 && entry.destroyed)
        })
    }

    pub fn remove(&mut self, id: SubflowId) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.remove(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        Ends {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            mapped: false,
        }
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let mut subflows = Subflows::default();
        let ends = ends("10.0.1.1:1", "10.0.1.2:80");
        assert_eq!(subflows.add(ends).id, SubflowId(1));
        let second = subflows.add(ends).id;
        subflows.remove(second);
        assert_eq!(subflows.add(ends).id, SubflowId(3));
    }

    #[test]
    fn a_subflow_whose_port_was_not_known_is_found_by_its_addresses() {
        let mut subflows = Subflows::default();
        let opened = subflows.add(ends("10.0.2.1:0", "10.0.2.2:80")).id;
        let told = ends("10.0.2.1:4711", "10.0.2.2:80");
        assert_eq!(
            subflows
                .find(&ends("10.0.2.1:4711", "10.0.2.2:81"))
                .map(|e| e.id),
            None
        );
        assert_eq!(subflows.find(&told).map(|e| e.id), Some(opened));
        // From now on by its port, and no other one by it.
        assert_eq!(
            subflows
                .find(&ends("10.0.2.1:4712", "10.0.2.2:80"))
                .map(|e| e.id),
            None
        );
        assert_eq!(subflows.find(&told).map(|e| e.id), Some(opened));
    }

    #[test]
    fn a_subflow_that_was_destroyed_while_joining_has_no_remote_port() {
        let mut subflows = Subflows::default();
        let joining = subflows.add(ends("10.0.2.1:4711", "10.0.2.2:80")).id;
        let told = ends("10.0.2.1:4711", "10.0.2.2:0");
        assert_eq!(subflows.find(&told).map(|e| e.id), None);
        assert_eq!(subflows.find_local(&told).map(|e| e.id), Some(joining));
    }
}
