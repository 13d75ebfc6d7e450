// SPDX-License-Identifier: GPL-2.0
//! Data that flows in the simulated kernel: how far it has come on each subflow.
//!
//! What an application writes is shared out to the subflows, in steps of 50 ms,
//! as fast as each can. A subflow whose path loses a step waits for its
//! retransmission timer, which doubles as long as the path loses; what it had
//! not sent yet goes to the others. After 15 timeouts in a row it closes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{Connection, MptcpInfo, Subflow, SubflowId, TcpInfo, Token};

pub(super) const SHORTEST_RTO: Duration = Duration::from_millis(200);
const LONGEST_RTO: Duration = Duration::from_secs(120);
/// Bytes per second of a subflow.
const RATE: u64 = 1_000_000;

type Rate = Box<dyn Fn(&Subflow) -> u64>;

#[derive(Default)]
pub(super) struct Transfer {
    pub streams: BTreeMap<Token, Stream>,
    /// The part of the steps that is lost, from each local address.
    pub loss: BTreeMap<IpAddr, f64>,
    /// Local addresses whose interface has no carrier.
    pub cut: BTreeSet<IpAddr>,
    pub rate: Option<Rate>,
}

#[derive(Default)]
pub(super) struct Stream {
    /// Written and not acknowledged.
    pub queue: u64,
    pub acked: u64,
    pub flows: BTreeMap<SubflowId, Flow>,
    pub stepping: bool,
    /// Subflows of which a NAT knows nothing any more, and whether it says so.
    pub forgotten: BTreeMap<SubflowId, bool>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Flow {
    pub acked: u64,
    /// Timeouts in a row, if it waits for its timer.
    pub timeouts: Option<u8>,
    /// How often its timer has doubled: not when it was this host that could not send.
    pub backoff: u8,
}

impl Flow {
    pub fn rto(self) -> Duration {
        let factor = 1u32 << self.backoff.min(16);
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
                pacing_rate: self.rate_of(subflow),
                bytes_acked: flow.acked,
                ..TcpInfo::default()
            });
            if subflow.has_joined() {
                subflow.retransmits = flow.timeouts.or(Some(0));
            }
        }
        connection
    }

    pub fn rate_of(&self, subflow: &Subflow) -> u64 {
        self.rate.as_ref().map_or(RATE, |rate| rate(subflow))
    }
}
