// SPDX-License-Identifier: GPL-2.0

//! What the module has counted.

use crate::{
    size,
    stats::{ATTACHED, OPERATIONS, RELEASED},
    sys::{
        attribute::{Policy, PolicyTable},
        family::Command,
        message::Body,
        request::Request,
    },
    uapi::{cmd, operation_stats, stats},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// `stats-get`: the counters.
pub(crate) struct StatsGet;

static POLICY: PolicyTable = Policy::NONE;

const SIZE: usize = size::STATS + OPERATIONS.len() * (size::NEST + size::OPERATION_STATS);

impl Command for StatsGet {
    const CMD: u8 = cmd::STATS_GET;
    const POLICY: &'static PolicyTable = &POLICY;

    fn run(request: &Request<'_>) -> Result {
        request.reply(SIZE, |body| {
            put_counter(body, stats::ATTACHED, &ATTACHED)?;
            put_counter(body, stats::RELEASED, &RELEASED)?;
            for (number, counter) in (0..).zip(&OPERATIONS) {
                // Not all numbers are taken.
                if cmd::name(number).is_none() {
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

fn put_counter(body: &mut Body<'_>, number: u16, counter: &Atomic<i64>) -> Result {
    body.u64(number, counter.load(Relaxed).unsigned_abs())
}
