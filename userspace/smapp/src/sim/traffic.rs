// SPDX-License-Identifier: GPL-2.0
//! What an application writes in the simulated kernel, what paths lose of it, and the
//! retransmission timers.

use std::net::IpAddr;
use std::time::Duration;

use super::Sim;
use super::transfer::SHORTEST_RTO;
use crate::model::{Errno, Subflow, SubflowId, Token, What};

const STEP: Duration = Duration::from_millis(50);
/// As `net.ipv4.tcp_retries2`.
const RETRIES: u8 = 15;
/// As `net.ipv4.tcp_syn_linear_timeouts`, and in all with `net.ipv4.tcp_syn_retries`.
const LINEAR_SYNS: u8 = 4;
const SYNS: u8 = LINEAR_SYNS + 6;

impl Sim {
    /// Has a part of what goes from `local` be lost from now on: 0 is none of it,
    /// 1 is a cut.
    pub fn loss(&mut self, local: IpAddr, part: f64) {
        self.transfer.loss.insert(local, part);
    }

    /// The interface of an address loses its carrier or gets it back. What goes from there
    /// is lost on this host, so its timers do not double (RFC 6069).
    pub fn carrier(&mut self, local: IpAddr, carrier: bool) {
        match carrier {
            true => self.transfer.cut.remove(&local),
            false => self.transfer.cut.insert(local),
        };
    }

    /// Has a NAT forget the subflows from `local`: it answers what they send
    /// next with a RST.
    pub fn forget(&mut self, local: IpAddr) {
        self.forget_with(local, true);
    }

    /// Has a NAT forget the subflows from `local`: it drops what they send.
    pub fn forget_silently(&mut self, local: IpAddr) {
        self.forget_with(local, false);
    }

    fn forget_with(&mut self, local: IpAddr, reset: bool) {
        for connection in self.connections.values() {
            let from_there = connection.subflows.iter();
            let from_there = from_there.filter(|s| s.local_address == local);
            let stream = self.transfer.streams.entry(connection.token).or_default();
            stream.forgotten.extend(from_there.map(|s| (s.id, reset)));
        }
    }

    /// Sets how fast each subflow is, in bytes per second; without it, 1 MB/s.
    pub fn rate(&mut self, rate: impl Fn(&Subflow) -> u64 + 'static) {
        self.transfer.rate = Some(Box::new(rate));
    }

    /// The application writes.
    pub fn write(&mut self, token: Token, bytes: u64) {
        if self.connections.contains_key(&token) {
            let stream = self.transfer.streams.entry(token).or_default();
            stream.queue += bytes;
            if !std::mem::replace(&mut stream.stepping, true) {
                self.step(token);
            }
        }
    }

    /// Bytes that the peer has acknowledged.
    pub fn acked(&self, token: Token) -> u64 {
        self.transfer.streams.get(&token).map_or(0, |s| s.acked)
    }

    /// Whether something that is sent from `local` now is lost.
    pub(super) fn lost_on(&mut self, local: IpAddr) -> bool {
        let part = self.transfer.loss.get(&local).copied().unwrap_or(0.0);
        self.transfer.cut.contains(&local) || part > 0.0 && self.random.fraction() < part
    }

    /// The SYN of a subflow was lost, after `timeouts` of its timer: the next one may
    /// get through.
    pub(super) fn syn_lost(&mut self, token: Token, id: SubflowId, timeouts: u8) {
        let rto = Duration::from_secs(1 << timeouts.saturating_sub(LINEAR_SYNS));
        if timeouts > 0 {
            self.told_timeout(token, id, timeouts, rto);
        }
        self.at(self.now + rto, move |sim| {
            let connection = sim.connections.get(&token);
            let Some(local) = connection
                .and_then(|c| c.subflow(id))
                .map(|s| s.local_address)
            else {
                return;
            };
            match sim.lost_on(local) {
                false => sim.join(token, id),
                true if timeouts + 1 == SYNS => {
                    sim.remove(token, id, Errno::ETIMEDOUT);
                }
                true => sim.syn_lost(token, id, timeouts + 1),
            }
        });
    }

    fn step(&mut self, token: Token) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        for subflow in connection.subflows.clone() {
            self.send(token, &subflow);
        }
        if let Some(stream) = self.transfer.streams.get_mut(&token) {
            stream.stepping = stream.queue > 0;
            if stream.stepping {
                self.at(self.now + STEP, move |sim| sim.step(token));
            }
        }
    }

    /// Has a subflow send for one step.
    fn send(&mut self, token: Token, subflow: &Subflow) {
        let rate = self.transfer.rate_of(subflow);
        let lost = self.lost_on(subflow.local_address);
        let id = subflow.id;
        let Some(stream) = self.transfer.streams.get_mut(&token) else {
            return;
        };
        let flow = stream.flows.entry(id).or_default();
        let joined = subflow.has_joined();
        if !joined || stream.queue == 0 || flow.timeouts.is_some() {
            return;
        }
        let forgotten = stream.forgotten.get(&id).copied();
        if forgotten == Some(true) {
            self.remove(token, id, Errno::ECONNRESET);
        } else if lost || forgotten.is_some() {
            flow.timeouts = Some(0);
            self.at(self.now + SHORTEST_RTO, move |sim| sim.expire(token, id));
        } else {
            let bytes = stream.queue.min(rate * STEP.as_millis() as u64 / 1000);
            flow.acked += bytes;
            stream.queue -= bytes;
            stream.acked += bytes;
        }
    }

    /// The retransmission timer of a subflow has expired.
    fn expire(&mut self, token: Token, id: SubflowId) {
        let connection = self.connections.get(&token);
        let local = connection
            .and_then(|c| c.subflow(id))
            .map(|s| s.local_address);
        let Some(lost) = local.map(|local| self.lost_on(local)) else {
            return;
        };
        let stream = self.transfer.streams.entry(token).or_default();
        let lost = lost || stream.forgotten.contains_key(&id);
        let doubles = local.is_some_and(|local| !self.transfer.cut.contains(&local));
        let flow = stream.flows.entry(id).or_default();
        let timeouts = flow.timeouts.unwrap_or(0).saturating_add(1);
        flow.timeouts = lost.then_some(timeouts);
        flow.backoff = match lost {
            true => flow.backoff.saturating_add(doubles.into()),
            false => 0,
        };
        let rto = flow.rto();
        if flow.backoff > RETRIES {
            self.remove(token, id, Errno::ETIMEDOUT);
        } else if lost {
            self.told_timeout(token, id, timeouts, rto);
            self.at(self.now + rto, move |sim| sim.expire(token, id));
        }
    }

    fn told_timeout(&mut self, token: Token, id: SubflowId, timeouts: u8, rto: Duration) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let mut subflows = connection.subflows.iter_mut();
        if let Some(subflow) = subflows.find(|s| s.id == id) {
            subflow.rto = Some(rto.as_micros() as u32);
            subflow.retransmits = Some(timeouts);
            let subflow = *subflow;
            self.emit(token, What::Timeout(subflow));
        }
    }
}
