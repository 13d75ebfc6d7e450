// SPDX-License-Identifier: GPL-2.0
//! Several subflows of a connection on one pair of addresses.

use std::net::{IpAddr, SocketAddr};

use super::retry::Retry;
use crate::engine::Context;
use crate::model::{LocalAddress, Subflow, Token};

/// A local address and the address of a server.
pub(crate) type Pair = (IpAddr, SocketAddr);

/// The subflows of a connection on one pair of addresses: the first one's, until its local
/// address is gone or nothing works from there any more.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub pair: Pair,
    pub retry: Retry,
    /// It is no longer where it began.
    moved: bool,
}

impl Bundle {
    /// Those on the addresses of this subflow.
    pub fn of(first: &Subflow) -> Self {
        Self {
            pair: (first.local_address, first.remote()),
            retry: Retry::default(),
            moved: false,
        }
    }

    /// Whether a subflow is one of them.
    pub fn has(&self, subflow: &Subflow) -> bool {
        (subflow.local_address, subflow.remote()) == self.pair
    }

    /// Follows a local address that came or went: goes to another if the one in use is gone,
    /// if possible on the same interface. Whether there may be subflows to open now.
    pub fn follow(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        changed: LocalAddress,
    ) -> bool {
        let candidates = self.candidates(context);
        if candidates.iter().any(|l| l.address == self.pair.0) {
            return changed.address == self.pair.0;
        }
        let mut same = candidates.iter().filter(|l| l.ifindex == changed.ifindex);
        match same.next().or(candidates.first()) {
            Some(next) => self.go(context, token, next, "is gone"),
            None => return false,
        }
        true
    }

    /// Goes to the next local address, one after the other, if nothing is left on this one
    /// and joins from there fail.
    pub fn leave_dead(&mut self, context: &mut Context<'_>, token: Token) {
        let connection = context.connection(token);
        let held = connection.is_none_or(|c| c.subflows.iter().any(|s| self.has(s)));
        if held || self.retry.times() == 0 || self.retry.waits(context.now()) {
            return;
        }
        let candidates = self.candidates(context);
        let at = candidates.iter().position(|l| l.address == self.pair.0);
        let next = at.map_or(0, |at| (at + 1) % candidates.len());
        if let Some(next) = candidates.get(next).filter(|l| l.address != self.pair.0) {
            self.go(context, token, next, "does not work");
        }
    }

    /// The local addresses that can reach the server.
    fn candidates(&self, context: &Context<'_>) -> Vec<LocalAddress> {
        let same_family = |local: &&LocalAddress| local.address.is_ipv4() == self.pair.1.is_ipv4();
        context
            .addresses()
            .iter()
            .filter(same_family)
            .copied()
            .collect()
    }

    fn go(&mut self, context: &mut Context<'_>, token: Token, to: &LocalAddress, why: &str) {
        let (from, to, interface) = (self.pair.0, to.address, to.interface);
        context.explain(
            token,
            format_args!("{from} {why}: going to {to} {interface}"),
        );
        // Those that have joined stay until one works there.
        self.close(context, token, |bundle, s| bundle.has(s) && !s.has_joined());
        self.pair.0 = to;
        self.moved = true;
    }

    /// Closes the subflows elsewhere, once one of the bundle works where it has gone.
    pub fn close_others(&mut self, context: &mut Context<'_>, token: Token) {
        let subflows = context.connection(token).map_or(&[][..], |c| &c.subflows);
        let works = subflows.iter().any(|s| self.has(s) && s.has_joined());
        if self.moved && works {
            self.close(context, token, |bundle, s| !bundle.has(s));
        }
    }

    fn close(
        &self,
        context: &mut Context<'_>,
        token: Token,
        which: impl Fn(&Self, &Subflow) -> bool,
    ) {
        let subflows = context.connection(token).map_or(&[][..], |c| &c.subflows);
        let closing = subflows.iter().filter(|s| s.is_own() && which(self, s));
        let closing: Vec<_> = closing.map(|s| (s.id, s.local_address)).collect();
        for (id, address) in closing {
            context.explain(token, format_args!("closing subflow {id} on {address}"));
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
        }
    }
}
