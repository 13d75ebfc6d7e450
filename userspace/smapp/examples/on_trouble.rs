// SPDX-License-Identifier: GPL-2.0
//! A policy that opens a backup subflow on another path when the first one loses a segment.
//!
//! `cargo run -p smapp --example on_trouble`, with CAP_NET_ADMIN. The text from here on is
//! that of docs/policies.md.

use std::time::Duration;

use smapp::{Client, Context, Engine, Error, EventKind, EventSet, Policy};
use smapp::{Subflow, SubflowCreate, Token};

/// Opens a backup subflow when the retransmission timer of another has expired.
pub struct OnTrouble;

impl OnTrouble {
    fn help(&self, context: &mut Context<'_>, token: Token) {
        let Some(connection) = context.client_connection(token) else {
            return;
        };
        let Some(first) = connection.leading_subflow().copied() else {
            return;
        };
        let held = |address| {
            connection
                .subflows
                .iter()
                .any(|s| s.local_address == address)
        };
        let other = context
            .addresses()
            .iter()
            .find(|a| a.address.is_ipv4() == first.local_address.is_ipv4() && !held(a.address));
        let Some(other) = other else { return };
        let create = SubflowCreate::to(first.remote())
            .local_address(other.address)
            .backup(true);
        match context.subflow_create(token, &create) {
            Ok(new) => context.explain(token, format_args!("in trouble: opening {}", new.id)),
            Err(error) => context.explain(token, format_args!("in trouble: {error}")),
        }
    }
}

impl Policy for OnTrouble {
    fn events(&self) -> EventSet {
        EventSet::of(&[EventKind::Timeout])
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, _: &Subflow) {
        self.help(context, token);
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, closed: &Subflow) {
        if closed.backup {
            context.timer(token, Duration::from_secs(5), 0);
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, _: u32) {
        self.help(context, token);
    }
}

/// Runs it.
pub fn main() -> Result<(), Error> {
    Engine::new(Client::connect()?, OnTrouble).run()
}
