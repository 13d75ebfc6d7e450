// SPDX-License-Identifier: GPL-2.0
//! The policy `fullmesh`: a subflow between every local address and every
//! address of the server (section 4.1 of the paper).
//!
//! It serves the connections that this host opened. Whatever happens, the
//! answer is the same: `Fullmesh::mesh` looks at each pair of a usable local
//! address and an address of the server, and opens the subflow that is missing,
//! unless the pair has failed and its time has not come. The initial subflow
//! holds its pair like any other, and once it is gone a join takes its place.
//!
//! | errno, or reason of the reset   | first retry after            |
//! |---------------------------------|------------------------------|
//! | ECONNREFUSED, ECONNRESET, EPIPE | `reset-delay`                |
//! | ETIMEDOUT and the rest          | `timeout-delay`              |
//! | unreachable, down               | `unreachable-delay`          |
//! | the command finds no route      | `unreachable-delay`, or when an address comes up |
//! | 0: a host closed it on purpose; lack of resources | `longest-delay` |
//! | prohibited, middlebox           | never, until an address comes up |

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::options::{Count, Patterns, Prefixes, Time, options};
use super::retry::Retry;
use crate::engine::{Context, Policy};
use crate::kernel::Error;
use crate::model::{
    Address, AddressId, AddressIds, Connection, Errno, EventKind, EventSet, LocalAddress, Pattern,
    Subflow, SubflowCreate, SubflowId, Token, is_private,
};
use crate::random::Random;

/// For a connection that is not established yet.
const SOON: Duration = Duration::from_millis(200);

options! {
    /// Use only these interfaces; `*` is any characters, `?` any one [default: all]
    interfaces: Patterns = Vec::new(), "NAME,..";
    /// Never use these interfaces
    except: Patterns = Vec::new(), "NAME,..";
    /// Open subflows on these interfaces as backup: the peer uses them only
    /// while no other works
    metered: Patterns = Vec::new(), "NAME,..";
    /// Subflows of a connection at most, the initial one included
    max_subflows: Count<256> = Count::new(16), "N";
    /// Subflows of a connection from one local address at most
    max_per_address: Count<256> = Count::new(8), "N";
    /// Addresses announced by the peer to react to at most
    max_announced: Count<256> = Count::new(8), "N";
    /// Open subflows only to announced addresses in these prefixes [default: all,
    /// but none of a private network if the server is not in one]
    peer_addresses: Prefixes = Vec::new(), "PREFIX,..";
    /// Try again this long after a reset
    reset_delay: Time = Time::ms(1000), "TIME";
    /// Try again this long after a timeout, and after any other error
    timeout_delay: Time = Time::ms(3000), "TIME";
    /// Try again this long after an ICMP message said unreachable, or when
    /// there is no route; at once when a local address appears
    unreachable_delay: Time = Time::ms(5000), "TIME";
    /// Each failure in a row doubles the delay, up to this; a subflow that was
    /// closed on purpose waits that long
    longest_delay: Time = Time::ms(60_000), "TIME";
    /// When the retransmission timeout of a subflow exceeds this, open another
    /// on its addresses, and close the old one once the new one works: a NAT
    /// may have forgotten it
    replace_after: Time = Time::ms(10_000), "TIME";
}

/// The policy and what it knows of each connection.
#[derive(Debug)]
pub struct Fullmesh {
    options: Options,
    meshes: BTreeMap<Token, Mesh>,
    random: Random,
}

/// A local address and an address of the server.
type Pair = (IpAddr, SocketAddr);

#[derive(Debug)]
struct Mesh {
    /// The server, as the initial subflow reached it.
    server: SocketAddr,
    /// Pairs whose last subflow failed: none that is not a pair now.
    failed: BTreeMap<Pair, Failed>,
    /// Subflows that were opened to replace another on the same pair.
    replacing: BTreeMap<SubflowId, SubflowId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failed {
    retry: Retry,
    /// Only a new address changes something.
    until_change: bool,
    /// A new address may bring a route.
    no_route: bool,
}

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    RetryAfter(Duration),
    WaitForRoute(Duration),
    WaitForChange,
    GiveUp,
}

impl Fullmesh {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            meshes: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Opens the subflows that are missing and may be opened now, because of `event`.
    fn mesh(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        let remote = |n| self.remote(context, token, n);
        let remotes: Vec<_> = (0..).map_while(remote).collect();
        for &local in context.addresses() {
            if !self.allows(local) {
                continue;
            }
            for &(id, remote) in &remotes {
                self.pair(context, token, local, id, remote, event);
            }
        }
    }

    /// Whether subflows may start from this address.
    fn allows(&self, local: LocalAddress) -> bool {
        let among = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(local.interface));
        let Options {
            interfaces, except, ..
        } = &self.options;
        (interfaces.is_empty() || among(interfaces)) && !among(except)
    }

    /// The `n`th address of the server: the one that the connection was opened
    /// to, then those that it has announced.
    fn remote(
        &self,
        context: &Context<'_>,
        token: Token,
        n: usize,
    ) -> Option<(Option<AddressId>, SocketAddr)> {
        let server = self.meshes.get(&token)?.server;
        let first = !context.connection(token)?.deny_join_id0;
        let announced = context.remote_addresses(token);
        let announced = announced
            .filter(|announced| self.may_contact(context, server, announced.address))
            .map(|a| {
                let port = a.port.unwrap_or(server.port());
                (Some(a.id), SocketAddr::new(a.address, port))
            })
            .filter(|&(_, remote)| remote != server)
            .take(self.options.max_announced.into());
        first
            .then_some((None, server))
            .into_iter()
            .chain(announced)
            .nth(n)
    }

    /// Whether an announced address may be contacted: not one of this host, and a server
    /// outside must not lead into a private network.
    fn may_contact(&self, context: &Context<'_>, server: SocketAddr, address: IpAddr) -> bool {
        let mut ours = context.addresses().iter();
        let allowed = match &self.options.peer_addresses[..] {
            [] => !is_private(address) || is_private(server.ip()),
            prefixes => prefixes.iter().any(|prefix| prefix.contains(address)),
        };
        allowed && !ours.any(|local| local.address == address)
    }

    /// Opens the subflow of one pair, if it is missing and may be opened now.
    fn pair(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        local: LocalAddress,
        id: Option<AddressId>,
        remote: SocketAddr,
        event: &str,
    ) {
        let (Some(mesh), Some(connection)) = (self.meshes.get(&token), context.connection(token))
        else {
            return;
        };
        let subflows = &connection.subflows;
        let from_there = subflows.iter().filter(|s| s.local_address == local.address);
        let failed = mesh.failed.get(&(local.address, remote));
        if local.address.is_ipv4() != remote.is_ipv4()
            || from_there.clone().any(|s| s.remote() == remote)
            || failed.is_some_and(|f| f.until_change || f.retry.waits(context.now()))
            || subflows.len() >= self.options.max_subflows.into()
            || from_there.count() >= self.options.max_per_address.into()
        {
            return;
        }
        self.open(context, token, local, id, remote, event);
    }

    /// Opens a subflow; none if that is refused.
    fn open(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        local: LocalAddress,
        id: Option<AddressId>,
        remote: SocketAddr,
        event: &str,
    ) -> Option<SubflowId> {
        let metered = &self.options.metered;
        let create = SubflowCreate::to(remote)
            .local_address(local.address)
            .ifindex(local.ifindex)
            .backup(metered.iter().any(|p| p.matches(local.interface)));
        let create = id.map_or(create, |id| create.remote_id(id));
        match context.subflow_create(token, &create) {
            Ok(subflow) => {
                let (id, from) = (subflow.id, subflow.local());
                context.explain(
                    token,
                    format_args!("{event}: opening subflow {id} {from} -> {remote}"),
                );
                Some(id)
            }
            Err(error) => {
                let verdict = self.refusal(&error);
                let what = format_args!(
                    "{event}: subflow {} -> {remote} refused, {error}",
                    local.address
                );
                self.judge(context, token, (local.address, remote), verdict, what);
                None
            }
        }
    }

    /// Acts on a failure of a pair, which `what` tells.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        pair: Pair,
        verdict: Verdict,
        what: std::fmt::Arguments<'_>,
    ) {
        if verdict == Verdict::GiveUp {
            self.meshes.remove(&token);
            return context.explain(token, format_args!("{what}: nothing more to do here"));
        }
        let Some(mesh) = self.meshes.get_mut(&token) else {
            return;
        };
        let failed = mesh.failed.entry(pair).or_default();
        failed.no_route = matches!(verdict, Verdict::WaitForRoute(_));
        failed.until_change = verdict == Verdict::WaitForChange;
        let (Verdict::RetryAfter(first) | Verdict::WaitForRoute(first)) = verdict else {
            return context.explain(
                token,
                format_args!("{what}: not again until an address comes"),
            );
        };
        let longest = self.options.longest_delay.get();
        let retry = &mut failed.retry;
        let delay = retry.failed(context.now(), first, longest, &mut self.random);
        let (times, seconds) = (retry.times(), delay.as_secs_f64());
        self.wake(context, token);
        context.explain(
            token,
            format_args!("{what}: opening again in {seconds:.1} s (try {times})"),
        );
    }

    /// Closes the subflows from local addresses that are gone, if one works that is not:
    /// the kernel ends a connection that has been without a subflow for a minute.
    fn close_stranded(&self, context: &mut Context<'_>, token: Token, event: &str) {
        let usable = context.addresses();
        let is_stranded = |s: &&Subflow| usable.iter().all(|a| a.address != s.local_address);
        let subflows = context.connection(token).map_or(&[][..], |c| &c.subflows);
        if !self.meshes.contains_key(&token)
            || !subflows.iter().any(|s| s.has_joined() && !is_stranded(&s))
        {
            return;
        }
        let stranded = subflows.iter().filter(is_stranded);
        for (id, address) in stranded
            .map(|s| (s.id, s.local_address))
            .collect::<Vec<_>>()
        {
            context.explain(
                token,
                format_args!("{event}: {address} is gone: closing subflow {id}"),
            );
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
        }
    }

    /// Sets the timer of a connection for the pair whose time comes first.
    fn wake(&self, context: &mut Context<'_>, token: Token) {
        let now = context.now();
        let failed = self.meshes.get(&token).map(|mesh| mesh.failed.values());
        let waiting = failed.into_iter().flatten().filter(|f| !f.until_change);
        let next = waiting.filter_map(|f| f.retry.left(now)).min();
        if let Some(delay) = next {
            context.timer(token, delay, 0);
        }
    }

    /// What follows from a subflow that has closed.
    fn closure(&self, subflow: &Subflow) -> Verdict {
        let longest = self.options.longest_delay.get();
        // Reason codes of RFC 8684 section 3.6.
        match (subflow.reset_reason, subflow.reset_transient) {
            (Some(3 | 6), false) => return Verdict::WaitForChange,
            (Some(2 | 3 | 6), _) => return Verdict::RetryAfter(longest),
            _ => {}
        }
        match subflow.errno {
            Some(Errno(0)) => Verdict::RetryAfter(longest),
            // The event that would have told was lost.
            None => Verdict::RetryAfter(self.options.reset_delay.get()),
            Some(errno) => self.error(errno),
        }
    }

    /// What follows from an errno.
    fn error(&self, errno: Errno) -> Verdict {
        let options = &self.options;
        match errno {
            Errno::ECONNREFUSED | Errno::ECONNRESET | Errno::EPIPE => {
                Verdict::RetryAfter(options.reset_delay.get())
            }
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::EHOSTDOWN
            | Errno::EADDRNOTAVAIL => Verdict::RetryAfter(options.unreachable_delay.get()),
            _ => Verdict::RetryAfter(options.timeout_delay.get()),
        }
    }

    /// What follows from a refused command.
    fn refusal(&self, error: &Error) -> Verdict {
        match error.errno() {
            _ if error.is_final() => Verdict::GiveUp,
            Some(Errno::ENOTCONN) => Verdict::RetryAfter(SOON),
            Some(Errno::ENOSPC) => Verdict::RetryAfter(self.options.longest_delay.get()),
            // There is no route from this address.
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL) => {
                Verdict::WaitForRoute(self.options.unreachable_delay.get())
            }
            Some(errno) => self.error(errno),
            None => Verdict::RetryAfter(self.options.timeout_delay.get()),
        }
    }

    /// Forgets the failures of what is no address of the server any more.
    fn forget(&mut self, context: &Context<'_>, token: Token) {
        let remotes: Vec<_> = (0..)
            .map_while(|n| self.remote(context, token, n))
            .collect();
        if let Some(mesh) = self.meshes.get_mut(&token) {
            let known = |remote| remotes.iter().any(|&(_, known)| known == remote);
            mesh.failed.retain(|pair, _| known(pair.1));
        }
    }

    fn tokens(&self) -> Vec<Token> {
        self.meshes.keys().copied().collect()
    }
}

impl Policy for Fullmesh {
    fn events(&self) -> EventSet {
        EventSet::of(&[
            EventKind::Timeout,
            EventKind::AddressAnnounced,
            EventKind::AddressesWithdrawn,
        ])
    }

    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(connection) = context.connection(token) else {
            return;
        };
        if connection.server_side || connection.fallback {
            return;
        }
        if let Some(subflow) = connection.leading_subflow() {
            let mesh = Mesh {
                server: subflow.remote(),
                failed: BTreeMap::new(),
                replacing: BTreeMap::new(),
            };
            self.meshes.insert(token, mesh);
            self.mesh(context, token, context.event());
        }
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.meshes.remove(&connection.token);
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let Some(mesh) = self.meshes.get_mut(&token) else {
            return;
        };
        mesh.failed
            .remove(&(subflow.local_address, subflow.remote()));
        let replaced = mesh.replacing.remove(&subflow.id);
        if let Some(id) = replaced {
            context.explain(
                token,
                format_args!(
                    "sub_estab id {}: closing {id}, which it replaces",
                    subflow.id
                ),
            );
            if let Err(error) = context.subflow_destroy(token, id) {
                log::warn!("{token} id {id}: {error}");
            }
        }
        self.close_stranded(context, token, "sub_estab");
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let pair = (subflow.local_address, subflow.remote());
        if let Some(mesh) = self.meshes.get_mut(&token) {
            mesh.replacing.remove(&subflow.id);
        }
        // An address that is gone starts afresh when it returns, and a pair that is still held
        // by another subflow misses nothing.
        let usable = context.addresses().iter().any(|a| a.address == pair.0);
        let held = context.connection(token).is_some_and(|c| holds(c, pair));
        let remote = |n| self.remote(context, token, n).map(|(_, remote)| remote);
        let wanted = (0..).map_while(remote).any(|remote| remote == pair.1);
        if !usable || held || !wanted {
            return self.mesh(context, token, "sub_closed");
        }
        let verdict = self.closure(subflow);
        let id = subflow.id;
        match subflow.errno {
            Some(errno) => {
                let what = format_args!("sub_closed id {id} {errno}");
                self.judge(context, token, pair, verdict, what);
            }
            None => {
                let what = format_args!("sub_closed id {id}, for an unknown reason");
                self.judge(context, token, pair, verdict, what);
            }
        }
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let pair = (subflow.local_address, subflow.remote());
        let rto = subflow.current_rto();
        let alone = |c: &Connection| {
            let known = c.subflow(subflow.id);
            known.is_some_and(Subflow::has_joined)
                && c.subflows.iter().filter(|s| on(s, pair)).count() == 1
        };
        let local = context.addresses().iter().find(|a| a.address == pair.0);
        let (Some(mesh), Some(&local)) = (self.meshes.get(&token), local) else {
            return;
        };
        let waits = |f: &Failed| f.until_change || f.retry.waits(context.now());
        if rto > self.options.replace_after.get()
            && subflow.is_own()
            && context.connection(token).is_some_and(alone)
            && !mesh.failed.get(&pair).is_some_and(waits)
            && self.allows(local)
        {
            let id = Some(subflow.remote_id).filter(|id| id.0 != 0);
            let seconds = rto.as_secs_f64();
            let event = format!("timeout id {}, RTO {seconds:.1} s", subflow.id);
            let new = self.open(context, token, local, id, pair.1, &event);
            if let (Some(new), Some(mesh)) = (new, self.meshes.get_mut(&token)) {
                mesh.replacing.insert(new, subflow.id);
            }
        }
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {
        if let Some(mesh) = self.meshes.get_mut(&token) {
            mesh.failed.retain(|pair, _| pair.1.ip() != address.address);
        }
        // It may have taken the place of another.
        self.forget(context, token);
        self.mesh(context, token, "add_addr");
    }

    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, _: AddressIds) {
        self.forget(context, token);
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        for token in self.tokens() {
            if let Some(mesh) = self.meshes.get_mut(&token) {
                let stays = |pair: &Pair, f: &Failed| {
                    pair.0 != address.address && !f.until_change && !f.no_route
                };
                mesh.failed.retain(|pair, failed| stays(pair, failed));
            }
            self.mesh(context, token, "new_local_addr");
        }
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        // Another interface may have the same address.
        let mut left = context.addresses().iter();
        if left.any(|a| a.address == gone.address) {
            return;
        }
        for token in self.tokens() {
            if let Some(mesh) = self.meshes.get_mut(&token) {
                mesh.failed.retain(|pair, _| pair.0 != gone.address);
            }
            self.close_stranded(context, token, "del_local_addr");
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, _: u32) {
        self.mesh(context, token, "timer");
        self.wake(context, token);
    }
}

fn on(subflow: &Subflow, (local, remote): Pair) -> bool {
    subflow.local_address == local && subflow.remote() == remote
}

fn holds(connection: &Connection, pair: Pair) -> bool {
    connection.subflows.iter().any(|s| on(s, pair))
}
