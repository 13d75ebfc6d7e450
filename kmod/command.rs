// SPDX-License-Identifier: GPL-2.0

//! Commands of user space. All run in process context, without any lock held.

mod address;
mod connection;
mod stats;
mod subflow;

pub(crate) use self::{
    address::{Announce, Withdraw},
    connection::ConnGet,
    stats::StatsGet,
    subflow::{SubflowCreate, SubflowDestroy, SubflowSet},
};

use crate::{
    path_manager::PATH_MANAGER,
    stats::count,
    sys::{
        attribute::{Attribute, Attributes, PolicyTable},
        family::Command,
        held::Held,
        request::Request,
    },
    uapi,
};
use core::{marker::PhantomData, net::IpAddr};
use kernel::{error::code, prelude::*};

/// A command that is counted.
pub(crate) struct Counted<C>(PhantomData<C>);

impl<C: Command> Command for Counted<C> {
    const CMD: u8 = C::CMD;
    const POLICY: &'static PolicyTable = C::POLICY;

    fn run(request: &Request<'_>) -> Result {
        let result = C::run(request);
        count(Self::CMD, result.is_ok());
        result
    }
}

const NO_SUCH: &CStr =
    c"token: no such connection in this network namespace, or not managed by smapp";

/// The connection that a request names.
fn find<'a>(request: &Request<'a>, attributes: &Attributes<'a>) -> Result<(u32, Held)> {
    let attribute = request.require(attributes, uapi::connection::TOKEN, c"token is missing")?;
    let token = attribute.u32().unwrap_or(0);
    match Held::lookup(request.net(), token, &PATH_MANAGER) {
        Some(connection) => Ok((token, connection)),
        None => Err(request.refuse(code::ESRCH, Some(attribute), NO_SUCH)),
    }
}

/// The address of an attribute, which must be one that a host can have.
fn host_address<'a>(
    request: &Request<'a>,
    attribute: Attribute<'a>,
    message: &'static CStr,
) -> Result<&'a [u8]> {
    let bytes = attribute.payload();
    let address = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let valid = match address {
        Ok(IpAddr::V4(v4)) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        // An IPv4 address has 4 bytes, whatever the socket.
        Ok(IpAddr::V6(v6)) => {
            !(v6.is_unspecified() || v6.is_multicast() || v6.to_ipv4_mapped().is_some())
        }
        Err(_) => false,
    };
    if valid {
        Ok(bytes)
    } else {
        Err(request.refuse(code::EINVAL, Some(attribute), message))
    }
}

/// The port of an attribute, in host byte order.
fn nonzero<'a>(
    request: &Request<'a>,
    attribute: Attribute<'a>,
    message: &'static CStr,
) -> Result<u16> {
    match attribute.be16() {
        Some(port @ 1..) => Ok(port),
        _ => Err(request.refuse(code::EINVAL, Some(attribute), message)),
    }
}
