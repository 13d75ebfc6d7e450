// SPDX-License-Identifier: GPL-2.0
//! Commands, as bytes for the kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::event::{AddressId, IfIndex, SubflowId, Token};
use crate::message::{Address, Subflow};
use crate::netlink::{self, Request};
use crate::uapi::{VERSION, address, cmd, connection, subflow};

/// A subflow to be opened; the kernel chooses what is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubflowCreate {
    pub(crate) remote: SocketAddr,
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

    /// The address ID of where it leads, if it was given.
    pub fn remote_address_id(&self) -> Option<AddressId> {
        self.remote_id
    }

    /// Whether it is a backup.
    pub fn is_backup(&self) -> bool {
        self.backup
    }

    /// Where it starts, unless the kernel chooses.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// The local port, unless the kernel chooses.
    pub fn port(&self) -> Option<u16> {
        self.local_port
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
        r.flag(subflow::BACKUP, self.backup)
    }
}

/// A subflow to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubflowDestroy {
    which: Which,
    reset: bool,
}

/// How a subflow is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Id(SubflowId),
    Ends(SocketAddr, SocketAddr),
}

impl SubflowDestroy {
    /// The subflow with this number.
    pub fn id(id: SubflowId) -> Self {
        Self {
            which: Which::Id(id),
            reset: false,
        }
    }

    /// The subflow with these ends.
    pub fn ends(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            which: Which::Ends(local, remote),
            reset: false,
        }
    }

    /// With a RST instead of a FIN.
    pub fn reset(self, reset: bool) -> Self {
        Self { reset, ..self }
    }

    /// Whether it is this subflow.
    pub fn is(&self, subflow: &Subflow) -> bool {
        match self.which {
            Which::Id(id) => subflow.id == id,
            Which::Ends(local, remote) => subflow.local() == local && subflow.remote() == remote,
        }
    }

    fn encode<'a>(&self, r: Request<'a>) -> Request<'a> {
        let r = match self.which {
            Which::Id(id) => r.u32(subflow::ID, id.0),
            Which::Ends(local, remote) => r
                .address(subflow::LOCAL_ADDRESS, local.ip())
                .port(subflow::LOCAL_PORT, local.port())
                .address(subflow::REMOTE_ADDRESS, remote.ip())
                .port(subflow::REMOTE_PORT, remote.port()),
        };
        r.flag(subflow::RESET, self.reset)
    }
}

impl From<SubflowId> for SubflowDestroy {
    fn from(id: SubflowId) -> Self {
        Self::id(id)
    }
}

impl fmt::Display for SubflowDestroy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.which {
            Which::Id(id) => id.fmt(f),
            Which::Ends(local, remote) => write!(f, "{local} -> {remote}"),
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
    SubflowDestroy(Token, SubflowDestroy),
    /// Ask the peer to use a subflow as backup only, or no longer so.
    SubflowSet(Token, SubflowId, bool),
    /// Announce a local address, with a port or with that of the initial subflow.
    Announce(Token, IpAddr, Option<u16>),
    /// Withdraw a local address.
    Withdraw(Token, Address),
    /// Get what the module has counted.
    Stats,
}

impl Command {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connection(_) | Self::Connections => "conn-get",
            Self::SubflowCreate(..) => "subflow-create",
            Self::SubflowDestroy(..) => "subflow-destroy",
            Self::SubflowSet(..) => "subflow-set",
            Self::Announce(..) => "announce",
            Self::Withdraw(..) => "withdraw",
            Self::Stats => "stats-get",
        }
    }

    /// Writes requests one after the other, to be sent at once: the first is numbered
    /// `seq`.
    pub fn encode_all(commands: &[Self], family: u16, seq: u32) -> Vec<u8> {
        let mut all = Vec::new();
        let mut one = Vec::new();
        for (command, number) in commands.iter().zip(0..) {
            all.extend_from_slice(command.encode(&mut one, family, seq.wrapping_add(number)));
        }
        all
    }

    /// Writes the request into `buffer`: numbered `seq`, for the generic
    /// netlink family with the id `family`.
    pub fn encode<'a>(&self, buffer: &'a mut Vec<u8>, family: u16, seq: u32) -> &'a [u8] {
        // What has an answer of its own needs no acknowledgement.
        let (command, flags) = match self {
            Self::Connection(_) => (cmd::CONN_GET, 0),
            Self::Connections => (cmd::CONN_GET, netlink::DUMP),
            Self::SubflowCreate(..) => (cmd::SUBFLOW_CREATE, 0),
            Self::SubflowDestroy(..) => (cmd::SUBFLOW_DESTROY, netlink::ACK),
            Self::SubflowSet(..) => (cmd::SUBFLOW_SET, netlink::ACK),
            Self::Announce(..) => (cmd::ANNOUNCE, 0),
            Self::Withdraw(..) => (cmd::WITHDRAW, netlink::ACK),
            Self::Stats => (cmd::STATS_GET, 0),
        };
        let r = Request::generic(buffer, family, flags, seq, command, VERSION);
        let r = match self {
            Self::Connections | Self::Stats => r,
            Self::Connection(token)
            | Self::SubflowCreate(token, _)
            | Self::SubflowDestroy(token, _)
            | Self::SubflowSet(token, ..)
            | Self::Announce(token, ..)
            | Self::Withdraw(token, _) => r.u32(connection::TOKEN, token.0),
        };
        let r = match self {
            Self::Connection(_) | Self::Connections | Self::Stats => r,
            Self::SubflowCreate(_, create) => r.nest(connection::SUBFLOW, |r| create.encode(r)),
            Self::SubflowDestroy(_, destroy) => r.nest(connection::SUBFLOW, |r| destroy.encode(r)),
            Self::SubflowSet(_, id, backup) => r.nest(connection::SUBFLOW, |r| {
                r.u32(subflow::ID, id.0).flag(subflow::BACKUP, *backup)
            }),
            Self::Announce(_, ip, port) => r.nest(connection::ADDRESS, |r| {
                let r = r.address(address::ADDRESS, *ip);
                option(r, *port, |r, port| r.port(address::PORT, port))
            }),
            Self::Withdraw(_, known) => r.nest(connection::ADDRESS, |r| {
                let r = r
                    .attribute(address::ID, &[known.id.0])
                    .address(address::ADDRESS, known.address);
                option(r, known.port, |r, port| r.port(address::PORT, port))
            }),
        };
        r.finish()
    }
}
