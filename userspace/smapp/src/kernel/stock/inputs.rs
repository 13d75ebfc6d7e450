// SPDX-License-Identifier: GPL-2.0
//! What the kernel tells, as inputs.
//!
//! Two sources tell of one end: the program at once, the event once a worker has closed the
//! subflow. The records are read before each event, so what a record says is there when its
//! event is read; a record without an event is told after a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::poller::{self, Suspect};
use super::state::Stock;
use super::wire::command::Command;
use super::wire::event::{Event, Kind};
use super::wire::record::{self, Record};
use crate::kernel::{Error, Input};
use crate::model::{Errno, TcpState, Token, What};
use crate::netlink::{self, Received};

/// How long a record waits for its event: the worker that sends it may have to wait for the
/// lock of the connection.
const GRACE: Duration = Duration::from_millis(200);

/// So many datagrams are read at once.
const BATCH: u32 = 32;

impl Stock {
    /// Reads some datagrams, or does what is due; false once nothing is left.
    pub(super) fn receive_one(&mut self) -> Result<bool, Error> {
        if !self.queue.is_empty() {
            return Ok(true);
        }
        self.take_records()?;
        let mut more = false;
        for _ in 0..BATCH {
            match self.receive_events()? {
                true => more = true,
                false => break,
            }
        }
        if more {
            return Ok(true);
        }
        if std::mem::take(&mut self.lost) {
            self.queue.push_back(Input::Lost);
        }
        // Read until it is empty, for the next one to be told.
        let _ = self.timer.wait();
        self.do_what_is_due()?;
        Ok(!self.queue.is_empty())
    }

    /// Takes in all events that wait; how many datagrams that were.
    pub(super) fn drain_events(&mut self) -> Result<u32, Error> {
        let mut datagrams = 0;
        while self.receive_events()? {
            datagrams += 1;
        }
        Ok(datagrams)
    }

    /// Reads one datagram of events; false if there is none.
    fn receive_events(&mut self) -> Result<bool, Error> {
        let Some(socket) = &mut self.events else {
            return Ok(false);
        };
        let mut events = Vec::new();
        match socket.receive()? {
            Received::Nothing => return Ok(false),
            // What was queued before the loss is still to come.
            Received::Overrun => self.lost = true,
            Received::Datagram(messages) => {
                for message in messages {
                    let message = message.map_err(netlink::Error::from)?;
                    let (command, attributes) = message.generic().map_err(netlink::Error::from)?;
                    match Event::decode(command, attributes) {
                        Ok(event) => events.extend(event),
                        Err(error) => {
                            log::error!("event {command} ignored: {error}");
                            self.lost = true;
                        }
                    }
                }
            }
        }
        for event in &events {
            if let Err(error) = self.take_event(event) {
                log::error!("event {:?} of {}: {error}", event.kind, event.token);
                self.lost = true;
            }
        }
        Ok(true)
    }

    fn take_event(&mut self, event: &Event) -> Result<(), Error> {
        let token = event.token;
        let now = self.now();
        let input = match event.kind {
            Kind::Created => {
                let ends = event.ends().map_err(netlink::Error::from)?;
                let socket = self.calls.connection(token)?;
                let managed = self.calls.is_managed(token)?;
                let inputs = self
                    .connections
                    .created(event, ends, socket.as_ref(), managed, now);
                self.queue.extend(inputs);
                self.tell_timeouts(event);
                None
            }
            Kind::Established => self.connections.established(event, now),
            Kind::Closed => self.connections.closed(token),
            Kind::Announced => self.connections.announced(event),
            Kind::Removed => {
                // One each, where the peer withdrew several together.
                let told = self.connections.removed(event);
                match self.queue.back_mut() {
                    Some(last) => told.and_then(|told| merge(last, told)),
                    None => told,
                }
            }
            Kind::SubflowPriority => {
                let ends = event.ends().map_err(netlink::Error::from)?;
                self.connections.priority(event, &ends)
            }
            Kind::SubflowEstablished => return self.take_joined(event, now),
            Kind::SubflowClosed => return self.take_subflow_closed(event, now),
        };
        self.queue.extend(input);
        Ok(())
    }

    fn take_joined(&mut self, event: &Event, now: Duration) -> Result<(), Error> {
        let ends = event.ends().map_err(netlink::Error::from)?;
        let Some(known) = self.connections.get_mut(event.token) else {
            return Ok(());
        };
        let entry = known.subflows.find(&ends);
        let wants_backup = entry.as_ref().is_some_and(|entry| entry.wants_backup);
        // Who opened it, if not this: the peer, or another program of this host.
        let ask = entry.is_none() || wants_backup && self.features.backup_on_syn != Some(true);
        let socket = match ask {
            true => self.calls.subflow(ends, event.ifindex)?,
            false => None,
        };
        let input = self.connections.joined(event, &ends, socket.as_ref(), now);
        self.queue.extend(input);
        self.tell_timeouts(event);
        if let (true, Some(ulp)) = (wants_backup, socket.and_then(|socket| socket.subflow)) {
            self.features.backup_on_syn = Some(ulp.backup());
            if !ulp.backup() {
                let order = Command::SetBackup(ends, true);
                self.calls.command(event.token, &order)?;
                let known = self.connections.get_mut(event.token);
                if let Some(entry) = known.and_then(|known| known.subflows.find(&ends)) {
                    entry.backup = true;
                }
            }
        }
        Ok(())
    }

    fn take_subflow_closed(&mut self, event: &Event, now: Duration) -> Result<(), Error> {
        let ends = event.ends().map_err(netlink::Error::from)?;
        // Its record came before.
        let complete = self.take_records()?;
        let socket = match event.errno {
            Some(_) => None,
            None => self.calls.subflow(ends, event.ifindex)?,
        };
        let socket = socket.as_ref();
        let closed = self
            .connections
            .subflow_closed(event, &ends, socket, complete, now);
        let Some((input, entry)) = closed else {
            return Ok(());
        };
        self.queue.push_back(input);
        let Some(known) = self.connections.get_mut(event.token) else {
            return Ok(());
        };
        // The id of a port of its own stays taken unless it is given back.
        if let Some(local) = known.ids.by_id(entry.local_id) {
            if local.port != 0 && local.port == entry.ends.local.port() {
                known.ids.forget(local);
                let free = self
                    .calls
                    .command(event.token, &Command::Remove(entry.local_id));
                match free {
                    Err(error) if error.errno() != Some(Errno::EINVAL) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Notes whether a program tells of the timeouts of the subflow of an event.
    fn tell_timeouts(&mut self, event: &Event) {
        let told = self.tells_timeouts();
        let known = self.connections.get_mut(event.token);
        let entry = event
            .ends()
            .ok()
            .and_then(|ends| known?.subflows.find(&ends));
        if let Some(entry) = entry {
            entry.told |= told;
        }
        if !told {
            self.look_soon();
        }
    }

    /// Takes in all records that wait; false if the end of a socket may not be among them.
    fn take_records(&mut self) -> Result<bool, Error> {
        let Some(programs) = &mut self.programs else {
            return Ok(false);
        };
        let ends = programs.ends;
        let lost = programs.lost();
        self.lost |= lost;
        while let Some(record) = self.programs.as_mut().and_then(|programs| programs.next()) {
            self.take_record(&record)?;
        }
        Ok(ends && !lost)
    }

    fn take_record(&mut self, record: &Record) -> Result<(), Error> {
        let due = self.now() + GRACE;
        match record.kind {
            record::Kind::Timeout => {
                let rto = Some(microseconds(record.rto));
                let input = self.connections.timeout(record, rto, None);
                self.queue.extend(input);
            }
            record::Kind::TimeoutBefore => {
                // What is in force now only the socket knows.
                let Some((ends, ifindex)) = self.connections.socket_of(record) else {
                    return Ok(());
                };
                let socket = self.calls.subflow(ends, ifindex)?;
                let input = self.connections.timeout(record, None, socket.as_ref());
                self.queue.extend(input);
            }
            record::Kind::SubflowClosed => {
                if let Some((token, id)) = self.connections.subflow_ended(record) {
                    self.ended.push_back((due, token, Some(id)));
                }
            }
            record::Kind::ConnectionClosed => {
                if let Some(token) = self.connections.ended(record) {
                    self.ended.push_back((due, token, None));
                }
            }
        }
        Ok(())
    }

    fn do_what_is_due(&mut self) -> Result<(), Error> {
        let now = self.now();
        while let Some(&(_, token, subflow)) = self.ended.front().filter(|&&(at, ..)| at <= now) {
            self.ended.pop_front();
            let input = match subflow {
                Some(id) => self.connections.overdue(token, id, now),
                None => match self.connections.get(token) {
                    Some(known) if known.ended => self.connections.closed(token),
                    _ => None,
                },
            };
            self.queue.extend(input);
        }
        if self.poller.next().is_some_and(|next| next <= now) {
            self.look_for_timeouts(now)?;
        }
        if self.events.is_some() && self.next_listing <= now {
            self.reconcile()?;
        }
        Ok(())
    }

    fn look_for_timeouts(&mut self, now: Duration) -> Result<(), Error> {
        let sockets = match self.connections.is_empty() {
            true => Vec::new(),
            false => self.calls.tcp_sockets()?,
        };
        let suspects = self.poller.look(&mut self.connections, &sockets, now);
        for suspect in &suspects {
            let Suspect { ends, ifindex, .. } = *suspect;
            if let Some(socket) = self.calls.subflow(ends, ifindex)? {
                let input = poller::timeout(&mut self.connections, suspect, &socket);
                self.queue.extend(input);
            }
        }
        Ok(())
    }

    /// Looks for what nobody has told.
    fn reconcile(&mut self) -> Result<(), Error> {
        let (listed, missed) = self.list()?;
        // What happened meanwhile is told.
        self.drain_events()?;
        self.lost |= missed;
        let there: BTreeSet<Token> = listed.iter().map(|connection| connection.token).collect();
        let known = self.connections.iter().map(|known| known.token);
        let gone: Vec<Token> = known.filter(|token| !there.contains(token)).collect();
        for token in gone {
            let socket = self.calls.connection(token)?;
            // Its event would have come before its end.
            self.drain_events()?;
            if socket.is_none_or(|socket| socket.state == TcpState::CLOSE) {
                let input = self.connections.closed(token);
                self.queue.extend(input);
            }
        }
        let inputs = self.connections.missing();
        self.queue.extend(inputs);
        if std::mem::take(&mut self.lost) {
            self.queue.push_back(Input::Lost);
        }
        Ok(())
    }
}

/// Adds the ids that `told` says are withdrawn to those in `last`; what it cannot add to
/// stays.
fn merge(last: &mut Input, told: Input) -> Option<Input> {
    if let (Input::Event(last), Input::Event(event)) = (last, &told) {
        if let (What::AddressesWithdrawn(before), What::AddressesWithdrawn(ids)) =
            (&mut last.what, event.what)
        {
            if last.token == event.token {
                *before = before.iter().chain(ids.iter()).collect();
                return None;
            }
        }
    }
    Some(told)
}

/// Microseconds of so many jiffies: the clock of low resolution ticks with them.
fn microseconds(jiffies: u32) -> u32 {
    use nix::time::{ClockId, clock_getres};
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from);
    let tick = tick.unwrap_or(Duration::from_millis(4));
    u32::try_from((tick * jiffies).as_micros()).unwrap_or(u32::MAX)
}
