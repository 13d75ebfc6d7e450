// SPDX-License-Identifier: GPL-2.0
//! The policy `fullmesh`: a subflow from every local address to the server.
//!
//! It serves the connections that this host opened. Whatever happens, the
//! answer is the same: [`Fullmesh::mesh`] looks at each pair of a usable local
//! address and the server's address, and opens the subflow that is missing,
//! unless the pair has failed and its time has not come. The initial subflow
//! holds its pair like any other, and once it is gone a join takes its place.
//!
//! | errno                           | first retry after |
//! |---------------------------------|-------------------|
//! | ECONNREFUSED, ECONNRESET, EPIPE | 1 s               |
//! | ETIMEDOUT and the rest          | 3 s               |
//! | unreachable, down               | 5 s               |
//! | 0: a host closed it on purpose  | 60 s              |
//!
//! Each failure in a row doubles the delay, up to 60 s. A delay is shortened by
//! up to a tenth at random, so that connections do not retry in step.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Context, Controller};
use crate::address::LocalAddress;
use crate::command::SubflowCreate;
use crate::error::{Errno, Error};
use crate::event::{EventKind, EventSet, Token};
use crate::message::{Connection, Subflow};

const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// For a connection that is not established yet.
const SOON: Duration = Duration::from_millis(200);

/// The policy and what it knows of each connection.
#[derive(Debug)]
pub struct Fullmesh {
    meshes: BTreeMap<Token, Mesh>,
    random: u64,
}

#[derive(Debug)]
struct Mesh {
    /// The server, as the initial subflow reached it.
    remote: SocketAddr,
    /// Local addresses whose last subflow failed.
    failed: BTreeMap<IpAddr, Failed>,
}

#[derive(Debug, Default)]
struct Failed {
    times: u32,
    retry_at: Duration,
}

/// How to go on after a failure.
enum Verdict {
    RetryAfter(Duration),
    GiveUp,
}

impl Fullmesh {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(seed: u64) -> Self {
        // The generator must not start at 0.
        Self {
            meshes: BTreeMap::new(),
            random: seed | 1 << 63,
        }
    }

    /// Takes charge of a connection, if it is one to take charge of.
    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(connection) = context.connection(token) else {
            return;
        };
        let denied = connection.deny_join_id0 || connection.fallback;
        if connection.server_side || denied {
            return;
        }
        if let Some(subflow) = connection.leading_subflow() {
            let mesh = Mesh {
                remote: subflow.remote(),
                failed: BTreeMap::new(),
            };
            self.meshes.insert(token, mesh);
            self.mesh(context, token);
        }
    }

    /// Opens the subflows that are missing and may be opened now.
    fn mesh(&mut self, context: &mut Context<'_>, token: Token) {
        let now = context.now();
        for local in context.addresses() {
            let (Some(mesh), Some(connection)) =
                (self.meshes.get(&token), context.connection(token))
            else {
                return;
            };
            let same_family = local.address.is_ipv4() == mesh.remote.is_ipv4();
            let waits = |failed: &Failed| failed.retry_at > now;
            if !same_family
                || has_subflow(connection, local.address, mesh.remote)
                || mesh.failed.get(&local.address).is_some_and(waits)
            {
                continue;
            }
            let subflow = SubflowCreate::to(mesh.remote)
                .from(local.address)
                .dev(local.ifindex);
            match context.subflow_create(token, &subflow) {
                Ok(created) => log::info!(
                    "{token} id {}: opening {} -> {}",
                    created.id,
                    created.local(),
                    created.remote()
                ),
                Err(error) => {
                    let level = match error.errno() {
                        // It is about to be established, or has just closed.
                        Some(Errno::ENOTCONN | Errno::ESRCH) => log::Level::Info,
                        _ => log::Level::Warn,
                    };
                    log::log!(
                        level,
                        "{token} {} -> {}: {error}",
                        local.address,
                        subflow.remote()
                    );
                    match refusal(&error) {
                        Verdict::RetryAfter(delay) => {
                            self.retry(context, token, local.address, delay);
                        }
                        Verdict::GiveUp => {
                            self.meshes.remove(&token);
                        }
                    }
                }
            }
        }
    }

    /// Has the pair of `local` tried again after `delay`, or later if it has
    /// failed before.
    fn retry(&mut self, context: &mut Context<'_>, token: Token, local: IpAddr, delay: Duration) {
        let jitter = self.jitter();
        if let Some(mesh) = self.meshes.get_mut(&token) {
            let failed = mesh.failed.entry(local).or_default();
            let factor = 1u32 << failed.times.min(10);
            let delay = delay
                .saturating_mul(factor)
                .min(LONGEST_DELAY)
                .mul_f64(jitter);
            failed.times += 1;
            failed.retry_at = context.now() + delay;
            context.timer(token, delay);
            log::info!(
                "{token} from {local}: next try in {:.1} s",
                delay.as_secs_f64()
            );
        }
    }

    /// A factor between 0.9 and 1 (xorshift64).
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1.0 - 0.1 * (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Forgets that subflows from `local` have failed.
    fn forgive(&mut self, token: Token, local: IpAddr) {
        if let Some(mesh) = self.meshes.get_mut(&token) {
            mesh.failed.remove(&local);
        }
    }

    fn tokens(&self) -> Vec<Token> {
        self.meshes.keys().copied().collect()
    }
}

impl Controller for Fullmesh {
    fn events(&self) -> EventSet {
        EventSet::of(&[
            EventKind::Established,
            EventKind::Closed,
            EventKind::SubflowEstablished,
            EventKind::SubflowClosed,
        ])
    }

    fn attached(&mut self, context: &mut Context<'_>, token: Token) {
        self.adopt(context, token);
    }

    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        self.adopt(context, token);
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.meshes.remove(&connection.token);
    }

    fn subflow_established(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.forgive(token, subflow.local_address);
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let ours = |mesh: &Mesh| mesh.remote == subflow.remote();
        // An address that is gone starts afresh when it returns.
        let usable = context
            .addresses()
            .iter()
            .any(|a| a.address == subflow.local_address);
        if usable && self.meshes.get(&token).is_some_and(ours) {
            let delay = delay_after(subflow.errno);
            self.retry(context, token, subflow.local_address, delay);
        }
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        for token in self.tokens() {
            self.forgive(token, address.address);
            self.mesh(context, token);
        }
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        // Another interface may have the same address.
        if context
            .addresses()
            .iter()
            .any(|a| a.address == gone.address)
        {
            return;
        }
        for token in self.tokens() {
            let subflows = context.connection(token).map_or(&[][..], |c| &c.subflows);
            let from_there = subflows.iter().filter(|s| s.local_address == gone.address);
            for id in from_there.map(|s| s.id).collect::<Vec<_>>() {
                log::info!("{token} id {id}: closing, {} is gone", gone.address);
                if let Err(error) = context.subflow_destroy(token, id) {
                    log::warn!("{token} id {id}: {error}");
                }
            }
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token) {
        self.mesh(context, token);
    }
}

fn has_subflow(connection: &Connection, local: IpAddr, remote: SocketAddr) -> bool {
    let mut subflows = connection.subflows.iter();
    subflows.any(|s| s.local_address == local && s.remote() == remote)
}

/// How long to wait after a subflow has closed.
fn delay_after(errno: Option<Errno>) -> Duration {
    Duration::from_secs(match errno {
        Some(Errno(0)) => return LONGEST_DELAY,
        // The event that would have told was lost.
        None => 1,
        Some(Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE) => 1,
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => 5,
        Some(Errno::ENETDOWN | Errno::EHOSTDOWN | Errno::EADDRNOTAVAIL) => 5,
        Some(_) => 3,
    })
}

/// What a refused command means for the connection.
fn refusal(error: &Error) -> Verdict {
    match error.errno() {
        // Plain TCP; joins denied; no longer this path manager's; no longer there.
        Some(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM | Errno::ESRCH) => Verdict::GiveUp,
        Some(Errno::ENOTCONN) => Verdict::RetryAfter(SOON),
        Some(Errno::ENOSPC) => Verdict::RetryAfter(LONGEST_DELAY),
        errno => Verdict::RetryAfter(delay_after(errno)),
    }
}
