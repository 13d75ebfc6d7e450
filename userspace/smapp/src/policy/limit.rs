// SPDX-License-Identifier: GPL-2.0
//! The policy `limit`, for servers: at most so many subflows for a connection
//! and for an address of the peer (section 3 of the paper).
//!
//! A subflow that joins beyond a limit is closed with a reset; those that were
//! there stay, and so does the last one of a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::options::{Count, options};
use crate::engine::{Context, Policy};
use crate::model::{Connection, Subflow, SubflowDestroy, SubflowId, Token};

options! {
    /// Subflows of a connection at most, the initial one included
    subflows: Count<256> = Count::new(4), "N";
    /// Subflows of a connection with one address of the peer at most
    per_address: Count<256> = Count::new(2), "N";
    /// Subflows of all connections together with one address of a peer at most
    /// [default: no limit]
    per_peer: Option<Count<{ u32::MAX as u64 }>> = None, "N";
}

/// The policy and the subflows that have joined.
#[derive(Debug)]
pub struct Limit {
    options: Options,
    peers: BTreeMap<IpAddr, BTreeSet<(Token, SubflowId)>>,
}

impl Limit {
    /// The policy; nothing is random in it.
    pub fn new(options: Options, _: u64) -> Self {
        Self {
            options,
            peers: BTreeMap::new(),
        }
    }

    /// Counts a subflow to its peer.
    fn add(&mut self, token: Token, subflow: &Subflow) {
        let with_peer = self.peers.entry(subflow.remote_address).or_default();
        with_peer.insert((token, subflow.id));
    }

    fn remove(&mut self, token: Token, subflow: &Subflow) {
        if let Some(with_peer) = self.peers.get_mut(&subflow.remote_address) {
            with_peer.remove(&(token, subflow.id));
            if with_peer.is_empty() {
                self.peers.remove(&subflow.remote_address);
            }
        }
    }

    /// Closes a subflow if the older ones are as many as there may be.
    fn check(&self, context: &mut Context<'_>, token: Token, id: SubflowId) {
        let Some(connection) = context.connection(token).filter(|c| c.server_side) else {
            return;
        };
        let Some(address) = connection.subflow(id).map(|s| s.remote_address) else {
            return;
        };
        let with_peer = self.peers.get(&address).map_or(0, BTreeSet::len);
        let older = connection.subflows.iter();
        let older = older.filter(|s| s.has_joined() && s.id < id);
        let same = older.clone().filter(|s| s.remote_address == address);
        let (all, same) = (older.count(), same.count());
        let rule = match self.options {
            // The last one stays, whatever the options say.
            _ if all == 0 => return,
            Options { subflows, .. } if all >= subflows.into() => "subflows",
            Options { per_address, .. } if same >= per_address.into() => "per-address",
            Options {
                per_peer: Some(n), ..
            } if with_peer > n.into() => "per-peer",
            _ => return,
        };
        context.explain(
            token,
            format_args!(
                "sub_estab id {id}: {all} before it, {same} with {address}: closing it ({rule})"
            ),
        );
        let destroy = SubflowDestroy::id(id).reset(true);
        if let Err(error) = context.subflow_destroy(token, destroy) {
            log::warn!("{token} id {id}: {error}");
        }
    }
}

impl Policy for Limit {
    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(connection) = context.connection(token).filter(|c| c.server_side) else {
            return;
        };
        for subflow in connection
            .subflows
            .clone()
            .iter()
            .filter(|s| s.has_joined())
        {
            self.add(token, subflow);
            self.check(context, token, subflow.id);
        }
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        for subflow in &connection.subflows {
            self.remove(connection.token, subflow);
        }
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let Some(connection) = context.connection(token).filter(|c| c.server_side) else {
            return;
        };
        // Those after it count it now: of this one it may have been told late.
        let joined = connection.subflows.iter().filter(|s| s.has_joined());
        let after = joined.map(|s| s.id).filter(|&id| id > subflow.id);
        let mut counted: Vec<_> = after.chain([subflow.id]).collect();
        counted.sort();
        self.add(token, subflow);
        for id in counted {
            self.check(context, token, id);
        }
    }

    fn subflow_closed(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.remove(token, subflow);
    }
}
