// SPDX-License-Identifier: GPL-2.0
//! Looking for timeouts where no program tells of them.
//!
//! A look at all TCP sockets is cheap as long as it asks for nothing but what the header
//! says: whether the timer of retransmissions has expired. Only of those for which it has,
//! the rest is asked. Where nothing is under way the looks are rare.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::connections::Connections;
use super::wire::diag::SubflowSocket;
use super::wire::ends::Ends;
use crate::kernel::Input;
use crate::model::{IfIndex, SubflowId, TcpState, Token, What};

/// While data or a SYN waits for its acknowledgement.
const BUSY: Duration = Duration::from_millis(250);
/// Otherwise: a timeout comes 200 ms after a segment was sent at the earliest.
const IDLE: Duration = Duration::from_secs(1);

/// A subflow whose timer has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub token: Token,
    pub id: SubflowId,
    pub ends: Ends,
    pub ifindex: Option<IfIndex>,
}

/// When to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Poller {
    next: Option<Duration>,
}

impl Poller {
    /// When the next look is due, if there is something to look at.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Has a look soon: something is under way, or there is something to look at.
    pub fn hurry(&mut self, now: Duration) {
        let soon = now + BUSY;
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
    }

    /// Looks at `sockets`: those of the subflows whose timeouts nobody tells.
    pub fn look(
        &mut self,
        connections: &mut Connections,
        sockets: &[SubflowSocket],
        now: Duration,
    ) -> Vec<Suspect> {
        let by_ends: HashMap<(SocketAddr, SocketAddr), &SubflowSocket> = sockets
            .iter()
            .map(|socket| ((socket.ends.local, socket.ends.remote), socket))
            .collect();
        let mut suspects = Vec::new();
        let (mut any, mut busy) = (false, false);
        for known in connections.iter_mut() {
            let token = known.token;
            for entry in known.subflows.iter_mut().filter(|entry| !entry.told) {
                any = true;
                let Some(socket) = by_ends.get(&(entry.ends.local, entry.ends.remote)) else {
                    // Its port is not known yet: its SYN has just been sent.
                    busy |= entry.joined.is_none();
                    continue;
                };
                busy |= socket.queued > 0 || socket.state == TcpState::SYN_SENT;
                match socket.retransmits {
                    0 => entry.seen = (0, 0),
                    _ => suspects.push(Suspect {
                        token,
                        id: entry.id,
                        ends: socket.ends,
                        ifindex: entry.ifindex,
                    }),
                }
            }
        }
        self.next = any.then_some(now + if busy { BUSY } else { IDLE });
        suspects
    }
}

/// What a suspect's socket says: a timeout, unless it has been told already.
pub(super) fn timeout(
    connections: &mut Connections,
    suspect: &Suspect,
    socket: &SubflowSocket,
) -> Option<Input> {
    let known = connections.get_mut(suspect.token)?;
    let entry = known.subflows.get_mut(suspect.id)?;
    let acked = socket.path.map_or(0, |path| path.info.bytes_acked);
    let now = (socket.retransmits, acked);
    if socket.retransmits == 0 || std::mem::replace(&mut entry.seen, now) == now {
        return None;
    }
    let mut subflow = entry.subflow_now(socket);
    subflow.tcp_info = None;
    Some(known.tell(What::Timeout(subflow)))
}
