// SPDX-License-Identifier: GPL-2.0
//! What can be asked of the routing tables.

use std::net::IpAddr;

use super::IfIndex;

/// By which interface do packets of a socket leave?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteQuery {
    /// The local address of the socket, if it has one.
    pub from: Option<IpAddr>,
    /// Where it sends to.
    pub to: IpAddr,
    /// Its mark (`SO_MARK`), if it has one.
    pub mark: Option<u32>,
    /// Its user, if known.
    pub uid: Option<u32>,
    /// The interface that it is bound to, if it is.
    pub bound: Option<IfIndex>,
}
