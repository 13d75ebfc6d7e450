// SPDX-License-Identifier: GPL-2.0
//! The policy `streaming`: a second path for an application that sends a block
//! every period, if a block is about to be late (section 4.3 of the paper).
//!
//! Half-way through a period it looks at what the peer has acknowledged. Below
//! half of the block it opens a subflow on another path. A subflow whose
//! retransmission timeout exceeds a second is closed, as soon as another works.
//!
//! When a block starts is guessed: the first begins with the first byte that is
//! sent, the others follow every period, until nothing is under way. An
//! application that runs the engine itself tells instead:
//!
//! ```
//! # use smapp::policy::streaming::{Options, Streaming};
//! # use smapp::{Engine, Token, sim::Sim};
//! # let kernel = Sim::new(std::time::Duration::ZERO);
//! # let token = Token(1);
//! let mut engine = Engine::new(kernel, Streaming::new(Options::default(), 1));
//! // Each time before it writes a block of 64 kB:
//! engine.control(|streaming, context| streaming.block(context, token, 65536));
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::gone::withdraw_if_gone;
use super::options::{Count, Fraction, Time, options};
use super::retry::Retry;
use crate::engine::{Context, Policy};
use crate::model::{Connection, Errno, EventKind, EventSet, LocalAddress, Subflow, Token};
use crate::random::Random;

/// Keys of the timers: has a first block begun, is this block late, does the
/// next one begin, may a subflow be opened again.
const START: u32 = 0;
const CHECK: u32 = 1;
const NEXT: u32 = 2;
const RETRY: u32 = 3;

options! {
    /// The application sends a block this often
    period: Time = Time::ms(1000), "TIME";
    /// Size of a block in bytes
    block: Count<{ 1 << 40 }> = Count::new(65536), "BYTES";
    /// Look after this part of the period, 0 to 1
    check: Fraction = Fraction::new(0.5), "PART";
    /// A block is late if less than this part of it is acknowledged then, 0 to 1
    late: Fraction = Fraction::new(0.5), "PART";
    /// Close a subflow whose retransmission timeout exceeds this, or that has made no
    /// progress for longer, as its timer tells
    rto: Time = Time::ms(1000), "TIME";
    /// Open a subflow that has failed again after this
    retry: Time = Time::ms(1000), "TIME";
    /// Each failure in a row doubles the delay, up to this
    longest_delay: Time = Time::ms(30_000), "TIME";
}

/// The policy and what it knows of each connection.
#[derive(Debug)]
pub struct Streaming {
    options: Options,
    streams: BTreeMap<Token, Stream>,
    random: Random,
}

#[derive(Debug)]
struct Stream {
    server: SocketAddr,
    /// Size of the block under way.
    block: u64,
    /// Bytes acknowledged when it began.
    base: u64,
    /// The application tells when blocks begin.
    told: bool,
    /// How many times in a row nothing had been sent.
    idle: u32,
    /// Local addresses whose subflow has failed.
    failed: BTreeMap<IpAddr, Retry>,
}

/// Bytes sent and acknowledged.
fn progress(connection: &Connection) -> (u64, u64) {
    let info = connection.info.unwrap_or_default();
    (info.bytes_sent, info.bytes_acked)
}

impl Streaming {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            streams: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// The application is about to write a block of so many bytes. From the
    /// first call on nothing is guessed about this connection.
    pub fn block(&mut self, context: &mut Context<'_>, token: Token, bytes: u64) {
        let (Some(stream), Ok(connection)) = (self.streams.get_mut(&token), context.query(token))
        else {
            return;
        };
        stream.block = bytes;
        stream.base = progress(&connection).1;
        stream.told = true;
        context.cancel(token, START);
        context.cancel(token, NEXT);
        let half = self.options.period.get().mul_f64(self.options.check.get());
        context.timer(token, half, CHECK);
    }

    /// Looks whether a first block has begun: often at first, later once a period.
    fn start(&mut self, context: &mut Context<'_>, token: Token) {
        let (Some(stream), Ok(connection)) = (self.streams.get_mut(&token), context.query(token))
        else {
            return;
        };
        if stream.told {
            return;
        }
        let period = self.options.period.get();
        if progress(&connection).0 > stream.base {
            stream.idle = 0;
            context.timer(token, period.mul_f64(self.options.check.get()), CHECK);
            context.timer(token, period, NEXT);
        } else {
            let delay = (period / 16).saturating_mul(1 << stream.idle.min(4));
            stream.idle = stream.idle.saturating_add(1);
            context.timer(token, delay, START);
        }
    }

    /// The next block begins.
    fn next(&mut self, context: &mut Context<'_>, token: Token) {
        let (Some(stream), Ok(connection)) = (self.streams.get_mut(&token), context.query(token))
        else {
            return;
        };
        let (sent, acked) = progress(&connection);
        let idle = std::mem::replace(&mut stream.base, acked) == acked && sent == acked;
        match idle {
            true => self.start(context, token),
            false => {
                let period = self.options.period.get();
                context.timer(token, period.mul_f64(self.options.check.get()), CHECK);
                context.timer(token, period, NEXT);
            }
        }
    }

    /// Looks whether the block is late.
    fn check(&mut self, context: &mut Context<'_>, token: Token) {
        let (Some(stream), Ok(connection)) = (self.streams.get(&token), context.query(token))
        else {
            return;
        };
        let (sent, acked) = progress(&connection);
        let (block, done) = (stream.block, acked.saturating_sub(stream.base));
        let late = (done as f64) < block as f64 * self.options.late.get();
        if late && sent > acked {
            let event = format!("half-way, {done} of {block} bytes acknowledged");
            self.open(context, token, &event);
        }
    }

    /// Opens a subflow from a local address that has none.
    fn open(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        let now = context.now();
        for local in context.usable_addresses(token) {
            let (Some(stream), Some(connection)) =
                (self.streams.get(&token), context.connection(token))
            else {
                return;
            };
            let subflows = &connection.subflows;
            if local.address.is_ipv4() != stream.server.is_ipv4()
                || subflows.iter().any(|s| s.local_address == local.address)
                || stream
                    .failed
                    .get(&local.address)
                    .is_some_and(|f| f.waits(now))
            {
                continue;
            }
            let LocalAddress {
                address, interface, ..
            } = local;
            let create = context.subflow_from(token, &local, stream.server, false);
            match create.and_then(|create| context.subflow_create(token, &create)) {
                Ok(subflow) => {
                    let id = subflow.id;
                    return context.explain(
                        token,
                        format_args!("{event}: opening subflow {id} on {address} {interface}"),
                    );
                }
                Err(error) => {
                    let text = format_args!("{event}: {address} {interface}: {error}");
                    context.explain(token, text);
                    if error.is_final() {
                        context.cancel_all(token);
                        self.streams.remove(&token);
                        return;
                    }
                    self.blame(context, token, address);
                }
            }
        }
    }

    /// Notes that a path has failed.
    fn blame(&mut self, context: &mut Context<'_>, token: Token, local: IpAddr) {
        if let Some(stream) = self.streams.get_mut(&token) {
            let (first, longest) = (self.options.retry.get(), self.options.longest_delay.get());
            let failed = stream.failed.entry(local).or_default();
            let delay = failed.failed(context.now(), first, longest, &mut self.random);
            context.timer(token, delay, RETRY);
        }
    }

    /// Whether a subflow exceeds the threshold, as it was told or asked for.
    fn is_bad(&self, context: &Context<'_>, token: Token, subflow: &Subflow) -> bool {
        let limit = self.options.rto.get();
        subflow.current_rto() > limit || context.stalled(token, subflow) > limit
    }

    /// Closes the subflows that are too slow to answer; opens one if there is
    /// no other.
    fn prune(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        let (true, Ok(connection)) = (self.streams.contains_key(&token), context.query(token))
        else {
            return;
        };
        let joined = connection.subflows.iter().filter(|s| s.has_joined());
        let (bad, good): (Vec<&Subflow>, Vec<_>) =
            joined.partition(|s| self.is_bad(context, token, s));
        if good.is_empty() {
            return self.open(context, token, event);
        }
        for subflow in bad.into_iter().filter(|s: &&Subflow| s.is_own()) {
            let (id, rto) = (subflow.id, subflow.current_rto().as_secs_f64());
            let stalled = context.stalled(token, subflow).as_secs_f64();
            let why = format_args!(
                "{event}: closing subflow {id}, its RTO is {rto:.1} s, no progress for {stalled:.1} s"
            );
            context.explain(token, why);
            self.blame(context, token, subflow.local_address);
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
        }
    }
}

impl Policy for Streaming {
    fn events(&self) -> EventSet {
        EventSet::of(&[EventKind::Timeout])
    }

    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let first = context
            .client_connection(token)
            .and_then(Connection::leading_subflow);
        let Some(first) = first.copied() else {
            return;
        };
        let base = context.query(token).map_or(0, |c| progress(&c).1);
        let stream = Stream {
            server: first.remote(),
            block: self.options.block.get(),
            base,
            told: false,
            idle: 0,
            failed: BTreeMap::new(),
        };
        self.streams.entry(token).or_insert(stream);
        self.start(context, token);
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.streams.remove(&connection.token);
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if self.is_bad(context, token, subflow) {
            let event = format!("timeout id {}", subflow.id);
            self.prune(context, token, &event);
        }
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if let Some(stream) = self.streams.get_mut(&token) {
            stream.failed.remove(&subflow.local_address);
            let event = format!("sub_estab id {}", subflow.id);
            self.prune(context, token, &event);
        }
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if self.streams.contains_key(&token) {
            withdraw_if_gone(context, token, subflow);
        }
        if subflow.errno != Some(Errno(0)) {
            self.blame(context, token, subflow.local_address);
        }
        let left = context.connection(token);
        if left.is_some_and(|c| !c.subflows.iter().any(Subflow::has_joined)) {
            let event = format!("sub_closed id {}", subflow.id);
            self.open(context, token, &event);
        }
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        for token in self.streams.keys().copied().collect::<Vec<_>>() {
            if let Some(stream) = self.streams.get_mut(&token) {
                stream.failed.remove(&address.address);
            }
            self.prune(context, token, "new_local_addr");
        }
    }

    fn address_down(&mut self, _: &mut Context<'_>, gone: LocalAddress) {
        for stream in self.streams.values_mut() {
            stream.failed.remove(&gone.address);
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        match key {
            START => self.start(context, token),
            CHECK => self.check(context, token),
            NEXT => self.next(context, token),
            _ => {
                // A path that works needs no other, unless its block is late.
                self.prune(context, token, "timer");
            }
        }
    }
}
