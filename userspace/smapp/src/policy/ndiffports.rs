// SPDX-License-Identifier: GPL-2.0
//! The policy `ndiffports`: several subflows on one pair of addresses, from
//! ports that the kernel chooses (section 4.5 of the paper).
//!
//! Where a network spreads flows by their ports over several paths, these use
//! more than one of them.

use std::collections::BTreeMap;

use super::bundle::Bundle;
use super::gone::withdraw_if_gone;
use super::options::{Count, Time, options};
use super::retry::Retry;
use crate::engine::{Context, Policy};
use crate::model::{Connection, LocalAddress, Subflow, SubflowCreate, Token};
use crate::random::Random;

options! {
    /// Subflows of a connection, the initial one included
    subflows: Count<256> = Count::new(2), "N";
    /// Open a subflow that was lost again after this
    retry: Time = Time::ms(1000), "TIME";
    /// Each loss in a row doubles the delay, up to this
    longest_delay: Time = Time::ms(60_000), "TIME";
}

/// The policy and what it knows of each connection.
#[derive(Debug)]
pub struct Ndiffports {
    options: Options,
    bundles: BTreeMap<Token, Bundle>,
    random: Random,
}

impl Ndiffports {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            bundles: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Opens the subflows that are missing.
    fn fill(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        while let Some(bundle) = self.bundles.get_mut(&token) {
            bundle.leave_dead(context, token);
            let Some(connection) = context.connection(token) else {
                return;
            };
            let held = connection.subflows.iter().filter(|s| bundle.has(s)).count();
            if held >= self.options.subflows.into() || bundle.retry.waits(context.now()) {
                return;
            }
            let (local, server) = bundle.pair;
            let create = SubflowCreate::to(server).local_address(local);
            match context.subflow_create(token, &create) {
                Ok(subflow) => {
                    let (id, port) = (subflow.id, subflow.local_port);
                    let n = held + 1;
                    context.explain(
                        token,
                        format_args!("{event}: opening subflow {id} from port {port}, number {n}"),
                    );
                }
                Err(error) if error.is_final() => {
                    context.explain(token, format_args!("{event}: {error}: nothing to do here"));
                    self.bundles.remove(&token);
                }
                Err(error) => self.later(context, token, format_args!("{event}: {error}")),
            }
        }
    }

    /// Follows a local address that came or went.
    fn follow(&mut self, context: &mut Context<'_>, changed: LocalAddress, event: &str) {
        for token in self.bundles.keys().copied().collect::<Vec<_>>() {
            let Some(bundle) = self.bundles.get_mut(&token) else {
                continue;
            };
            if bundle.follow(context, token, changed) {
                bundle.retry = Retry::default();
                self.fill(context, token, event);
            }
        }
    }

    /// Tries again later.
    fn later(&mut self, context: &mut Context<'_>, token: Token, why: std::fmt::Arguments<'_>) {
        let Some(bundle) = self.bundles.get_mut(&token) else {
            return;
        };
        let (first, longest) = (self.options.retry.get(), self.options.longest_delay.get());
        let retry = &mut bundle.retry;
        // Those that are lost together wait together.
        let left = retry.left(context.now());
        let delay =
            left.unwrap_or_else(|| retry.failed(context.now(), first, longest, &mut self.random));
        let seconds = delay.as_secs_f64();
        context.timer(token, delay, 0);
        context.explain(
            token,
            format_args!("{why}: opening again in {seconds:.1} s"),
        );
    }
}

impl Policy for Ndiffports {
    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let first = context
            .client_connection(token)
            .and_then(Connection::leading_subflow);
        if let Some(first) = first {
            let bundle = Bundle::of(first);
            self.bundles.entry(token).or_insert(bundle);
            self.fill(context, token, context.event());
        }
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.bundles.remove(&connection.token);
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, _: &Subflow) {
        if let Some(bundle) = self.bundles.get_mut(&token) {
            bundle.retry = Retry::default();
            bundle.close_others(context, token);
        }
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if self.bundles.contains_key(&token) {
            withdraw_if_gone(context, token, subflow);
        }
        if self.bundles.get(&token).is_some_and(|b| b.has(subflow)) {
            let (id, errno) = (subflow.id, subflow.errno.unwrap_or_default());
            self.later(context, token, format_args!("sub_closed id {id} {errno}"));
        }
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        self.follow(context, address, "new_local_addr");
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        self.follow(context, gone, "del_local_addr");
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, _: u32) {
        self.fill(context, token, "timer");
    }
}
