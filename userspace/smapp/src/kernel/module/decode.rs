// SPDX-License-Identifier: GPL-2.0
//! Messages of the family `smapp_pm` become values of the model.
//!
//! The attributes are those of `spec/smapp_pm.yaml`. Unknown ones are ignored, of a
//! repeated one the last counts.

use super::uapi::{address, cmd, connection, operation_stats, stats, subflow};
use crate::kernel::Input;
use crate::kernel::route::is_global;
use crate::kernel::tcp_info::{decode_mptcp_info, decode_tcp_info};
use crate::model::{
    Address, AddressChange, AddressId, AddressIds, Connection, Errno, Event, IfIndex,
    InterfaceName, LocalAddress, OperationStatistics, Start, Statistics, Subflow, SubflowId,
    TcpState, Token, What,
};
use crate::netlink::{Attributes, Malformed};

/// Reads what the module sent on its own as `command`; none if this version of the
/// library does not know it, or if it tells of an address that is of no use beyond its link.
pub fn decode_event(command: u8, attributes: Attributes<'_>) -> Result<Option<Input>, Malformed> {
    let change = match command {
        cmd::NEW_LOCAL_ADDR => AddressChange::Up,
        cmd::DEL_LOCAL_ADDR => AddressChange::Down,
        cmd::CREATED..=cmd::REM_ADDR => {
            return decode_connection_event(command, attributes).map(|e| e.map(Input::Event));
        }
        _ => return Ok(None),
    };
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == connection::ADDRESS {
            let local = decode_local_address(attribute.nest())?;
            return Ok(local.map(|local| Input::Address(change(local))));
        }
    }
    Err(Malformed::Absent("address"))
}

fn decode_connection_event(
    command: u8,
    attributes: Attributes<'_>,
) -> Result<Option<Event>, Malformed> {
    let (mut subflow, mut address, mut ids) = (None, None, None);
    let connection = decode_parts(attributes, |part| {
        match part {
            Part::Subflow(nest) => subflow = Some(decode_subflow(nest)?),
            Part::Address(nest) => address = Some(decode_address(nest)?),
            Part::RemoteIds(withdrawn) => ids = Some(withdrawn),
        }
        Ok(())
    })?;
    let subflow = subflow.ok_or(Malformed::Absent("subflow"));
    let start = |subflow| Start {
        deny_join_id0: connection.deny_join_id0,
        owner: connection.owner,
        subflow,
    };
    let what = match command {
        cmd::CREATED => What::Created(start(subflow?)),
        cmd::ESTAB => What::Established(start(subflow?)),
        cmd::CLOSED => What::Closed,
        cmd::SUB_ESTAB => What::SubflowEstablished(subflow?),
        cmd::SUB_CLOSED => {
            let mut subflow = subflow?;
            // The module sends a flag: without it the handshake was never completed.
            subflow.established.get_or_insert(false);
            What::SubflowClosed(subflow)
        }
        cmd::TIMEOUT => What::Timeout(subflow?),
        cmd::SUB_PRIORITY => What::SubflowPriority(subflow?),
        cmd::ADD_ADDR => What::AddressAnnounced(address.ok_or(Malformed::Absent("address"))?),
        cmd::REM_ADDR => What::AddressesWithdrawn(ids.ok_or(Malformed::Absent("remote-ids"))?),
        _ => return Ok(None),
    };
    Ok(Some(Event {
        token: connection.token,
        server_side: connection.server_side,
        what,
    }))
}

/// Reads a connection with its live subflows. The kernel keeps the socket of the
/// initial subflow after its end, without id and addresses: that is no subflow any more.
pub fn decode_connection(attributes: Attributes<'_>) -> Result<Connection, Malformed> {
    let mut subflows = Vec::new();
    let mut connection = decode_parts(attributes, |part| {
        if let Part::Subflow(nest) = part {
            let subflow = decode_subflow(nest)?;
            if subflow.state != Some(TcpState::CLOSE) {
                subflows.push(subflow);
            }
        }
        Ok(())
    })?;
    connection.subflows = subflows;
    Ok(connection)
}

/// The subflow in the answer to subflow-create. Its state may be CLOSE: a peer can have
/// refused it by then.
pub fn decode_created_subflow(attributes: Attributes<'_>) -> Result<Option<Subflow>, Malformed> {
    let mut created = None;
    decode_parts(attributes, |part| {
        if let Part::Subflow(nest) = part {
            created = Some(decode_subflow(nest)?);
        }
        Ok(())
    })?;
    Ok(created)
}

/// The address in the answer to announce.
pub fn decode_announced_address(attributes: Attributes<'_>) -> Result<Option<Address>, Malformed> {
    let mut announced = None;
    decode_parts(attributes, |part| {
        if let Part::Address(nest) = part {
            announced = Some(decode_address(nest)?);
        }
        Ok(())
    })?;
    Ok(announced)
}

/// Reads what the module has counted.
pub fn decode_statistics(attributes: Attributes<'_>) -> Result<Statistics, Malformed> {
    let mut all = Statistics::default();
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            stats::ATTACHED => all.attached = a.u64()?,
            stats::RELEASED => all.released = a.u64()?,
            stats::OPERATION => all.operations.push(decode_operation(a.nest())?),
            _ => {}
        }
    }
    Ok(all)
}

fn decode_operation(attributes: Attributes<'_>) -> Result<OperationStatistics, Malformed> {
    let (mut number, mut done, mut failed) = (0, 0, 0);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            operation_stats::OPERATION => number = a.u8()?,
            operation_stats::DONE => done = a.u64()?,
            operation_stats::FAILED => failed = a.u64()?,
            _ => {}
        }
    }
    Ok(OperationStatistics {
        operation: operation_word(number),
        done,
        failed,
    })
}

/// The word for a command or an event; one that this version does not know keeps its number.
pub fn operation_word(number: u8) -> String {
    cmd::name(number).map_or(number.to_string(), |name| name.replace('-', "_"))
}

/// What a message about a connection has beside the attributes of the connection itself.
enum Part<'a> {
    Subflow(Attributes<'a>),
    Address(Attributes<'a>),
    RemoteIds(AddressIds),
}

/// Reads the attributes of a connection, and hands its subflows and addresses to `each`.
fn decode_parts<'a>(
    attributes: Attributes<'a>,
    mut each: impl FnMut(Part<'a>) -> Result<(), Malformed>,
) -> Result<Connection, Malformed> {
    let mut c = Connection::default();
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
            connection::INFO => c.info = Some(decode_mptcp_info(a.payload)),
            _ => {}
        }
    }
    c.token = token.ok_or(Malformed::Absent("token"))?;
    Ok(c)
}

/// Reads the nest of a subflow.
fn decode_subflow(attributes: Attributes<'_>) -> Result<Subflow, Malformed> {
    let mut s = Subflow::default();
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
            subflow::PROBES => s.probes = Some(a.u8()?),
            subflow::UNACKED => s.unacked = Some(a.u32()?),
            subflow::SND_UNA => s.snd_una = Some(a.u32()?),
            subflow::TCP_INFO => s.tcp_info = Some(decode_tcp_info(a.payload)),
            _ => {}
        }
    }
    s.id = id.ok_or(Malformed::Absent("subflow id"))?;
    Ok(s)
}

/// Reads the nest of an address that a host announces.
pub fn decode_address(attributes: Attributes<'_>) -> Result<Address, Malformed> {
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
    Ok(Address {
        id: id.ok_or(Malformed::Absent("address id"))?,
        address: value.ok_or(Malformed::Absent("address"))?,
        port,
    })
}

/// Reads the nest of an address of this host; none if it is of no use beyond its link.
fn decode_local_address(attributes: Attributes<'_>) -> Result<Option<LocalAddress>, Malformed> {
    let (mut ip, mut ifindex, mut scope) = (None, None, 0);
    let mut interface = InterfaceName::default();
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            address::ADDRESS => ip = Some(a.address()?),
            address::IFINDEX => ifindex = Some(IfIndex(a.u32()?)),
            address::INTERFACE => interface = InterfaceName::new(a.string()),
            address::SCOPE => scope = a.u8()?,
            _ => {}
        }
    }
    let local = LocalAddress {
        address: ip.ok_or(Malformed::Absent("address"))?,
        ifindex: ifindex.ok_or(Malformed::Absent("ifindex"))?,
        interface,
        // The module does not say.
        deprecated: false,
    };
    Ok(is_global(scope).then_some(local))
}
