// SPDX-License-Identifier: GPL-2.0
//! Data that flows in the simulated kernel, and what stops it.
//!
//! What an application writes is shared out to the subflows, in steps of 50 ms,
//! as fast as each can. A subflow whose path loses a step waits for its
//! retransmission timer, which doubles as long as the path loses; what it had
//! not sent yet goes to the others. After 15 timeouts in a row it closes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Sim;
use crate::model::{
    Connection, Errno, MptcpInfo, Subflow, SubflowId, TcpInfo, TcpState, Token, What,
};

const STEP: Duration = Duration::from_millis(50);
const SHORTEST_RTO: Duration = Duration::from_millis(200);
const LONGEST_RTO: Duration = Duration::from_secs(120);
/// As `net.ipv4.tcp_retries2`.
const RETRIES: u8 = 15;
/// As `net.ipv4.tcp_syn_linear_timeouts`, and in all with `net.ipv4.tcp_syn_retries`.
const LINEAR_SYNS: u8 = 4;
const SYNS: u8 = LINEAR_SYNS + 6;
/// Bytes per second of a subflow.
const RATE: u64 = 1_000_000;

type Rate = Box<dyn Fn(&Subflow) -> u64>;

#[derive(Default)]
pub(super) struct Transfer {
    streams: BTreeMap<Token, Stream>,
    /// The part of the steps that is lost, from each local address.
    loss: BTreeMap<IpAddr, f64>,
    rate: Option<Rate>,
}

#[derive(Default)]
struct Stream {
    /// Written and not acknowledged.
    queue: u64,
    acked: u64,
    flows: BTreeMap<SubflowId, Flow>,
    stepping: bool,
    /// Subflows of which a NAT knows nothing any more, and whether it says so.
    forgotten: BTreeMap<SubflowId, bool>,
}

#[derive(Clone, Copy, Default)]
struct Flow {
    acked: u64,
    /// Timeouts in a row, if it waits for its timer.
    timeouts: Option<u8>,
}

impl Flow {
    fn rto(self) -> Duration {
        let factor = 1u32 << self.timeouts.unwrap_or(0).min(16);
        (SHORTEST_RTO * factor).min(LONGEST_RTO)
    }
}

impl Transfer {
    pub fn close(&mut self, token: Token) {
        self.streams.remove(&token);
    }

    pub fn end(&mut self, token: Token, id: SubflowId) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.flows.remove(&id);
            stream.forgotten.remove(&id);
        }
    }

    /// The connection, with what TCP knows of it.
    pub fn fill(&self, mut connection: Connection) -> Connection {
        let idle = Stream::default();
        let stream = self.streams.get(&connection.token).unwrap_or(&idle);
        connection.info = Some(MptcpInfo {
            bytes_sent: stream.acked + stream.queue,
            bytes_acked: stream.acked,
            ..MptcpInfo::default()
        });
        for subflow in &mut connection.subflows {
            let flow = stream.flows.get(&subflow.id).copied().unwrap_or_default();
            subflow.tcp_info = Some(TcpInfo {
                rto: flow.rto().as_micros() as u32,
                pacing_rate: self.rate(subflow),
                bytes_acked: flow.acked,
                ..TcpInfo::default()
            });
        }
        connection
    }

    fn rate(&self, subflow: &Subflow) -> u64 {
        self.rate.as_ref().map_or(RATE, |rate| rate(subflow))
    }
}

impl Sim {
    /// Has a part of what goes from `local` be lost from now on: 0 is none of it,
    /// 1 is a cut.
    pub fn loss(&mut self, local: IpAddr, part: f64) {
        self.transfer.loss.insert(local, part);
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
        part > 0.0 && self.random.fraction() < part
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
        let rate = self.transfer.rate(subflow);
        let lost = self.lost_on(subflow.local_address);
        let id = subflow.id;
        let Some(stream) = self.transfer.streams.get_mut(&token) else {
            return;
        };
        let flow = stream.flows.entry(id).or_default();
        let joined = subflow.state == Some(TcpState::ESTABLISHED);
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
        let flow = stream.flows.entry(id).or_default();
        let timeouts = flow.timeouts.unwrap_or(0) + 1;
        flow.timeouts = lost.then_some(timeouts);
        let rto = flow.rto();
        if timeouts > RETRIES {
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
            subflow.backoff = Some(timeouts);
            subflow.retransmits = Some(timeouts);
            let subflow = *subflow;
            self.emit(token, What::Timeout(subflow));
        }
    }
}
