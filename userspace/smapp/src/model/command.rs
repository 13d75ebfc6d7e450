// SPDX-License-Identifier: GPL-2.0
//! Commands: what a kernel can be told to do, and what it answers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Address, AddressId, IfIndex, Subflow, SubflowId, Token};

/// A command about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Open a subflow; the answer has it.
    SubflowCreate(Token, SubflowCreate),
    /// Close a subflow.
    SubflowDestroy(Token, SubflowDestroy),
    /// Ask the peer to use a subflow as backup only (true), or no longer so (MP_PRIO,
    /// RFC 8684 section 3.3.8).
    SubflowSet(Token, SubflowId, bool),
    /// Announce a local address to the peer (ADD_ADDR, RFC 8684 section 3.4.1), with a
    /// port or with that of the initial subflow; the answer has the address with its number.
    Announce(Token, IpAddr, Option<u16>),
    /// Withdraw a local address, as it was announced (REMOVE_ADDR, RFC 8684 section 3.4.2).
    Withdraw(Token, Address),
}

impl Command {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SubflowCreate(..) => "subflow-create",
            Self::SubflowDestroy(..) => "subflow-destroy",
            Self::SubflowSet(..) => "subflow-set",
            Self::Announce(..) => "announce",
            Self::Withdraw(..) => "withdraw",
        }
    }

    /// The connection that it is about.
    pub fn token(&self) -> Token {
        match *self {
            Self::SubflowCreate(token, _)
            | Self::SubflowDestroy(token, _)
            | Self::SubflowSet(token, ..)
            | Self::Announce(token, ..)
            | Self::Withdraw(token, _) => token,
        }
    }
}

/// What a kernel answers to a command that it has carried out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant)] // It lives as long as a call: a box would cost more.
pub enum Answer {
    /// It is done.
    Done,
    /// The subflow whose SYN has been sent.
    Subflow(Subflow),
    /// The address with the number that it got.
    Address(Address),
}

/// A subflow to be opened; the kernel chooses what is left out.
///
/// The methods set the field of the same name.
///
/// ```
/// use smapp::SubflowCreate;
///
/// let server = "10.0.3.1:80".parse().unwrap();
/// let subflow = SubflowCreate::to(server)
///     .local_address("10.0.2.1".parse().unwrap())
///     .backup(true);
/// assert_eq!(subflow.remote, server);
/// // The kernel chooses the port.
/// assert_eq!(subflow.local_port, None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubflowCreate {
    /// Where it leads.
    pub remote: SocketAddr,
    /// Address ID of the remote address, if the peer has announced it.
    pub remote_id: Option<AddressId>,
    /// Where it starts.
    pub local_address: Option<IpAddr>,
    /// Local TCP port.
    pub local_port: Option<u16>,
    /// Interface that it is bound to.
    pub ifindex: Option<IfIndex>,
    /// The peer uses it only while no other subflow works.
    pub backup: bool,
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

    /// With this address ID of the remote address.
    pub fn remote_id(self, id: AddressId) -> Self {
        Self {
            remote_id: Some(id),
            ..self
        }
    }

    /// From this local address.
    pub fn local_address(self, address: IpAddr) -> Self {
        Self {
            local_address: Some(address),
            ..self
        }
    }

    /// From this local port.
    pub fn local_port(self, port: u16) -> Self {
        Self {
            local_port: Some(port),
            ..self
        }
    }

    /// Bound to this interface.
    pub fn ifindex(self, ifindex: IfIndex) -> Self {
        Self {
            ifindex: Some(ifindex),
            ..self
        }
    }

    /// As a backup, or not.
    pub fn backup(self, backup: bool) -> Self {
        Self { backup, ..self }
    }
}

/// A subflow to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubflowDestroy {
    /// Which one.
    pub which: WhichSubflow,
    /// With a RST instead of a FIN.
    pub reset: bool,
}

/// How a subflow is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhichSubflow {
    /// By its number.
    Id(SubflowId),
    /// By its local and its remote end.
    Ends(SocketAddr, SocketAddr),
}

impl SubflowDestroy {
    /// The subflow with this number.
    pub fn id(id: SubflowId) -> Self {
        Self {
            which: WhichSubflow::Id(id),
            reset: false,
        }
    }

    /// The subflow with these ends.
    pub fn ends(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            which: WhichSubflow::Ends(local, remote),
            reset: false,
        }
    }

    /// With a RST instead of a FIN, or not.
    pub fn reset(self, reset: bool) -> Self {
        Self { reset, ..self }
    }

    /// Whether `subflow` is the one to be closed.
    pub fn is(&self, subflow: &Subflow) -> bool {
        match self.which {
            WhichSubflow::Id(id) => subflow.id == id,
            WhichSubflow::Ends(local, remote) => {
                subflow.local() == local && subflow.remote() == remote
            }
        }
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
            WhichSubflow::Id(id) => id.fmt(f),
            WhichSubflow::Ends(local, remote) => write!(f, "{local} -> {remote}"),
        }
    }
}
