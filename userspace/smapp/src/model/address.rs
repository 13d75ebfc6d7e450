// SPDX-License-Identifier: GPL-2.0
//! Addresses of both hosts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{AddressId, IfIndex, InterfaceName};

/// An address that one of the hosts announces to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Its number, by which it is withdrawn (RFC 8684 section 3.4.1).
    pub id: AddressId,
    /// The address.
    pub address: IpAddr,
    /// TCP port; none if it is the one of the initial subflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl fmt::Display for Address {
    /// `id 1 10.0.2.1`, with the port behind a colon if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {} ", self.id)?;
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// A local address from which subflows can start: valid beyond its link, not tentative
/// (IPv6), and on an interface that is up and not the loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// The interface that has it.
    pub ifindex: IfIndex,
    /// The name of that interface.
    pub interface: InterfaceName,
    /// Its preferred lifetime is over (RFC 4862): it serves the subflows that have it,
    /// and no new ones.
    pub deprecated: bool,
}
