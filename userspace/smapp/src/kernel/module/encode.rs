// SPDX-License-Identifier: GPL-2.0
//! Commands and queries become messages to the family `smapp_pm`.

use super::uapi::{VERSION, address, cmd, connection, subflow};
use crate::model::{Command, SubflowCreate, SubflowDestroy, Token, WhichSubflow};
use crate::netlink::{self, Request};

/// What can be asked of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Get one connection.
    Connection(Token),
    /// Get all connections.
    Connections,
    /// Get what the module has counted.
    Statistics,
}

impl Query {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connection(_) | Self::Connections => "conn-get",
            Self::Statistics => "stats-get",
        }
    }

    /// Writes the request into `buffer`: numbered `seq`, for the generic netlink
    /// family with the id `family`.
    pub fn encode<'a>(&self, buffer: &'a mut Vec<u8>, family: u16, seq: u32) -> &'a [u8] {
        let (command, flags) = match self {
            Self::Connection(_) => (cmd::CONN_GET, 0),
            Self::Connections => (cmd::CONN_GET, netlink::DUMP),
            Self::Statistics => (cmd::STATS_GET, 0),
        };
        let request = Request::generic(buffer, family, flags, seq, command, VERSION);
        match self {
            Self::Connection(token) => request.u32(connection::TOKEN, token.0),
            Self::Connections | Self::Statistics => request,
        }
        .finish()
    }
}

/// Writes a command into `buffer`: numbered `seq`, for the generic netlink family with
/// the id `family`.
pub fn encode_command<'a>(
    command: &Command,
    buffer: &'a mut Vec<u8>,
    family: u16,
    seq: u32,
) -> &'a [u8] {
    // A command whose answer carries something needs no acknowledgement beside it.
    let (number, flags) = match command {
        Command::SubflowCreate(..) => (cmd::SUBFLOW_CREATE, 0),
        Command::SubflowDestroy(..) => (cmd::SUBFLOW_DESTROY, netlink::ACK),
        Command::SubflowSet(..) => (cmd::SUBFLOW_SET, netlink::ACK),
        Command::Announce(..) => (cmd::ANNOUNCE, 0),
        Command::Withdraw(..) => (cmd::WITHDRAW, netlink::ACK),
    };
    let r = Request::generic(buffer, family, flags, seq, number, VERSION);
    let r = r.u32(connection::TOKEN, command.token().0);
    match command {
        Command::SubflowCreate(_, create) => {
            r.nest(connection::SUBFLOW, |r| encode_create(create, r))
        }
        Command::SubflowDestroy(_, destroy) => {
            r.nest(connection::SUBFLOW, |r| encode_destroy(destroy, r))
        }
        Command::SubflowSet(_, id, backup) => r.nest(connection::SUBFLOW, |r| {
            r.u32(subflow::ID, id.0).flag(subflow::BACKUP, *backup)
        }),
        Command::Announce(_, ip, port) => r.nest(connection::ADDRESS, |r| {
            let r = r.address(address::ADDRESS, *ip);
            option(r, *port, |r, port| r.port(address::PORT, port))
        }),
        Command::Withdraw(_, known) => r.nest(connection::ADDRESS, |r| {
            let r = r
                .attribute(address::ID, &[known.id.0])
                .address(address::ADDRESS, known.address);
            option(r, known.port, |r, port| r.port(address::PORT, port))
        }),
    }
    .finish()
}

fn encode_create<'a>(create: &SubflowCreate, r: Request<'a>) -> Request<'a> {
    let r = r
        .address(subflow::REMOTE_ADDRESS, create.remote.ip())
        .port(subflow::REMOTE_PORT, create.remote.port());
    let r = option(r, create.remote_id, |r, id| {
        r.attribute(subflow::REMOTE_ID, &[id.0])
    });
    let r = option(r, create.local_address, |r, a| {
        r.address(subflow::LOCAL_ADDRESS, a)
    });
    let r = option(r, create.local_port, |r, port| {
        r.port(subflow::LOCAL_PORT, port)
    });
    let r = option(r, create.ifindex, |r, index| {
        r.u32(subflow::IFINDEX, index.0)
    });
    r.flag(subflow::BACKUP, create.backup)
}

fn encode_destroy<'a>(destroy: &SubflowDestroy, r: Request<'a>) -> Request<'a> {
    let r = match destroy.which {
        WhichSubflow::Id(id) => r.u32(subflow::ID, id.0),
        WhichSubflow::Ends(local, remote) => r
            .address(subflow::LOCAL_ADDRESS, local.ip())
            .port(subflow::LOCAL_PORT, local.port())
            .address(subflow::REMOTE_ADDRESS, remote.ip())
            .port(subflow::REMOTE_PORT, remote.port()),
    };
    r.flag(subflow::RESET, destroy.reset)
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
