// SPDX-License-Identifier: GPL-2.0
//! Commands, as bytes for the kernel.

use std::net::{IpAddr, SocketAddr};

use crate::event::{AddressId, IfIndex, SubflowId, Token};
use crate::netlink::{self, Request};
use crate::uapi::{VERSION, cmd, connection, subflow};

/// A subflow to be opened; the kernel chooses what is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubflowCreate {
    remote: SocketAddr,
    remote_id: Option<AddressId>,
    local_address: Option<IpAddr>,
    local_port: Option<u16>,
    ifindex: Option<IfIndex>,
    backup: bool,
}

impl SubflowCreate {
    /// A subflow to `remote`.
    pub fn to(remote: SocketAddr) -> Self {
        Self {
            remote,
            remote_id: None,
            local_address: None,
            local_port: None,
            ifindex: None,
            backup: false,
        }
    }

    /// From this local address.
    pub fn from(self, address: IpAddr) -> Self {
        Self {
            local_address: Some(address),
            ..self
        }
    }

    /// From this local port.
    pub fn from_port(self, port: u16) -> Self {
        Self {
            local_port: Some(port),
            ..self
        }
    }

    /// With this address ID of the remote address.
    pub fn remote_id(self, id: AddressId) -> Self {
        Self {
            remote_id: Some(id),
            ..self
        }
    }

    /// Bound to this interface.
    pub fn dev(self, ifindex: IfIndex) -> Self {
        Self {
            ifindex: Some(ifindex),
            ..self
        }
    }

    /// As a backup: the peer uses it only while no other subflow works.
    pub fn backup(self, backup: bool) -> Self {
        Self { backup, ..self }
    }

    /// Where it leads.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Where it starts, unless the kernel chooses.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    fn encode<'a>(&self, r: Request<'a>) -> Request<'a> {
        let r = r
            .address(subflow::REMOTE_ADDRESS, self.remote.ip())
            .port(subflow::REMOTE_PORT, self.remote.port());
        let r = option(r, self.remote_id, |r, id| {
            r.attribute(subflow::REMOTE_ID, &[id.0])
        });
        let r = option(r, self.local_address, |r, a| {
            r.address(subflow::LOCAL_ADDRESS, a)
        });
        let r = option(r, self.local_port, |r, port| {
            r.port(subflow::LOCAL_PORT, port)
        });
        let r = option(r, self.ifindex, |r, index| r.u32(subflow::IFINDEX, index.0));
        match self.backup {
            true => r.attribute(subflow::BACKUP, &[]),
            false => r,
        }
    }
}

fn option<'a, T>(
    request: Request<'a>,
    value: Option<T>,
    put: impl FnOnce(Request<'a>, T) -> Request<'a>,
) -> Request<'a> {
    match value {
        Some(value) => put(request, value),
        None => request,
    }
}

/// A request to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Get one connection.
    Connection(Token),
    /// Get all connections.
    Connections,
    /// Open a subflow.
    SubflowCreate(Token, SubflowCreate),
    /// Close a subflow.
    SubflowDestroy(Token, SubflowId),
}

impl Command {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connection(_) | Self::Connections => "conn-get",
            Self::SubflowCreate(..) => "subflow-create",
            Self::SubflowDestroy(..) => "subflow-destroy",
        }
    }

    /// Writes the request into `buffer`: numbered `seq`, for the generic
    /// netlink family with the id `family`.
    pub fn encode<'a>(&self, buffer: &'a mut Vec<u8>, family: u16, seq: u32) -> &'a [u8] {
        let (command, flags) = match self {
            // A plain get is answered by the connection, a create by the subflow.
            Self::Connection(_) => (cmd::CONN_GET, 0),
            Self::Connections => (cmd::CONN_GET, netlink::DUMP),
            Self::SubflowCreate(..) => (cmd::SUBFLOW_CREATE, 0),
            Self::SubflowDestroy(..) => (cmd::SUBFLOW_DESTROY, netlink::ACK),
        };
        let r = Request::generic(buffer, family, flags, seq, command, VERSION);
        let r = match self {
            Self::Connection(token) => r.u32(connection::TOKEN, token.0),
            Self::Connections => r,
            Self::SubflowCreate(token, create) => r
                .u32(connection::TOKEN, token.0)
                .nest(connection::SUBFLOW, |r| create.encode(r)),
            Self::SubflowDestroy(token, id) => r
                .u32(connection::TOKEN, token.0)
                .nest(connection::SUBFLOW, |r| r.u32(subflow::ID, id.0)),
        };
        r.finish()
    }
}
