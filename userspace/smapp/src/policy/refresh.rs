// SPDX-License-Identifier: GPL-2.0
//! The policy `refresh`: several subflows on one pair of addresses from random
//! ports, of which the slowest is replaced again and again (section 4.4 of the
//! paper).
//!
//! Where a network spreads flows by their ports over paths of different speed
//! or load, this finds ports that lead over good ones. It looks at the rates at
//! which TCP paces the subflows, and rests while they are alike, looking ever more
//! seldom. What it learns about ports serves the next connections to the same server.

use std::collections::{BTreeMap, VecDeque};

use super::bundle::{Bundle, Pair};
use super::gone::withdraw_if_gone;
use super::options::{Count, Fraction, Time, options};
use super::retry::Retry;
use crate::engine::{Context, Policy};
use crate::kernel::Error;
use crate::model::{Connection, Errno, LocalAddress, Subflow, SubflowCreate, SubflowId, Token};
use crate::random::Random;

/// Keys of the timers.
const FILL: u32 = 0;
const COMPARE: u32 = 1;

/// Subflows that are alike are compared half as often each time, down to a 16th.
const LONGEST_REST: u32 = 4;

/// Where the kernel takes its ports from, unless `ip_local_port_range` says otherwise.
const PORTS: std::ops::Range<u16> = 32768..61000;
/// How many ports are tried when those before are taken; one once that has failed.
const TRIES: usize = 8;
/// Pairs of addresses about which something is known, at most.
const PAIRS: usize = 256;
/// Slow ports and fast ports known of a pair, at most.
const KNOWN: usize = 64;

options! {
    /// Subflows of a connection, the initial one included
    subflows: Count<256> = Count::new(5), "N";
    /// Compare them this often
    interval: Time = Time::ms(2500), "TIME";
    /// Replace none while the slowest is slower than the fastest by this part at most, 0 to 1
    tolerance: Fraction = Fraction::new(0.2), "PART";
    /// Open a subflow that was lost again after this
    retry: Time = Time::ms(1000), "TIME";
    /// Each loss in a row doubles the delay, up to this
    longest_delay: Time = Time::ms(60_000), "TIME";
}

/// The policy and what it knows of connections and ports.
#[derive(Debug)]
pub struct Refresh {
    options: Options,
    bundles: BTreeMap<Token, Compared>,
    ports: BTreeMap<Pair, Ports>,
    random: Random,
}

/// The subflows of a connection, and how they compare.
#[derive(Debug)]
struct Compared {
    bundle: Bundle,
    /// The subflow that was slowest, while it closes.
    dropped: Option<SubflowId>,
    /// Bytes acknowledged when the subflows were compared last.
    acked: u64,
    /// How many times in a row they were alike.
    alike: u32,
}

/// What is known about the ports of a pair, newest last.
#[derive(Debug, Default)]
struct Ports {
    slow: VecDeque<u16>,
    fast: VecDeque<u16>,
}

fn learn(known: &mut VecDeque<u16>, port: u16) {
    known.retain(|&other| other != port);
    if known.len() == KNOWN {
        known.pop_front();
    }
    known.push_back(port);
}

impl Refresh {
    /// The policy; `seed` determines its random ports and delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            bundles: BTreeMap::new(),
            ports: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Opens the subflows that are missing.
    fn fill(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        while let Some(Compared { bundle, .. }) = self.bundles.get_mut(&token) {
            bundle.leave_dead(context, token);
            let Some(connection) = context.connection(token) else {
                return;
            };
            let held = connection.subflows.iter().filter(|s| bundle.has(s)).count();
            if held >= self.options.subflows.into() || bundle.retry.waits(context.now()) {
                return;
            }
            match self.open(context, token) {
                Ok(subflow) => {
                    let (id, port) = (subflow.id, subflow.local_port);
                    context.explain(
                        token,
                        format_args!("{event}: opening subflow {id} from port {port}"),
                    );
                }
                Err(error) if error.is_final() => {
                    context.explain(token, format_args!("{event}: {error}: nothing to do here"));
                    context.cancel_all(token);
                    self.bundles.remove(&token);
                }
                Err(error) => self.later(context, token, format_args!("{event}: {error}")),
            }
        }
    }

    /// Opens one subflow from a port that is free.
    fn open(&mut self, context: &mut Context<'_>, token: Token) -> Result<Subflow, Error> {
        let mut last = Err(Error::NoAnswer("subflow-create"));
        let failed = self
            .bundles
            .get(&token)
            .map_or(0, |c| c.bundle.retry.times());
        let tries = if failed == 0 { TRIES } else { 1 };
        for n in 0..tries {
            let (Some(compared), Some(connection)) =
                (self.bundles.get(&token), context.connection(token))
            else {
                break;
            };
            let pair @ (local, server) = compared.bundle.pair;
            let port = self.port(connection, pair, n);
            let create = SubflowCreate::to(server)
                .local_address(local)
                .local_port(port);
            last = context.subflow_create(token, &create);
            match &last {
                Err(error) if error.errno() == Some(Errno::EADDRINUSE) => continue,
                _ => break,
            }
        }
        last
    }

    /// A port to try: first those known to be fast, then random ones not known
    /// to be slow.
    fn port(&mut self, connection: &Connection, pair: Pair, n: usize) -> u16 {
        let free = |port: &u16| connection.subflows.iter().all(|s| s.local_port != *port);
        let known = self.ports.get(&pair);
        let fast = known.and_then(|known| known.fast.iter().rev().filter(|p| free(p)).nth(n));
        if let Some(&port) = fast {
            return port;
        }
        let mut port = PORTS.start;
        for _ in 0..TRIES {
            port = PORTS.start + (self.random.next() % PORTS.len() as u64) as u16;
            if free(&port) && !known.is_some_and(|known| known.slow.contains(&port)) {
                break;
            }
        }
        port
    }

    /// Drops the slowest subflow, or rests if they are alike.
    fn compare(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(compared) = self.bundles.get_mut(&token) else {
            return;
        };
        context.timer(token, self.options.interval.get(), COMPARE);
        let Ok(connection) = context.query(token) else {
            return;
        };
        let acked = connection.info.map_or(0, |info| info.bytes_acked);
        let idle = std::mem::replace(&mut compared.acked, acked) == acked;
        let bundle = &compared.bundle;
        let rate = |s: &Subflow| s.tcp_info.map_or(0, |info| info.pacing_rate);
        let working = connection.subflows.iter();
        let working = working.filter(|s| bundle.has(s) && s.has_joined() && s.is_own());
        let slowest = working.clone().min_by_key(|s| rate(s));
        let fastest = working.clone().max_by_key(|s| rate(s));
        let (Some(slowest), Some(fastest)) = (slowest, fastest) else {
            return;
        };
        let full = working.count() >= self.options.subflows.into();
        // Rates of an idle connection say nothing, and the last subflow stays.
        if idle || !full || slowest.id == fastest.id {
            return;
        }
        let (id, port, slow, fast) = (slowest.id, slowest.local_port, rate(slowest), rate(fastest));
        if !self.ports.contains_key(&bundle.pair) && self.ports.len() == PAIRS {
            self.ports.pop_first();
        }
        let ports = self.ports.entry(bundle.pair).or_default();
        if slow as f64 >= fast as f64 * (1.0 - self.options.tolerance.get()) {
            let subflows = connection.subflows.iter().filter(|s| bundle.has(s));
            subflows.for_each(|s| learn(&mut ports.fast, s.local_port));
            compared.alike = (compared.alike + 1).min(LONGEST_REST);
            let rest = self.options.interval.get() * (1 << compared.alike);
            context.timer(token, rest, COMPARE);
            let text = format_args!("compared: {slow} to {fast} B/s are alike, resting");
            return context.explain(token, text);
        }
        compared.alike = 0;
        learn(&mut ports.slow, port);
        ports.fast.retain(|&other| other != port);
        compared.dropped = Some(id);
        context.explain(
            token,
            format_args!(
                "compared: {slow} to {fast} B/s: closing {id} from port {port}, the slowest"
            ),
        );
        if let Err(error) = context.subflow_destroy(token, id) {
            log::warn!("{token} id {id}: {error}");
        }
    }

    /// Follows a local address that came or went.
    fn follow(&mut self, context: &mut Context<'_>, changed: LocalAddress, event: &str) {
        for token in self.bundles.keys().copied().collect::<Vec<_>>() {
            let Some(Compared { bundle, .. }) = self.bundles.get_mut(&token) else {
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
        let Some(Compared { bundle, .. }) = self.bundles.get_mut(&token) else {
            return;
        };
        let (first, longest) = (self.options.retry.get(), self.options.longest_delay.get());
        let retry = &mut bundle.retry;
        // Those that are lost together wait together.
        let left = retry.left(context.now());
        let delay =
            left.unwrap_or_else(|| retry.failed(context.now(), first, longest, &mut self.random));
        let seconds = delay.as_secs_f64();
        context.timer(token, delay, FILL);
        context.explain(
            token,
            format_args!("{why}: opening again in {seconds:.1} s"),
        );
    }
}

impl Policy for Refresh {
    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let first = context
            .client_connection(token)
            .and_then(Connection::leading_subflow);
        if let Some(first) = first {
            let compared = Compared {
                bundle: Bundle::of(first),
                dropped: None,
                acked: 0,
                alike: 0,
            };
            self.bundles.entry(token).or_insert(compared);
            self.fill(context, token, context.event());
            context.timer(token, self.options.interval.get(), COMPARE);
        }
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.bundles.remove(&connection.token);
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, _: &Subflow) {
        if let Some(compared) = self.bundles.get_mut(&token) {
            compared.bundle.retry = Retry::default();
            compared.alike = 0;
            compared.bundle.close_others(context, token);
            context.timer(token, self.options.interval.get(), COMPARE);
        }
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if self.bundles.contains_key(&token) {
            withdraw_if_gone(context, token, subflow);
        }
        let compared = self.bundles.get_mut(&token);
        let Some(compared) = compared.filter(|c| c.bundle.has(subflow)) else {
            return;
        };
        let id = subflow.id;
        if compared.dropped == Some(id) {
            compared.dropped = None;
            self.fill(context, token, "the slowest is gone");
        } else {
            let errno = subflow.errno.unwrap_or_default();
            self.later(context, token, format_args!("sub_closed id {id} {errno}"));
        }
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        self.follow(context, address, "new_local_addr");
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        self.follow(context, gone, "del_local_addr");
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        match key {
            FILL => self.fill(context, token, "timer"),
            _ => self.compare(context, token),
        }
    }
}
