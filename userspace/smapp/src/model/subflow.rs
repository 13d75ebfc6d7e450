// SPDX-License-Identifier: GPL-2.0
//! A subflow of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::{AddressId, Errno, IfIndex, SubflowId, TcpInfo};

/// TCP state of a subflow, as in `linux/tcp_states.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TcpState(pub u8);

#[allow(missing_docs)] // the names of RFC 9293
impl TcpState {
    pub const ESTABLISHED: Self = Self(1);
    pub const SYN_SENT: Self = Self(2);
    pub const CLOSE: Self = Self(7);
}

impl fmt::Display for TcpState {
    /// The words of `ss`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 13] = [
            "unknown",
            "estab",
            "syn-sent",
            "syn-recv",
            "fin-wait-1",
            "fin-wait-2",
            "time-wait",
            "close",
            "close-wait",
            "last-ack",
            "listen",
            "closing",
            "new-syn-recv",
        ];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.pad(name),
            None => write!(f, "state {}", self.0),
        }
    }
}

/// A subflow of a connection, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Subflow {
    /// Number of the subflow, unique in its connection.
    pub id: SubflowId,
    /// Local address; 0.0.0.0 if the message does not say.
    pub local_address: IpAddr,
    /// Local TCP port.
    pub local_port: u16,
    /// Address ID of the local address (RFC 8684 section 3.2).
    pub local_id: AddressId,
    /// Remote address; 0.0.0.0 if the message does not say.
    pub remote_address: IpAddr,
    /// Remote TCP port.
    pub remote_port: u16,
    /// Address ID of the remote address.
    pub remote_id: AddressId,
    /// Interface that the subflow is bound to, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<IfIndex>,
    /// This host asked the peer to use the subflow as backup only.
    pub backup: bool,
    /// The peer asked this host to use the subflow as backup only.
    pub backup_peer: bool,
    /// The subflow that opened the connection.
    pub initial: bool,
    /// This host opened the subflow.
    pub active: bool,
    /// TCP state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TcpState>,
    /// Why the subflow closed, 0 if either host asked for it. None in a
    /// [`SubflowClosed`](crate::What::SubflowClosed): its event was lost, so
    /// nobody knows why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<Errno>,
    /// Last error that did not end the subflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_soft: Option<Errno>,
    /// Reason code of a received MP_TCPRST (RFC 8684 section 3.6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_reason: Option<u8>,
    /// The received MP_TCPRST said that the reason may pass.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset_transient: bool,
    /// Whether the handshake was ever completed; told once the subflow has closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established: Option<bool>,
    /// Bytes of this host that the peer has acknowledged; told once the
    /// subflow has closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_acked: Option<u64>,
    /// Bytes of the peer that this host has received; told once the subflow
    /// has closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Retransmission timeout in microseconds, backoff included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rto: Option<u32>,
    /// Exponent of the backoff in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<u8>,
    /// Timeouts in a row without an acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u8>,
    /// Probes in a row without an answer, while nothing is in flight: the persist timer.
    /// 1 and never more where the peer answers, but with a closed window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<u8>,
    /// Bytes in flight: sent and not acknowledged, SYN and FIN included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u32>,
    /// First unacknowledged TCP sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snd_una: Option<u32>,
    /// What TCP knows of the path; none in an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_info: Option<TcpInfo>,
}

impl Default for Subflow {
    fn default() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            id: SubflowId(0),
            local_address: nowhere,
            local_port: 0,
            local_id: AddressId(0),
            remote_address: nowhere,
            remote_port: 0,
            remote_id: AddressId(0),
            ifindex: None,
            backup: false,
            backup_peer: false,
            initial: false,
            active: false,
            state: None,
            errno: None,
            errno_soft: None,
            reset_reason: None,
            reset_transient: false,
            established: None,
            bytes_acked: None,
            bytes_received: None,
            rto: None,
            backoff: None,
            retransmits: None,
            probes: None,
            unacked: None,
            snd_una: None,
            tcp_info: None,
        }
    }
}

impl Subflow {
    /// Whether its handshake is complete.
    pub fn has_joined(&self) -> bool {
        self.state == Some(TcpState::ESTABLISHED)
    }

    /// Whether this host opened it, or it is the initial one.
    pub fn is_own(&self) -> bool {
        self.active || self.initial
    }

    /// How many timeouts in a row nobody has answered, whichever timer it was: 0 for a
    /// closed window whose probes are answered.
    pub fn unanswered(&self) -> u8 {
        let probes = self.probes.filter(|&probes| probes > 1);
        self.retransmits.max(probes).unwrap_or(0)
    }

    /// Its retransmission timeout, as far as is known: what TCP_INFO says, else what the
    /// last timeout said, else 0.
    pub fn current_rto(&self) -> Duration {
        let asked = self.tcp_info.map(|info| info.rto);
        Duration::from_micros(asked.or(self.rto).unwrap_or(0).into())
    }

    /// Local address and port.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local_address, self.local_port)
    }

    /// Remote address and port.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_address, self.remote_port)
    }
}
