// SPDX-License-Identifier: GPL-2.0
//! The policy `backup`: nothing on the backup paths until the path in use is
//! really bad (section 4.2 of the paper).
//!
//! A connection uses one path at a time. When the retransmission timeout of its
//! subflow exceeds a threshold, a subflow is opened on the best other path; once
//! that has joined, the bad one is closed. So two dead paths cost no more than
//! one, and a backup that does not answer costs nothing: it is given up after a few
//! SYNs, and the next best is tried. From a backup the
//! connection goes back after a while, in the same way; the while doubles as
//! long as the better path does not hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::gone::withdraw_if_gone;
use super::options::{Patterns, Time, options};
use super::retry::Retry;
use crate::engine::{Context, Policy};
use crate::model::{
    Connection, Errno, EventKind, EventSet, LocalAddress, Pattern, Subflow, SubflowId, Token,
};
use crate::random::Random;

/// Keys of the timers.
const RETRY: u32 = 0;
const FAIL_BACK: u32 = 1;

/// So many SYNs without an answer, at a second each, and a path is given up: the
/// kernel would go on for more than a minute.
const SYNS: u8 = 3;

options! {
    /// Interfaces of the primary path [default: where a connection began]
    primary: Patterns = Vec::new(), "NAME,..";
    /// Interfaces of the backup paths, the best one first; `*` is any
    /// characters, `?` any one [default: all, alike]
    backups: Patterns = Vec::new(), "NAME,..";
    /// Leave a path when the retransmission timeout of its subflow exceeds this, or when it
    /// has made no progress for longer, as its timer tells
    rto: Time = Time::ms(1000), "TIME";
    /// Try to go back to a better path after this; doubled each time it fails
    fail_back: Time = Time::ms(30_000), "TIME";
    /// Try to go back at least this often
    longest_fail_back: Time = Time::ms(600_000), "TIME";
    /// When no path works, try each again after this; doubled each time
    retry: Time = Time::ms(1000), "TIME";
    /// When no path works, try each at least this often
    longest_delay: Time = Time::ms(30_000), "TIME";
}

/// The policy and what it knows of each connection.
#[derive(Debug)]
pub struct Backup {
    options: Options,
    guards: BTreeMap<Token, Guard>,
    random: Random,
}

#[derive(Debug)]
struct Guard {
    server: SocketAddr,
    /// Where the connection began.
    origin: IpAddr,
    /// The path in use.
    active: IpAddr,
    /// The subflow that has been opened to take over.
    moving: Option<SubflowId>,
    /// Paths that have failed.
    failed: BTreeMap<IpAddr, Retry>,
    /// Stays on backup paths, as long as each was left too early.
    stay: Retry,
    /// A try to go back is planned.
    planned: bool,
    /// When the path in use was taken, and how long the stay before was.
    since: Duration,
    before: Duration,
}

impl Backup {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            guards: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// How good a path is, 0 is the best; none if it is not to be used.
    fn rank(&self, guard: &Guard, local: LocalAddress) -> Option<usize> {
        let Options {
            primary, backups, ..
        } = &self.options;
        let fits = |pattern: &Pattern| pattern.matches(local.interface);
        let is_primary = match primary.is_empty() {
            true => local.address == guard.origin,
            false => primary.iter().any(fits),
        };
        match is_primary {
            true => Some(0),
            false if backups.is_empty() => Some(1),
            false => backups.iter().position(fits).map(|at| at + 1),
        }
    }

    /// The paths other than the one in use, with their ranks, the best first.
    fn paths(
        &self,
        context: &Context<'_>,
        token: Token,
        guard: &Guard,
    ) -> Vec<(usize, LocalAddress)> {
        let same_family = |local: &LocalAddress| local.address.is_ipv4() == guard.server.is_ipv4();
        let usable = context.usable_addresses(token).into_iter();
        let usable = usable.filter(same_family);
        let ranked = usable.filter_map(|local| Some((self.rank(guard, local)?, local)));
        let mut paths: Vec<_> = ranked.collect();
        paths.sort_by_key(|&(rank, _)| rank);
        paths
    }

    /// The paths that are better than the one in use, the best first.
    fn better(&self, context: &Context<'_>, token: Token) -> Vec<LocalAddress> {
        let Some(guard) = self.guards.get(&token) else {
            return Vec::new();
        };
        let paths = self.paths(context, token, guard);
        // Also one that is deprecated by now.
        let mut known = context.addresses().iter();
        let active = known.find(|local| local.address == guard.active);
        let rank = active.and_then(|&active| self.rank(guard, active));
        let rank = rank.unwrap_or(usize::MAX);
        let better = paths.iter().take_while(|&&(other, _)| other < rank);
        better.map(|&(_, local)| local).collect()
    }

    /// Opens a subflow on the best path that has none and whose time has come.
    fn leave(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        let now = context.now();
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        if guard.moving.is_some() {
            return;
        }
        // The path has held for longer than the stay away from it: that was long enough.
        if now.saturating_sub(guard.since) > guard.before {
            guard.stay = Retry::default();
        }
        let Some(guard) = self.guards.get(&token) else {
            return;
        };
        for (_, local) in self.paths(context, token, guard) {
            let Some(guard) = self.guards.get(&token) else {
                return;
            };
            let waits = guard
                .failed
                .get(&local.address)
                .is_some_and(|f| f.waits(now));
            let held = subflow_on(context, token, local.address);
            if local.address != guard.active && held.is_some_and(|s| s.has_joined() && s.is_own()) {
                return self.move_or_go(context, token, local, event);
            }
            if held.is_none() && !waits {
                self.go(context, token, local, event);
                if self.guards.get(&token).is_none_or(|g| g.moving.is_some()) {
                    return;
                }
            }
        }
        let Some(guard) = self.guards.get(&token) else {
            return;
        };
        let next = guard.failed.values().filter_map(|f| f.left(now)).min();
        let delay = next.unwrap_or(self.options.longest_delay.get());
        let seconds = delay.as_secs_f64();
        context.timer(token, delay, RETRY);
        context.explain(
            token,
            format_args!("{event}: no other path now, looking again in {seconds:.1} s"),
        );
    }

    /// Goes back to the best path on which a subflow can be opened, of those worse than
    /// `failed` if that has just been tried.
    fn go_back(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        failed: Option<IpAddr>,
        event: &str,
    ) {
        let better = self.better(context, token);
        let tried = better.iter().position(|l| Some(l.address) == failed);
        for &local in better.iter().skip(tried.map_or(0, |at| at + 1)) {
            self.move_or_go(context, token, local, event);
            let guard = self.guards.get(&token);
            if guard.is_none_or(|g| g.moving.is_some() || g.active == local.address) {
                return;
            }
        }
    }

    /// Moves to the subflow that is on a path, or opens one there.
    fn move_or_go(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        local: LocalAddress,
        event: &str,
    ) {
        match subflow_on(context, token, local.address) {
            Some(subflow) if subflow.has_joined() => self.moved(context, token, &subflow),
            // It is on its way, and was somebody else's idea.
            Some(_) => {}
            None => self.go(context, token, local, event),
        }
    }

    /// Opens a subflow on a path.
    fn go(&mut self, context: &mut Context<'_>, token: Token, local: LocalAddress, event: &str) {
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        let LocalAddress {
            address, interface, ..
        } = local;
        let named = !self.options.primary.is_empty() || !self.options.backups.is_empty();
        let create = context.subflow_from(token, &local, guard.server, named);
        match create.and_then(|create| context.subflow_create(token, &create)) {
            Ok(subflow) => {
                guard.moving = Some(subflow.id);
                let id = subflow.id;
                context.explain(
                    token,
                    format_args!("{event}: opening subflow {id} on {address} {interface}"),
                );
            }
            Err(error) => {
                context.explain(
                    token,
                    format_args!("{event}: {address} {interface}: {error}"),
                );
                match error.is_final() {
                    true => {
                        context.cancel_all(token);
                        self.guards.remove(&token);
                    }
                    false => self.blame(context, token, address),
                }
            }
        }
    }

    /// Notes that a path has failed.
    fn blame(&mut self, context: &Context<'_>, token: Token, local: IpAddr) {
        if let Some(guard) = self.guards.get_mut(&token) {
            let (first, longest) = (self.options.retry.get(), self.options.longest_delay.get());
            let failed = guard.failed.entry(local).or_default();
            failed.failed(context.now(), first, longest, &mut self.random);
        }
    }

    /// Plans to try a better path, if there is one and no try is planned or under way.
    fn plan_fail_back(&mut self, context: &mut Context<'_>, token: Token) {
        let better = !self.better(context, token).is_empty();
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        if better && !guard.planned && guard.moving.is_none() {
            let (first, longest) = (
                self.options.fail_back.get(),
                self.options.longest_fail_back.get(),
            );
            let now = context.now();
            let delay = guard.stay.failed(now, first, longest, &mut self.random);
            guard.before = delay;
            guard.planned = true;
            context.timer(token, delay, FAIL_BACK);
        }
    }

    /// Whether a subflow works on the path in use, as the kernel knows now.
    fn works(&self, context: &mut Context<'_>, token: Token) -> bool {
        let Some(guard) = self.guards.get(&token) else {
            return true;
        };
        let active = guard.active;
        let usable = context.addresses().iter().any(|a| a.address == active);
        let known = context.query(token);
        let good = |s: &Subflow| {
            s.local_address == active && s.has_joined() && !self.is_bad(context, token, s)
        };
        usable && known.is_ok_and(|c| c.subflows.iter().any(good))
    }

    /// Whether a subflow exceeds the threshold, as it was told or asked for.
    fn is_bad(&self, context: &Context<'_>, token: Token, subflow: &Subflow) -> bool {
        let limit = self.options.rto.get();
        subflow.current_rto() > limit || context.stalled(token, subflow) > limit
    }

    /// The subflow that was opened to take over has joined.
    fn moved(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let now = context.now();
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        guard.moving = None;
        guard.active = subflow.local_address;
        guard.since = now;
        guard.failed.remove(&subflow.local_address);
        context.cancel(token, RETRY);
        let connection = context.connection(token);
        let others = connection.map_or(&[][..], |c| &c.subflows).iter();
        let others = others.filter(|s| s.id != subflow.id && s.is_own());
        for id in others.map(|s| s.id).collect::<Vec<_>>() {
            let new = subflow.id;
            context.explain(token, format_args!("subflow {new} works: closing {id}"));
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
        }
        self.plan_anew(context, token);
    }

    /// Plans to try a better path than the one that was just taken, if there is one.
    fn plan_anew(&mut self, context: &mut Context<'_>, token: Token) {
        if let Some(guard) = self.guards.get_mut(&token) {
            guard.planned = false;
            context.cancel(token, FAIL_BACK);
            self.plan_fail_back(context, token);
        }
    }
}

/// The subflow from a local address.
fn subflow_on(context: &Context<'_>, token: Token, local: IpAddr) -> Option<Subflow> {
    let mut subflows = context.connection(token)?.subflows.iter();
    subflows.find(|s| s.local_address == local).copied()
}

impl Policy for Backup {
    fn events(&self) -> EventSet {
        EventSet::of(&[EventKind::Timeout])
    }

    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let first = context
            .client_connection(token)
            .and_then(Connection::leading_subflow);
        let Some(first) = first else {
            return;
        };
        let guard = Guard {
            server: first.remote(),
            origin: first.local_address,
            active: first.local_address,
            moving: None,
            failed: BTreeMap::new(),
            stay: Retry::default(),
            planned: false,
            since: context.now(),
            before: Duration::ZERO,
        };
        self.guards.entry(token).or_insert(guard);
        self.plan_fail_back(context, token);
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.guards.remove(&connection.token);
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let Some(guard) = self.guards.get(&token) else {
            return;
        };
        let id = subflow.id;
        if guard.moving == Some(id) && subflow.retransmits >= Some(SYNS) {
            // What follows is decided when it has closed.
            context.explain(
                token,
                format_args!("timeout id {id}: no answer to {SYNS} SYNs: closing it"),
            );
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
            return;
        }
        let active = subflow.local_address == guard.active && guard.moving.is_none();
        if active && self.is_bad(context, token, subflow) {
            let rto = subflow.current_rto().as_secs_f64();
            let stalled = context.stalled(token, subflow).as_secs_f64();
            let event = format!("timeout id {id}, RTO {rto:.1} s, no progress for {stalled:.1} s");
            self.leave(context, token, &event);
        }
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let guard = self.guards.get(&token);
        if guard.is_some_and(|guard| guard.moving == Some(subflow.id)) {
            self.moved(context, token, subflow);
        }
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        if self.guards.contains_key(&token) {
            withdraw_if_gone(context, token, subflow);
        }
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        let (id, errno) = (subflow.id, subflow.errno.unwrap_or_default());
        let event = format!("sub_closed id {id} {errno}");
        if guard.moving == Some(id) {
            guard.moving = None;
            self.blame(context, token, subflow.local_address);
            match self.works(context, token) {
                true => {
                    self.go_back(context, token, Some(subflow.local_address), &event);
                    if self.guards.get(&token).is_some_and(|g| g.moving.is_none()) {
                        context.explain(token, format_args!("{event}: staying for a while"));
                    }
                }
                false => self.leave(context, token, &event),
            }
        } else if subflow.local_address == guard.active && !self.works(context, token) {
            // A path that was reset may work with a new subflow, a silent one does not.
            match errno {
                Errno::ECONNRESET | Errno::ECONNREFUSED | Errno::EPIPE | Errno(0) => {}
                _ => self.blame(context, token, subflow.local_address),
            }
            self.leave(context, token, &event);
        }
        self.plan_fail_back(context, token);
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        for token in self.guards.keys().copied().collect::<Vec<_>>() {
            if let Some(guard) = self.guards.get_mut(&token) {
                guard.failed.remove(&address.address);
            }
            if !self.works(context, token) {
                self.leave(context, token, "new_local_addr");
            }
            self.plan_fail_back(context, token);
        }
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        let mut left = context.addresses().iter();
        if left.any(|a| a.address == gone.address) {
            return;
        }
        for token in self.guards.keys().copied().collect::<Vec<_>>() {
            if let Some(guard) = self.guards.get_mut(&token) {
                guard.failed.remove(&gone.address);
                if guard.active == gone.address {
                    self.leave(context, token, "del_local_addr");
                }
            }
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        let Some(guard) = self.guards.get_mut(&token) else {
            return;
        };
        guard.planned &= key != FAIL_BACK;
        // What follows is decided when the one that is under way has joined or closed.
        if guard.moving.is_none() {
            match key {
                FAIL_BACK => self.go_back(context, token, None, "time to go back"),
                _ if !self.works(context, token) => self.leave(context, token, "timer"),
                _ => {}
            }
            self.plan_fail_back(context, token);
        }
    }
}
