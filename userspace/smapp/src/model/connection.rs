// SPDX-License-Identifier: GPL-2.0
//! A Multipath TCP connection and whose it is.

use std::net::IpAddr;

use serde::Serialize;

use super::{IfIndex, MptcpInfo, Subflow, SubflowId, TcpState, Token};

/// Whose socket a connection is. A field is none where the kernel did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
    /// The program has bound the socket to the local address of the initial subflow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bound_to_address: bool,
    /// `SO_COOKIE`, unique as long as the host is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Control group (version 2), as the inode number of its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<u64>,
}

impl Owner {
    /// The address that the program has bound its socket to, if it has.
    pub(crate) fn bound_address(&self, connection: &Connection) -> Option<IpAddr> {
        let subflow = connection.leading_subflow();
        subflow
            .filter(|_| self.bound_to_address)
            .map(|s| s.local_address)
    }
}

/// A Multipath TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Connection {
    /// Local token.
    pub token: Token,
    /// This host accepted the connection.
    pub server_side: bool,
    /// The peer refuses joins to the address and port of its initial subflow (flag C of
    /// MP_CAPABLE, RFC 8684 section 3.1).
    pub deny_join_id0: bool,
    /// The connection fell back to plain TCP, no subflow can be added.
    pub fallback: bool,
    /// Subflows beside the initial one, those still being set up included.
    pub extra_subflows: u8,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// What Multipath TCP knows of the connection; none in an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<MptcpInfo>,
    /// Its subflows.
    #[serde(rename = "subflow")]
    pub subflows: Vec<Subflow>,
}

impl Connection {
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

    /// Whether the handshake of its initial subflow is still under way. If that fails the
    /// kernel tells neither a beginning nor an end.
    pub(crate) fn is_connecting(&self) -> bool {
        let mut subflows = self.subflows.iter();
        subflows.any(|s| s.initial && s.state == Some(TcpState::SYN_SENT))
    }
}
