// SPDX-License-Identifier: GPL-2.0
//! Connections, subflows and addresses, as events and answers carry them.
//!
//! The fields are those of `spec/smapp_pm.yaml`, with the same names. Unknown
//! attributes are ignored, of a repeated one the last counts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Serialize, Serializer};

use crate::error::{Errno, Error};
use crate::event::{AddressId, IfIndex, SubflowId, Token};
use crate::info::{MptcpInfo, TcpInfo};
use crate::netlink::Attributes;
use crate::uapi::{address, connection, subflow};

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
pub struct Subflow {
    /// Number of the subflow in its connection.
    pub id: SubflowId,
    /// Local address; unspecified if the message does not say.
    pub local_address: IpAddr,
    /// Local TCP port.
    pub local_port: u16,
    /// Address ID of the local address.
    pub local_id: AddressId,
    /// Remote address; unspecified if the message does not say.
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
    /// [`SubflowClosed`](crate::Event::SubflowClosed): its event was lost, so
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
    /// Bytes in flight: sent and not acknowledged, SYN and FIN included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u32>,
    /// First unacknowledged TCP sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snd_una: Option<u32>,
    /// What TCP knows of the path.
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
            unacked: None,
            snd_una: None,
            tcp_info: None,
        }
    }
}

impl Subflow {
    /// Local address and port.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local_address, self.local_port)
    }

    /// Remote address and port.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_address, self.remote_port)
    }

    /// Reads the nest of a subflow.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let mut s = Self::default();
        let mut id = None;
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                subflow::ID => id = Some(SubflowId(a.u32()?)),
                subflow::LOCAL_ADDRESS => s.local_address = a.address()?,
                subflow::LOCAL_PORT => s.local_port = a.port()?,
                subflow::LOCAL_ID => s.local_id = AddressId(a.u8()?),
                subflow::REMOTE_ADDRESS => s.remote_address = a.address()?,
                subflow::REMOTE_PORT => s.remote_port = a.port()?,
                subflow::REMOTE_ID => s.remote_id = AddressId(a.u8()?),
                subflow::IFINDEX => s.ifindex = Some(IfIndex(a.u32()?)),
                subflow::BACKUP => s.backup = true,
                subflow::BACKUP_PEER => s.backup_peer = true,
                subflow::INITIAL => s.initial = true,
                subflow::ACTIVE => s.active = true,
                subflow::STATE => s.state = Some(TcpState(a.u8()?)),
                subflow::ERRNO => s.errno = Some(Errno(a.u32()?)),
                subflow::ERRNO_SOFT => s.errno_soft = Some(Errno(a.u32()?)),
                subflow::RESET_REASON => s.reset_reason = Some(a.u8()?),
                subflow::RESET_TRANSIENT => s.reset_transient = true,
                subflow::ESTABLISHED => s.established = Some(true),
                subflow::BYTES_ACKED => s.bytes_acked = Some(a.u64()?),
                subflow::BYTES_RECEIVED => s.bytes_received = Some(a.u64()?),
                subflow::RTO => s.rto = Some(a.u32()?),
                subflow::BACKOFF => s.backoff = Some(a.u8()?),
                subflow::RETRANSMITS => s.retransmits = Some(a.u8()?),
                subflow::UNACKED => s.unacked = Some(a.u32()?),
                subflow::SND_UNA => s.snd_una = Some(a.u32()?),
                subflow::TCP_INFO => s.tcp_info = Some(TcpInfo::decode(a.payload)),
                _ => {}
            }
        }
        s.id = id.ok_or(Error::Absent("subflow id"))?;
        Ok(s)
    }
}

/// An address that one of the hosts announces to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Its number (RFC 8684 section 3.4.1).
    pub id: AddressId,
    /// The address.
    pub address: IpAddr,
    /// TCP port; none if it is the one of the initial subflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Address {
    /// Reads the nest of an address.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let (mut id, mut value, mut port) = (None, None, None);
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                address::ID => id = Some(AddressId(a.u8()?)),
                address::ADDRESS => value = Some(a.address()?),
                address::PORT => port = Some(a.port()?),
                _ => {}
            }
        }
        Ok(Self {
            id: id.ok_or(Error::Absent("address id"))?,
            address: value.ok_or(Error::Absent("address"))?,
            port,
        })
    }
}

impl fmt::Display for Address {
    /// `id 1 10.0.2.1`, with the port behind a colon if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {} ", self.id)?;
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// A set of address IDs; there are no more than 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressIds([u64; 4]);

impl AddressIds {
    /// The IDs in the set, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = AddressId> {
        (0..=u8::MAX)
            .map(AddressId)
            .filter(move |&id| self.contains(id))
    }

    /// Whether `id` is in the set.
    pub fn contains(self, AddressId(id): AddressId) -> bool {
        self.0[usize::from(id / 64)] & 1 << (id % 64) != 0
    }
}

impl FromIterator<AddressId> for AddressIds {
    fn from_iter<I: IntoIterator<Item = AddressId>>(ids: I) -> Self {
        let mut set = Self::default();
        for AddressId(id) in ids {
            set.0[usize::from(id / 64)] |= 1 << (id % 64);
        }
        set
    }
}

impl Serialize for AddressIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The socket of the application, as far as a policy may ask. What the message
/// does not say is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// User, as seen in the user namespace of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// `SO_MARK`; none if it is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// `SO_BINDTODEVICE`; none if it is not bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<IfIndex>,
    /// `SO_COOKIE`, unique as long as the host is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Control group (version 2), as the inode number of its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<u64>,
}

/// A Multipath TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Connection {
    /// Local token.
    pub token: Token,
    /// This host accepted the connection.
    pub server_side: bool,
    /// The peer refuses joins to the address and port of its initial subflow.
    pub deny_join_id0: bool,
    /// The connection fell back to plain TCP, no subflow can be added.
    pub fallback: bool,
    /// Subflows beside the initial one, those still being set up included.
    pub extra_subflows: u8,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// What Multipath TCP knows of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<MptcpInfo>,
    /// Its subflows.
    #[serde(rename = "subflow")]
    pub subflows: Vec<Subflow>,
}

impl Connection {
    /// Reads a connection with its live subflows. The kernel keeps the socket
    /// of the initial subflow after its end, without id and addresses: that is
    /// no subflow any more.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let mut subflows = Vec::new();
        let connection = Self::decode_with(attributes, |part| {
            if let Part::Subflow(nest) = part {
                let subflow = Subflow::decode(nest)?;
                if subflow.state != Some(TcpState::CLOSE) {
                    subflows.push(subflow);
                }
            }
            Ok(())
        })?;
        Ok(Self {
            subflows,
            ..connection
        })
    }

    /// Reads a connection, hands its parts to `each` instead of keeping them.
    pub(crate) fn decode_with<'a>(
        attributes: Attributes<'a>,
        mut each: impl FnMut(Part<'a>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut c = Self::default();
        let mut token = None;
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                connection::TOKEN => token = Some(Token(a.u32()?)),
                connection::SERVER_SIDE => c.server_side = true,
                connection::DENY_JOIN_ID0 => c.deny_join_id0 = true,
                connection::FALLBACK => c.fallback = true,
                connection::EXTRA_SUBFLOWS => c.extra_subflows = a.u8()?,
                connection::UID => c.owner.uid = Some(a.u32()?),
                connection::MARK => c.owner.mark = Some(a.u32()?),
                connection::IFINDEX => c.owner.ifindex = Some(IfIndex(a.u32()?)),
                connection::COOKIE => c.owner.cookie = Some(a.u64()?),
                connection::CGROUP => c.owner.cgroup = Some(a.u64()?),
                connection::SUBFLOW => each(Part::Subflow(a.nest()))?,
                connection::ADDRESS => each(Part::Address(a.nest()))?,
                connection::REMOTE_IDS => {
                    let ids = a.payload.iter().copied().map(AddressId);
                    each(Part::RemoteIds(ids.collect()))?;
                }
                connection::INFO => c.info = Some(MptcpInfo::decode(a.payload)),
                _ => {}
            }
        }
        c.token = token.ok_or(Error::Absent("token"))?;
        Ok(c)
    }

    /// The subflow with this number.
    pub fn subflow(&self, id: SubflowId) -> Option<&Subflow> {
        self.subflows.iter().find(|subflow| subflow.id == id)
    }

    /// The subflow that tells where the connection leads: the initial one, or
    /// once that is gone the oldest one that this host opened.
    pub fn leading_subflow(&self) -> Option<&Subflow> {
        let initial = self.subflows.iter().find(|subflow| subflow.initial);
        initial.or_else(|| self.subflows.iter().find(|subflow| subflow.active))
    }
}

/// What a message about a connection carries beside its own attributes, nests as
/// they came.
#[derive(Clone, Debug)]
pub(crate) enum Part<'a> {
    Subflow(Attributes<'a>),
    Address(Attributes<'a>),
    RemoteIds(AddressIds),
}
