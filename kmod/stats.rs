// SPDX-License-Identifier: GPL-2.0

//! What the module has counted since it was loaded.

use crate::{
    sys::{
        attribute::{Policy, PolicyTable},
        family::Command,
        message::Body,
        request::Request,
    },
    uapi::{cmd, operation_stats, stats},
};
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Sockets that were given to the path manager.
pub(crate) static ATTACHED: Atomic<i64> = Atomic::new(0);
/// Those of them that are gone.
pub(crate) static RELEASED: Atomic<i64> = Atomic::new(0);

/// How often an event or a command went well, and how often not.
struct Counter {
    done: Atomic<i64>,
    failed: Atomic<i64>,
}

/// By the number of the event or command.
static OPERATIONS: [Counter; cmd::MAX as usize + 1] = [const {
    Counter {
        done: Atomic::new(0),
        failed: Atomic::new(0),
    }
}; cmd::MAX as usize + 1];

/// Counts an event or a command. Any context.
pub(crate) fn count(operation: u8, well: bool) {
    if let Some(counter) = OPERATIONS.get(usize::from(operation)) {
        let counter = if well { &counter.done } else { &counter.failed };
        counter.fetch_add(1, Relaxed);
    }
}

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

/// `stats-get`: the counters.
pub(crate) struct StatsGet;

static POLICY: PolicyTable = Policy::NONE;

/// What a counter takes, and what all of them take with the two of the sockets.
const COUNTER_SIZE: usize = 4 + 8 + 2 * 12;
const SIZE: usize = OPERATIONS.len() * COUNTER_SIZE + 2 * 12;

impl Command for StatsGet {
    const CMD: u8 = cmd::STATS_GET;
    const POLICY: &'static PolicyTable = &POLICY;

    fn run(request: &Request<'_>) -> Result {
        request.reply(SIZE, |body| {
            put_counter(body, stats::ATTACHED, &ATTACHED)?;
            put_counter(body, stats::RELEASED, &RELEASED)?;
            for (number, counter) in (0..).zip(&OPERATIONS) {
                if !is_operation(number) {
                    continue;
                }
                body.nest(stats::OPERATION, |body| {
                    body.u8(operation_stats::OPERATION, number)?;
                    put_counter(body, operation_stats::DONE, &counter.done)?;
                    put_counter(body, operation_stats::FAILED, &counter.failed)
                })?;
            }
            Ok(())
        })
    }
}

/// Commands and events leave a gap between them.
fn is_operation(number: u8) -> bool {
    matches!(number, cmd::CONN_GET..=cmd::STATS_GET | cmd::CREATED..=cmd::MAX)
}

fn put_counter(body: &mut Body<'_>, number: u16, counter: &Atomic<i64>) -> Result {
    body.u64(number, counter.load(Relaxed).unsigned_abs())
}
