// SPDX-License-Identifier: GPL-2.0

//! Announcing local addresses to the peer.

use super::{find, host_address, nonzero};
use crate::{
    policy, size,
    sys::{
        address::Address,
        attribute::{Attribute, Attributes, PolicyTable},
        family::Command,
        request::Request,
    },
    uapi::{address, cmd, connection},
    wire::put_address,
};
use kernel::{
    error::{code, Error},
    prelude::*,
};

/// What `announce` answers with.
const SIZE: usize = size::CONNECTION_IDENTITY + size::NEST + size::ADDRESS_ANNOUNCED;

/// `announce`: tells the peer of a local address.
pub(crate) struct Announce;

impl Command for Announce {
    const CMD: u8 = cmd::ANNOUNCE;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (token, held) = find(request, &attributes)?;
        let (nest, attributes) = nest(request, &attributes)?;
        if let Some(id) = attributes.get(address::ID) {
            return Err(request.refuse(code::EINVAL, Some(id), c"id: the kernel chooses it"));
        }
        let mut address = local_address(request, &attributes, 0)?;
        held.announce(&mut address)
            .map_err(|error| request.refuse(error, Some(nest), why_not_signalled(error)))?;
        request.reply(SIZE, |body| {
            body.u32(connection::TOKEN, token)?;
            put_address(body, &address.endpoint())
        })
    }
}

/// `withdraw`: tells the peer that a local address is gone.
pub(crate) struct Withdraw;

impl Command for Withdraw {
    const CMD: u8 = cmd::WITHDRAW;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let attributes = request.attributes();
        let (_, held) = find(request, &attributes)?;
        let (nest, attributes) = nest(request, &attributes)?;
        let id = request.require(&attributes, address::ID, c"address: id is missing")?;
        let address = local_address(request, &attributes, id.u8().unwrap_or(0))?;
        held.withdraw(&address)
            .map_err(|error| request.refuse(error, Some(nest), why_not_signalled(error)))
    }
}

/// The nest of an address, and what is in it.
fn nest<'a>(
    request: &Request<'a>,
    attributes: &Attributes<'a>,
) -> Result<(Attribute<'a>, Attributes<'a>)> {
    let nest = request.require(attributes, connection::ADDRESS, c"address is missing")?;
    Ok((nest, request.nested(nest)?))
}

/// The address in a nest, with a port or with that of the initial subflow.
fn local_address<'a>(
    request: &Request<'a>,
    attributes: &Attributes<'a>,
    id: u8,
) -> Result<Address> {
    const MISSING: &CStr = c"address: address is missing";
    const NOT_A_HOST: &CStr = c"address: must be that of a host, of 4 or 16 bytes";

    let address = request.require(attributes, address::ADDRESS, MISSING)?;
    let bytes = host_address(request, address, NOT_A_HOST)?;
    let port = match attributes.get(address::PORT) {
        Some(port) => nonzero(request, port, c"port: must not be 0")?,
        None => 0,
    };
    Address::new(bytes, port, id)
}

fn why_not_signalled(error: Error) -> &'static CStr {
    match error {
        code::EBUSY => c"the announcement or withdrawal before is still to be sent",
        code::EOPNOTSUPP => c"the connection fell back to TCP",
        code::ENOTCONN => c"the connection is not established yet",
        code::ENOSPC => c"the connection has as many local addresses as it can have",
        code::EPERM => c"the connection is being closed",
        _ => c"the address could not be signalled",
    }
}
