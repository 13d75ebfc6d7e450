// SPDX-License-Identifier: GPL-2.0
//! The frame of a race: how long it goes on, and what must hold when it is over.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use smapp::EventSet;
use smapp_init::{kernel_log, leak};
use smapp_tests::{Netns, PathManager, Topology, facts, module, wait_for};

/// Connections that are closed linger for a minute or so.
const LINGER: Duration = Duration::from_secs(180);

/// One race, in which cycles are counted.
pub struct Race {
    until: Instant,
    seen: usize,
    cycles: AtomicU64,
}

impl Race {
    /// Starts the clock, with a module that has counted nothing yet. A race lasts ten
    /// seconds unless the guest's environment says otherwise.
    pub fn start() -> Result<Self> {
        remove()?;
        module::insert()?;
        let seconds = match std::env::var("SMAPP_RACE_SECONDS") {
            Ok(seconds) => seconds
                .parse()
                .context("SMAPP_RACE_SECONDS: not a number")?,
            Err(_) => 10,
        };
        Ok(Race {
            until: Instant::now() + Duration::from_secs(seconds),
            seen: kernel_log::read()?.len(),
            cycles: AtomicU64::new(0),
        })
    }

    /// Whether there is time for one more cycle.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// The part of its time that is over.
    pub fn is_past(&self, part: f32, since: Instant) -> bool {
        let whole = self.until.saturating_duration_since(since);
        since.elapsed() > whole.mul_f32(part)
    }

    /// Counts a cycle.
    pub fn cycle(&self) {
        self.cycles.fetch_add(1, Relaxed);
    }

    /// What must hold after it: there was one, every connection that was attached was
    /// released and lets the module go, no splat, no leak.
    pub fn end(self, what: &str) -> Result<()> {
        let cycles = self.cycles.into_inner();
        ensure!(cycles > 0, "not one of {what}");
        remove()?;
        let log = kernel_log::read()?;
        let since = log.get(self.seen..).unwrap_or_default();
        smapp_init::module::audit(since)?;
        kernel_log::check(since)?;
        kernel_log::check_taint()?;
        leak::scan()?;
        module::insert()?;
        println!("raced: {cycles} {what}");
        Ok(())
    }
}

/// Wait until nobody uses the module, and unload it.
fn remove() -> Result<()> {
    if !module::is_loaded() {
        return Ok(());
    }
    wait_for("rmmod", LINGER, || {
        module::remove().map_err(|errno| anyhow!("rmmod: {errno}"))
    })
}

/// Lets the connections of a host linger no longer than they must.
pub fn hurry(host: &Netns) -> Result<()> {
    host.set_sysctl("mptcp/close_timeout", "1")?;
    host.set_sysctl("ipv4/tcp_fin_timeout", "1")?;
    host.set_sysctl("ipv4/tcp_orphan_retries", "1")
}

/// A topology whose connections do not linger.
pub fn topology() -> Result<Topology> {
    let topology = Topology::new()?;
    for host in [&topology.client, &topology.server] {
        hurry(host)?;
    }
    Ok(topology)
}

/// Numbers without a pattern (xorshift64); what they lead to depends on the clock anyway.
pub struct Random(u64);

impl Random {
    /// Another sequence for each seed.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Sleep for less than this many microseconds.
    pub fn nap(&mut self, limit: u64) {
        sleep(Duration::from_micros(self.below(limit)));
    }
}

/// Wait until nothing comes and goes on a host: two listings, some time apart, are equal.
pub fn quiet(host: &Netns, connections: usize) -> Result<()> {
    let mut manager = PathManager::with_events(host, EventSet::default())?;
    wait_for("nothing to change", LINGER, || {
        let before = manager.connections()?;
        sleep(Duration::from_millis(500));
        let after = manager.connections()?;
        ensure!(
            after.len() == connections,
            "{} connections instead of {connections}",
            after.len()
        );
        let (before, after) = (facts(before.iter()), facts(after.iter()));
        ensure!(before == after, "{before:#?} became {after:#?}");
        Ok(())
    })
}
