// SPDX-License-Identifier: GPL-2.0

//! Opening, closing and changing subflows.

use super::{find, host_address, nonzero};
use crate::{
    policy, size,
    sys::{
        attribute::{Attributes, PolicyTable},
        family::Command,
        held::Held,
        new_subflow::NewSubflow,
        request::Request,
    },
    uapi::{cmd, connection, subflow},
    wire::put_subflow,
};
use kernel::{
    error::{code, Error},
    prelude::*,
};

/// What `subflow-create` answers with.
const SIZE: usize = size::CONNECTION_IDENTITY + size::NEST + size::SUBFLOW_IDENTITY;

/// `subflow-create`: opens a subflow, and tells its id and source port.
pub(crate) struct SubflowCreate;

impl Command for SubflowCreate {
    const CMD: u8 = cmd::SUBFLOW_CREATE;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (token, held) = find(request, &attributes)?;
        let subflow = wanted(request, &nest(request, &attributes)?)?;
        let info = held
            .create_subflow(&subflow)
            .map_err(|error| request.refuse(error, None, why_not_created(error)))?;
        request.reply(SIZE, |body| {
            body.u32(connection::TOKEN, token)?;
            body.nest(connection::SUBFLOW, |body| put_subflow(body, &info))
        })
    }
}

/// `subflow-destroy`: closes a subflow.
pub(crate) struct SubflowDestroy;

impl Command for SubflowDestroy {
    const CMD: u8 = cmd::SUBFLOW_DESTROY;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (_, held) = find(request, &attributes)?;
        let subflow = nest(request, &attributes)?;
        let at = attributes.get(connection::SUBFLOW);
        let refuse = |error| request.refuse(error, at, why_not_found(error));
        let id = match subflow.get(subflow::ID).and_then(|id| id.u32()) {
            Some(id) => id,
            None => id_of_ends(request, &held, &subflow)?.ok_or_else(|| refuse(code::ESRCH))?,
        };
        held.destroy_subflow(id, subflow.flag(subflow::RESET))
            .map_err(refuse)
    }
}

fn is_there(held: &Held, id: u32) -> bool {
    let mut found = false;
    let walked = held.for_each_subflow(|info, _| {
        found |= info.id() == id;
        Ok(())
    });
    walked.is_ok() && found
}

/// The id of the subflow with the ends that a request names; all four, as any fewer may be those of
/// several subflows.
fn id_of_ends<'a>(
    request: &Request<'a>,
    held: &Held,
    attributes: &Attributes<'a>,
) -> Result<Option<u32>> {
    const MISSING: &CStr = c"subflow: id, or both addresses and both ports, are missing";

    let wanted = |number| request.require(attributes, number, MISSING);
    let local = wanted(subflow::LOCAL_ADDRESS)?.payload();
    let local_port = wanted(subflow::LOCAL_PORT)?.be16();
    let remote = wanted(subflow::REMOTE_ADDRESS)?.payload();
    let remote_port = wanted(subflow::REMOTE_PORT)?.be16();
    let mut found = None;
    held.for_each_subflow(|info, _| {
        if info.local().address() == local
            && Some(info.local().port()) == local_port
            && info.remote().address() == remote
            && Some(info.remote().port()) == remote_port
        {
            found = Some(info.id());
        }
        Ok(())
    })?;
    Ok(found)
}

fn nest<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<Attributes<'a>> {
    let nest = request.require(attributes, connection::SUBFLOW, c"subflow is missing")?;
    request.nested(nest)
}

/// The subflow that a request asks for.
fn wanted<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<NewSubflow> {
    const REMOTE_ADDRESS: &CStr = c"subflow: remote-address is missing";
    const REMOTE_PORT: &CStr = c"subflow: remote-port is missing";
    const NOT_A_REMOTE: &CStr = c"remote-address: must be that of a host, of 4 or 16 bytes";
    const NOT_A_LOCAL: &CStr = c"local-address: must be that of a host, of 4 or 16 bytes";
    const TWO_FAMILIES: &CStr = c"local-address: must be of the family of remote-address";

    let remote = request.require(attributes, subflow::REMOTE_ADDRESS, REMOTE_ADDRESS)?;
    let port = request.require(attributes, subflow::REMOTE_PORT, REMOTE_PORT)?;
    let id = attributes.get(subflow::REMOTE_ID).and_then(|id| id.u8());
    let remote = host_address(request, remote, NOT_A_REMOTE)?;
    let number = nonzero(request, port, c"remote-port: must not be 0")?;

    let mut new = NewSubflow::to(remote, number, id.unwrap_or(0))?;
    if let Some(local) = attributes.get(subflow::LOCAL_ADDRESS) {
        let bytes = host_address(request, local, NOT_A_LOCAL)?;
        new.set_local_address(bytes)
            .map_err(|error| request.refuse(error, Some(local), TWO_FAMILIES))?;
    }
    if let Some(port) = attributes.get(subflow::LOCAL_PORT) {
        new.set_local_port(nonzero(request, port, c"local-port: must not be 0")?);
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
        code::ENOSPC => {
            c"the connection has as many subflows as it can have, or local addresses in use"
        }
        code::EADDRNOTAVAIL => c"local-address: is not an address of this host",
        code::EADDRINUSE => c"local-port: in use",
        code::ENETUNREACH | code::EHOSTUNREACH => c"remote-address: no route",
        code::ENODEV => c"ifindex: no such interface",
        code::EPERM => c"the connection is being closed",
        _ => c"the subflow could not be created",
    }
}

fn why_not_found(error: Error) -> &'static CStr {
    match error {
        code::ESRCH => c"subflow: there is no such subflow",
        code::ENOTCONN => c"subflow: not joined yet, or the connection is over",
        code::EOPNOTSUPP => c"the connection fell back to TCP",
        code::EPERM => c"the connection is being closed",
        _ => c"the subflow could not be changed",
    }
}

/// `subflow-set`: asks the peer to use a subflow as backup only, or no longer so.
pub(crate) struct SubflowSet;

impl Command for SubflowSet {
    const CMD: u8 = cmd::SUBFLOW_SET;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (_, held) = find(request, &attributes)?;
        let subflow = nest(request, &attributes)?;
        let at = request.require(&subflow, subflow::ID, c"subflow: id is missing")?;
        let id = at.u32().unwrap_or(u32::MAX);
        held.set_backup(id, subflow.flag(subflow::BACKUP))
            .map_err(|error| {
                // The core knows only subflows whose handshake is complete.
                let error = if error == code::ESRCH && is_there(&held, id) {
                    code::ENOTCONN
                } else {
                    error
                };
                request.refuse(error, Some(at), why_not_found(error))
            })
    }
}
