// SPDX-License-Identifier: GPL-2.0
//! Where the subflows of a connection may start, and by which interface they leave.

use std::net::SocketAddr;

use super::Context;
use crate::kernel::Error;
use crate::model::{Connection, LocalAddress, RouteQuery, Subflow, SubflowCreate, Token};

impl Context<'_> {
    /// The local addresses that new subflows of a connection may start from: none that is
    /// deprecated, and only where its program is if that bound itself to an interface or
    /// an address (unless a [rule](crate::rules::Rule::unbind) lets it leave).
    ///
    /// First comes one address of each interface, one that has a subflow if there is such
    /// a one; then a second of each, and so on: who takes them in this order uses every
    /// interface before it uses one twice.
    pub fn usable_addresses(&self, token: Token) -> Vec<LocalAddress> {
        let Some(connection) = self.connection(token) else {
            return Vec::new();
        };
        let bound = self.table.bound(token);
        let address = bound.and_then(|owner| owner.bound_address(connection));
        let ifindex = bound.and_then(|owner| owner.ifindex);
        let may_start = |local: &&LocalAddress| {
            !local.deprecated
                && address.is_none_or(|bound| bound == local.address)
                && ifindex.is_none_or(|bound| bound == local.ifindex)
        };
        let mut turns: Vec<(usize, LocalAddress)> = Vec::with_capacity(self.addresses.len());
        for used in [true, false] {
            let usable = self.addresses.iter().filter(may_start);
            for local in usable.filter(|local| has_subflow(connection, local) == used) {
                let place = |a: &LocalAddress| (a.ifindex, a.address.is_ipv4());
                let earlier = turns.iter().filter(|(_, a)| place(a) == place(local));
                turns.push((earlier.count(), *local));
            }
        }
        turns.sort_by_key(|&(turn, _)| turn);
        turns.into_iter().map(|(_, local)| local).collect()
    }

    /// A subflow from a local address that leaves by the interface of this address. As any
    /// socket it goes where the routing tables lead packets from this address; it is bound
    /// to the interface only if that is needed: they lead elsewhere, the address is on two
    /// interfaces, or `named` says that this interface was asked for. The error is that of
    /// the routing tables: there is no route over this interface.
    pub fn subflow_from(
        &mut self,
        token: Token,
        local: &LocalAddress,
        remote: SocketAddr,
        named: bool,
    ) -> Result<SubflowCreate, Error> {
        let create = SubflowCreate::to(remote).local_address(local.address);
        let mut query = self.route_query(token, local, remote);
        let mut others = self.addresses.iter();
        let twice = others.any(|a| a.address == local.address && a.ifindex != local.ifindex);
        if !named && !twice && self.kernel.route(&query).ok() == Some(local.ifindex) {
            return Ok(create);
        }
        query.bound = Some(local.ifindex);
        match self.kernel.route(&query) {
            Err(error @ Error::Refused { .. }) => Err(error),
            // Or nobody can tell: the command will.
            _ => Ok(create.ifindex(local.ifindex)),
        }
    }

    /// The local address of a subflow, on the interface that it is bound to or else leaves
    /// by; none if it is gone from there.
    pub fn local_address_of(&mut self, token: Token, subflow: &Subflow) -> Option<LocalAddress> {
        let of = |local: &&LocalAddress| local.address == subflow.local_address;
        let addresses = self.addresses;
        let mut those = addresses.iter().filter(of).copied();
        let owner = self.connection(token).map(|connection| connection.owner);
        // What its program is bound to may be something above that interface (a VRF).
        let theirs = owner.and_then(|owner| owner.ifindex);
        if let Some(bound) = subflow.ifindex.filter(|&bound| Some(bound) != theirs) {
            return those.find(|local| local.ifindex == bound);
        }
        let first = those.next()?;
        let second = those.next();
        if second.is_none() && !self.moves.contains(first.address) {
            return Some(first);
        }
        // The routing tables may still lead to where the address was.
        let query = self.route_query(token, &first, subflow.remote());
        match self.kernel.route(&query) {
            Ok(out) => {
                let mut those = addresses.iter().filter(of).copied();
                those.find(|local| local.ifindex == out)
            }
            Err(_) => Some(first),
        }
    }

    fn route_query(&self, token: Token, local: &LocalAddress, remote: SocketAddr) -> RouteQuery {
        let owner = self.connection(token).map(|connection| connection.owner);
        let owner = owner.unwrap_or_default();
        RouteQuery {
            from: Some(local.address),
            to: remote.ip(),
            mark: owner.mark,
            uid: owner.uid,
            bound: None,
        }
    }
}

fn has_subflow(connection: &Connection, local: &LocalAddress) -> bool {
    let mut subflows = connection.subflows.iter();
    subflows.any(|subflow| subflow.local_address == local.address)
}
