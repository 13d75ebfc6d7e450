// SPDX-License-Identifier: GPL-2.0

//! Commands of user space. All run in process context, without any lock held.

use crate::{
    event::{put_connection, put_subflow, put_timer, CONNECTION_SIZE, FATE_SIZE, SUBFLOW_SIZE},
    sys::{
        attribute::{Attributes, Policy, PolicyTable},
        connection::{Held, MptcpInfo, NewSubflow, SubflowInfo, TcpInfo},
        family::{Command, Dump},
        message::Body,
        request::{Cursor, Page, Request},
    },
    uapi::{cmd, connection, subflow},
    PATH_MANAGER,
};
use kernel::{
    error::{code, Error},
    prelude::*,
};

/// What a request may say of a connection.
static CONNECTION_POLICY: PolicyTable = {
    let mut policy = Policy::NONE;
    policy[connection::TOKEN as usize] = Policy::U32;
    policy[connection::SUBFLOW as usize] = Policy::nest(&SUBFLOW_POLICY);
    policy
};

/// What a request may say of a subflow.
static SUBFLOW_POLICY: PolicyTable = {
    let mut policy = Policy::NONE;
    policy[subflow::ID as usize] = Policy::U32;
    policy[subflow::LOCAL_ADDRESS as usize] = Policy::binary(16);
    policy[subflow::LOCAL_PORT as usize] = Policy::U16;
    policy[subflow::REMOTE_ADDRESS as usize] = Policy::binary(16);
    policy[subflow::REMOTE_PORT as usize] = Policy::U16;
    policy[subflow::REMOTE_ID as usize] = Policy::U8;
    policy[subflow::IFINDEX as usize] = Policy::U32;
    policy[subflow::BACKUP as usize] = Policy::FLAG;
    policy
};

/// The connection that a request names.
fn find<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<(u32, Held)> {
    let attribute = request.require(attributes, connection::TOKEN, c"token is missing")?;
    let token = attribute.u32().unwrap_or(0);
    match Held::lookup(request.net(), token, &PATH_MANAGER) {
        Some(connection) => Ok((token, connection)),
        None => Err(request.refuse(
            code::ESRCH,
            Some(attribute),
            c"token: no such connection in this network namespace, or not managed by smapp",
        )),
    }
}

/// What [`put_details`] writes.
const DETAILS_SIZE: usize = SUBFLOW_SIZE + FATE_SIZE + 3 * 8 + 4 + TcpInfo::SIZE + 4;

/// Everything about a subflow, in a nest.
fn put_details(body: &mut Body<'_>, info: &SubflowInfo, tcp: &TcpInfo) -> Result {
    body.nest(connection::SUBFLOW, |body| {
        put_subflow(body, info)?;
        put_timer(body, info)?;
        body.u32(subflow::ERRNO_SOFT, info.errno_soft())?;
        body.u32(subflow::SND_UNA, info.snd_una())?;
        body.bytes(subflow::TCP_INFO, tcp.as_bytes())
    })
}

/// What [`put_head`] writes.
const HEAD_SIZE: usize = CONNECTION_SIZE + 4 + 8 + 4 + MptcpInfo::SIZE + 4;

/// Everything about a connection but its subflows.
fn put_head(body: &mut Body<'_>, held: &Held) -> Result {
    let info = held.info();
    put_connection(body, &info)?;
    body.flag(connection::FALLBACK, info.fallback())?;
    body.u8(connection::EXTRA_SUBFLOWS, info.extra_subflows())?;
    body.bytes(connection::INFO, held.mptcp_info().as_bytes())
}

/// `conn-get`: a connection with its subflows.
pub(crate) struct ConnGet;

impl Command for ConnGet {
    const CMD: u8 = cmd::CONN_GET;
    const POLICY: &'static PolicyTable = &CONNECTION_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let (_, held) = find(request, &request.attributes())?;
        // One to spare for each kind: the initial one, and one that joins meanwhile.
        let subflows = usize::from(held.info().extra_subflows()).saturating_add(2);
        let size = subflows
            .saturating_mul(DETAILS_SIZE)
            .saturating_add(HEAD_SIZE);
        request.reply(size, |body| {
            put_head(body, &held)?;
            held.for_each_subflow(|info, tcp| put_details(body, info, tcp))
        })
    }
}

impl Dump for ConnGet {
    const CMD: u8 = cmd::CONN_GET;

    /// A connection whose subflows do not fit goes on in the next page, as a message of its own.
    fn fill(page: &mut Page<'_>, cursor: &mut Cursor) -> Result {
        let mut empty = true;
        loop {
            let before = *cursor;
            let [_, _, skip, ..] = before;
            let Some(held) = Held::next(page.net(), cursor, &PATH_MANAGER) else {
                return Ok(());
            };
            let mut done: c_long = 0;
            let mut cut = false;
            let filled = page.message(|body| {
                put_head(body, &held)?;
                let mut position: c_long = 0;
                let result = held.for_each_subflow(|info, tcp| {
                    if position >= skip {
                        put_details(body, info, tcp)?;
                        done = done.saturating_add(1);
                    }
                    position = position.saturating_add(1);
                    Ok(())
                });
                cut = result.is_err() && done > 0;
                if cut {
                    Ok(())
                } else {
                    result
                }
            });
            match filled {
                Ok(()) if !cut => {
                    let [_, _, skip, ..] = cursor;
                    *skip = 0;
                    empty = false;
                }
                Ok(()) => {
                    *cursor = before;
                    let [_, _, skip, ..] = cursor;
                    *skip = skip.saturating_add(done);
                    return Ok(());
                }
                Err(error) => {
                    *cursor = before;
                    return if empty { Err(error) } else { Ok(()) };
                }
            }
        }
    }
}

/// `subflow-create`: opens a subflow, and tells its id and source port.
pub(crate) struct SubflowCreate;

impl Command for SubflowCreate {
    const CMD: u8 = cmd::SUBFLOW_CREATE;
    const POLICY: &'static PolicyTable = &CONNECTION_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (token, held) = find(request, &attributes)?;
        let subflow = wanted(request, &nest(request, &attributes)?)?;
        let info = held
            .create_subflow(&subflow)
            .map_err(|error| request.refuse(error, None, why_not_created(error)))?;
        request.reply(CONNECTION_SIZE + SUBFLOW_SIZE, |body| {
            body.u32(connection::TOKEN, token)?;
            body.nest(connection::SUBFLOW, |body| put_subflow(body, &info))
        })
    }
}

/// `subflow-destroy`: closes a subflow.
pub(crate) struct SubflowDestroy;

impl Command for SubflowDestroy {
    const CMD: u8 = cmd::SUBFLOW_DESTROY;
    const POLICY: &'static PolicyTable = &CONNECTION_POLICY;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (_, held) = find(request, &attributes)?;
        let subflow = nest(request, &attributes)?;
        let id = request.require(&subflow, subflow::ID, c"subflow: id is missing")?;
        held.destroy_subflow(id.u32().unwrap_or(u32::MAX))
            .map_err(|error| request.refuse(error, Some(id), why_not_destroyed(error)))
    }
}

fn nest<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<Attributes<'a>> {
    let nest = request.require(attributes, connection::SUBFLOW, c"subflow is missing")?;
    request.nested(nest, &SUBFLOW_POLICY)
}

/// The subflow that a request asks for.
fn wanted<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<NewSubflow> {
    const REMOTE_ADDRESS: &CStr = c"subflow: remote-address is missing";
    const REMOTE_PORT: &CStr = c"subflow: remote-port is missing";

    let address = request.require(attributes, subflow::REMOTE_ADDRESS, REMOTE_ADDRESS)?;
    let port = request.require(attributes, subflow::REMOTE_PORT, REMOTE_PORT)?;
    let id = attributes.get(subflow::REMOTE_ID).and_then(|id| id.u8());
    let Some(number @ 1..) = port.be16() else {
        return Err(request.refuse(code::EINVAL, Some(port), c"remote-port: must not be 0"));
    };
    let bad = |at, message| move |error| request.refuse(error, Some(at), message);

    let mut new = NewSubflow::to(address.payload(), number, id.unwrap_or(0))
        .map_err(bad(address, c"remote-address: must have 4 or 16 bytes"))?;
    if let Some(address) = attributes.get(subflow::LOCAL_ADDRESS) {
        new.set_local_address(address.payload()).map_err(bad(
            address,
            c"local-address: must be of the family of remote-address",
        ))?;
    }
    if let Some(port) = attributes.get(subflow::LOCAL_PORT) {
        new.set_local_port(port.be16().unwrap_or(0));
    }
    if let Some(ifindex) = attributes.get(subflow::IFINDEX) {
        let number = ifindex.u32().and_then(|index| c_int::try_from(index).ok());
        let Some(number) = number else {
            return Err(request.refuse(code::EINVAL, Some(ifindex), c"ifindex: out of range"));
        };
        new.set_ifindex(number);
    }
    if attributes.flag(subflow::BACKUP) {
        new.set_backup();
    }
    Ok(new)
}

fn why_not_created(error: Error) -> &'static CStr {
    match error {
        code::EOPNOTSUPP => c"the connection fell back to TCP",
        code::ENOTCONN => c"the connection is not established yet",
        code::EACCES => c"the peer refuses joins to the address of its initial subflow",
        code::ENOSPC => c"the connection has as many subflows as it can have",
        code::EADDRNOTAVAIL => c"local-address: is not an address of this host",
        code::EADDRINUSE => c"local-port: in use",
        code::ENETUNREACH | code::EHOSTUNREACH => c"remote-address: no route",
        code::ENODEV => c"ifindex: no such interface",
        code::EPERM => c"the connection is being closed",
        _ => c"the subflow could not be created",
    }
}

fn why_not_destroyed(error: Error) -> &'static CStr {
    match error {
        code::ESRCH => c"id: no such subflow",
        code::EOPNOTSUPP => c"the connection fell back to TCP",
        code::EPERM => c"the connection is being closed",
        _ => c"the subflow could not be destroyed",
    }
}
