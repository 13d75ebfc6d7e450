// SPDX-License-Identifier: GPL-2.0
//! The policy `fullmesh`: a subflow between every local address and every
//! address of the server (section 4.1 of the paper).
//!
//! It serves the connections that this host opened. Whatever happens, the
//! answer is the same: `Fullmesh::mesh` looks at each pair of a usable local
//! address and an address of the server, and opens the subflow that is missing,
//! unless the pair has failed and its time has not come. The initial subflow
//! holds its pair like any other, and once it is gone a join takes its place.
//! An address that is on two interfaces is two.
//!
//! | errno, or reason of the reset   | first retry after            |
//! |---------------------------------|------------------------------|
//! | ECONNREFUSED, ECONNRESET, EPIPE | `reset-delay`                |
//! | ETIMEDOUT and the rest          | `timeout-delay`              |
//! | unreachable, down               | `unreachable-delay`          |
//! | no route                        | `unreachable-delay`, or when routes or addresses change |
//! | 0: a host closed it on purpose; lack of resources | `longest-delay` |
//! | prohibited, middlebox           | never, until an address comes up |
//!
//! A pair that has never answered to any connection is tried by one of them at a
//! time, and ever more rarely.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::gone::withdraw_if_gone;
use super::options::{Count, Patterns, Prefixes, Time, options};
use super::retry::Retry;
use super::unanswered::Unanswered;
use crate::engine::{Context, Policy};
use crate::kernel::Error;
use crate::model::{
    Address, AddressId, AddressIds, Connection, Errno, EventKind, EventSet, IfIndex, LocalAddress,
    Pattern, Subflow, SubflowId, Token, is_private,
};
use crate::random::Random;

/// The delay before a retry on a connection that is not established yet.
const SOON: Duration = Duration::from_millis(200);

options! {
    /// Use only these interfaces, and bind subflows to them; `*` is any characters,
    /// `?` any one [default: all]
    interfaces: Patterns = Vec::new(), "NAME,..";
    /// Never use these interfaces
    except: Patterns = Vec::new(), "NAME,..";
    /// Subflows on these interfaces are backup, also the one that a connection began
    /// with once another works: they are used only while no other works
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
    /// there is no route; at once when a local address or a route appears
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
    unanswered: Unanswered<Pair>,
    random: Random,
}

/// A local address on its interface, and an address of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    local: IpAddr,
    ifindex: IfIndex,
    remote: SocketAddr,
}

impl Pair {
    fn new(local: &LocalAddress, remote: SocketAddr) -> Self {
        Self {
            local: local.address,
            ifindex: local.ifindex,
            remote,
        }
    }

    fn is_from(&self, local: &LocalAddress) -> bool {
        (self.local, self.ifindex) == (local.address, local.ifindex)
    }
}

#[derive(Debug)]
struct Mesh {
    /// The server, as the initial subflow reached it.
    server: SocketAddr,
    /// The socket takes no addresses of the other family.
    one_family: bool,
    /// Pairs whose last subflow failed: none that is not a pair now.
    failed: BTreeMap<Pair, Failed>,
    /// Subflows that were opened to replace another on the same pair.
    replacing: BTreeMap<SubflowId, SubflowId>,
}

impl Mesh {
    /// Whether the socket may take an address of this family.
    fn takes(&self, address: IpAddr) -> bool {
        !self.one_family || address.is_ipv4() == self.server.is_ipv4()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Failed {
    retry: Retry,
    /// Only a new address changes something.
    until_change: bool,
    /// A new address or route may bring a route.
    no_route: bool,
}

/// An address of the server, with its number if the server has announced it.
type Remote = (Option<AddressId>, SocketAddr);

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    RetryAfter(Duration),
    WaitForRoute(Duration),
    WaitForChange,
    LeaveFamily,
    GiveUp,
}

impl Fullmesh {
    /// The policy; `seed` determines the random part of its delays.
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            options,
            meshes: BTreeMap::new(),
            unanswered: Unanswered::new(),
            random: Random::new(seed),
        }
    }

    /// Opens the subflows that are missing and may be opened now, because of `event`, and
    /// looks again when the time of the next one comes.
    fn mesh(&mut self, context: &mut Context<'_>, token: Token, event: &str) {
        let mut again = self.prefer_unmetered(context, token, event);
        for remote in self.remotes(context, token) {
            for local in context.usable_addresses(token) {
                if self.allows(local) {
                    let left = self.pair(context, token, local, remote, event);
                    again = again.into_iter().chain(left).min();
                }
            }
        }
        if let Some(delay) = again {
            context.timer(token, delay, 0);
        }
    }

    /// Whether subflows may start from this address.
    fn allows(&self, local: LocalAddress) -> bool {
        let Options {
            interfaces, except, ..
        } = &self.options;
        (interfaces.is_empty() || among(interfaces, &local)) && !among(except, &local)
    }

    /// The addresses of the server: the one that the connection was opened to, then those
    /// that it has announced.
    fn remotes(&self, context: &Context<'_>, token: Token) -> Vec<Remote> {
        let (Some(mesh), Some(connection)) = (self.meshes.get(&token), context.connection(token))
        else {
            return Vec::new();
        };
        let server = mesh.server;
        let first = (!connection.deny_join_id0).then_some((None, server));
        let announced = context.remote_addresses(token);
        let announced = announced
            .filter(|announced| self.may_contact(context, server, announced.address))
            .filter(|announced| mesh.takes(announced.address))
            .map(|a| {
                let port = a.port.unwrap_or(server.port());
                (Some(a.id), SocketAddr::new(a.address, port))
            })
            .filter(|&(_, remote)| remote != server)
            .take(self.options.max_announced.into());
        first.into_iter().chain(announced).collect()
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

    /// Opens the subflow of one pair, if it is missing and may be opened now. How long it has
    /// to wait, if it has.
    fn pair(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        local: LocalAddress,
        remote: Remote,
        event: &str,
    ) -> Option<Duration> {
        let connection = context.connection(token)?;
        if local.address.is_ipv4() != remote.1.is_ipv4()
            || connection.subflows.len() >= self.options.max_subflows.into()
        {
            return None;
        }
        let subflows = connection.subflows.clone();
        let mut from_there: usize = 0;
        for subflow in subflows.iter().filter(|s| s.local_address == local.address) {
            if context.local_address_of(token, subflow) == Some(local) {
                if subflow.remote() == remote.1 {
                    return None;
                }
                from_there += 1;
            }
        }
        if from_there >= self.options.max_per_address.into() {
            return None;
        }
        let pair = Pair::new(&local, remote.1);
        let left = |policy: &Self, now| {
            // Without any subflow that works, everything is worth a try.
            let works = subflows.iter().any(Subflow::has_joined);
            let left = policy.unanswered.left(pair, now).filter(|_| works);
            match policy.meshes.get(&token)?.failed.get(&pair) {
                Some(failed) if failed.until_change => None,
                Some(failed) => failed.retry.left(now).max(left),
                None => left,
            }
        };
        let mesh = self.meshes.get(&token)?;
        let takes = mesh.takes(remote.1.ip());
        let never = mesh.failed.get(&pair).is_some_and(|f| f.until_change);
        if takes && !never && left(self, context.now()).is_none() {
            self.open(context, token, local, remote, event);
        }
        left(self, context.now())
    }

    /// Opens a subflow; none if that is refused.
    fn open(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        local: LocalAddress,
        (id, remote): Remote,
        event: &str,
    ) -> Option<SubflowId> {
        let (address, pair) = (local.address, Pair::new(&local, remote));
        let named = among(&self.options.interfaces, &local);
        let create = match context.subflow_from(token, &local, remote, named) {
            Ok(create) => create.backup(among(&self.options.metered, &local)),
            Err(error) => {
                let verdict = Verdict::WaitForRoute(self.options.unreachable_delay.get());
                let interface = local.interface;
                let what = format_args!("{event}: {address} {interface} -> {remote}: {error}");
                self.judge(context, token, pair, verdict, what);
                return None;
            }
        };
        let create = id.map_or(create, |id| create.remote_id(id));
        match context.subflow_create(token, &create) {
            Ok(subflow) => {
                self.unanswered.tries(pair, context.now());
                let (id, from) = (subflow.id, subflow.local());
                context.explain(
                    token,
                    format_args!("{event}: opening subflow {id} {from} -> {remote}"),
                );
                Some(id)
            }
            Err(error) => {
                let verdict = self.refusal(token, remote, &error);
                let what = format_args!("{event}: subflow {address} -> {remote} refused, {error}");
                self.judge(context, token, pair, verdict, what);
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
        if verdict == Verdict::LeaveFamily {
            mesh.one_family = true;
            mesh.failed
                .retain(|pair, _| pair.remote.is_ipv4() == mesh.server.is_ipv4());
            let text = format_args!("{what}: its socket takes the family of the server only");
            return context.explain(token, text);
        }
        let failed = mesh.failed.entry(pair).or_default();
        let had_route = !failed.no_route;
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
        match failed.no_route {
            false => context.explain(
                token,
                format_args!("{what}: opening again in {seconds:.1} s (try {times})"),
            ),
            // Said once, not at each look.
            true if had_route => context.explain(
                token,
                format_args!("{what}: opening when routes or addresses change"),
            ),
            true => {}
        }
    }

    /// Has the subflow that a connection began with, or that was there before, be backup on a
    /// metered interface while another one works; and the first one no longer once none does.
    /// How long to wait if that has to be tried again.
    fn prefer_unmetered(
        &self,
        context: &mut Context<'_>,
        token: Token,
        event: &str,
    ) -> Option<Duration> {
        if self.options.metered.is_empty() || !self.meshes.contains_key(&token) {
            return None;
        }
        let subflows = context.connection(token)?.subflows.clone();
        let joined = subflows.iter().filter(|s| s.has_joined());
        let here = joined.filter_map(|s| Some((context.local_address_of(token, s)?, s)));
        let (metered, others): (Vec<_>, Vec<_>) =
            here.partition(|(local, _)| among(&self.options.metered, local));
        let backup = others.iter().any(|(_, s)| !s.backup);
        let wrong = metered
            .iter()
            .filter(|(_, s)| s.is_own() && s.backup != backup && (backup || s.initial));
        let mut again = None;
        for (local, subflow) in wrong {
            let (id, interface) = (subflow.id, local.interface);
            let (word, why) = match backup {
                true => ("backup", "another path works"),
                false => ("no longer backup", "no other path works"),
            };
            match context.subflow_set_backup(token, id, backup) {
                Ok(()) => context.explain(
                    token,
                    format_args!("{event}: {why}: subflow {id} on {interface} is {word}"),
                ),
                Err(error) if error.is_final() => {}
                Err(error) => {
                    log::warn!("{token} id {id}: {error}");
                    again = Some(SOON);
                }
            }
        }
        again
    }

    /// Closes the subflows from local addresses that are gone, if one works that is not:
    /// the kernel ends a connection that has been without a subflow for a minute. One whose
    /// address is on another interface now stays until there is one from there.
    fn close_stranded(&self, context: &mut Context<'_>, token: Token, event: &str) {
        let subflows = context.connection(token).map(|c| c.subflows.clone());
        let subflows = subflows.filter(|_| self.meshes.contains_key(&token));
        let (mut stranded, mut working) = (Vec::new(), Vec::new());
        for subflow in subflows.into_iter().flatten() {
            match context.local_address_of(token, &subflow) {
                None => stranded.push(subflow),
                Some(_) if subflow.has_joined() => working.push(subflow.local_address),
                Some(_) => {}
            }
        }
        for subflow in stranded {
            let (id, address) = (subflow.id, subflow.local_address);
            let has_moved = context.addresses().iter().any(|a| a.address == address);
            match has_moved {
                false if working.is_empty() => continue,
                true if !working.contains(&address) => continue,
                _ => {}
            }
            context.explain(
                token,
                format_args!("{event}: {address} is gone from there: closing subflow {id}"),
            );
            close(context, token, id);
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
    fn refusal(&self, token: Token, remote: SocketAddr, error: &Error) -> Verdict {
        let server = self.meshes.get(&token).map(|mesh| mesh.server);
        let is_other = server.is_some_and(|server| server.is_ipv4() != remote.is_ipv4());
        match error.errno() {
            _ if error.is_final() => Verdict::GiveUp,
            Some(Errno::EINVAL) if is_other => Verdict::LeaveFamily,
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
        let remotes = self.remotes(context, token);
        if let Some(mesh) = self.meshes.get_mut(&token) {
            let known = |remote| remotes.iter().any(|&(_, known)| known == remote);
            mesh.failed.retain(|pair, _| known(pair.remote));
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
        if let Some(&subflow) = connection.leading_subflow() {
            let mesh = Mesh {
                server: subflow.remote(),
                one_family: false,
                failed: BTreeMap::new(),
                replacing: BTreeMap::new(),
            };
            self.meshes.insert(token, mesh);
            if let Some(local) = context.local_address_of(token, &subflow) {
                self.unanswered
                    .answered(Pair::new(&local, subflow.remote()));
            }
            self.mesh(context, token, context.event());
        }
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &Connection) {
        self.meshes.remove(&connection.token);
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let local = context.local_address_of(token, subflow);
        let Some(mesh) = self.meshes.get_mut(&token) else {
            return;
        };
        if let Some(pair) = local.map(|local| Pair::new(&local, subflow.remote())) {
            mesh.failed.remove(&pair);
            self.unanswered.answered(pair);
        }
        if let Some(id) = mesh.replacing.remove(&subflow.id) {
            let new = subflow.id;
            context.explain(
                token,
                format_args!("sub_estab id {new}: closing {id}, which it replaces"),
            );
            close(context, token, id);
        }
        self.close_stranded(context, token, "sub_estab");
        self.mesh(context, token, "sub_estab");
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let Some(mesh) = self.meshes.get_mut(&token) else {
            return;
        };
        mesh.replacing.remove(&subflow.id);
        // An address that is gone starts afresh when it returns, and a pair that is still held
        // by another subflow misses nothing.
        let gone = withdraw_if_gone(context, token, subflow);
        let local = context.local_address_of(token, subflow);
        let pair = local.map(|local| Pair::new(&local, subflow.remote()));
        let remotes = self.remotes(context, token);
        let is_wanted = |pair: &Pair| remotes.iter().any(|&(_, remote)| remote == pair.remote);
        let lost = pair.filter(|pair| !gone && is_wanted(pair) && !holds(context, token, pair));
        if let Some(pair) = lost {
            let verdict = self.closure(subflow);
            let is_silent = subflow.established != Some(true) && is_silence(subflow.errno);
            if let (true, Verdict::RetryAfter(first)) = (is_silent, verdict) {
                self.unanswered
                    .failed(pair, context.now(), first, &mut self.random);
            }
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
        self.mesh(context, token, "sub_closed");
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let rto = subflow.current_rto();
        if rto <= self.options.replace_after.get()
            || !subflow.is_own()
            || !self.meshes.contains_key(&token)
        {
            return;
        }
        let known = context
            .connection(token)
            .and_then(|c| c.subflow(subflow.id));
        let has_joined = known.is_some_and(Subflow::has_joined);
        let usable = context.usable_addresses(token);
        let local = context.local_address_of(token, subflow);
        let local = local.filter(|local| usable.contains(local) && self.allows(*local));
        let Some(local) = local.filter(|_| has_joined) else {
            return;
        };
        let pair = Pair::new(&local, subflow.remote());
        let failed = self.meshes.get(&token).and_then(|m| m.failed.get(&pair));
        if failed.is_some_and(|f| f.until_change || f.retry.waits(context.now()))
            || count(context, token, &pair) != 1
        {
            return;
        }
        let id = Some(subflow.remote_id).filter(|id| id.0 != 0);
        let seconds = rto.as_secs_f64();
        let event = format!("timeout id {}, RTO {seconds:.1} s", subflow.id);
        let new = self.open(context, token, local, (id, pair.remote), &event);
        if let (Some(new), Some(mesh)) = (new, self.meshes.get_mut(&token)) {
            mesh.replacing.insert(new, subflow.id);
        }
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {
        if let Some(mesh) = self.meshes.get_mut(&token) {
            mesh.failed
                .retain(|pair, _| pair.remote.ip() != address.address);
        }
        // It may have taken the place of another.
        self.forget(context, token);
        self.mesh(context, token, "add_addr");
    }

    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, _: AddressIds) {
        self.forget(context, token);
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        self.unanswered.retain(|pair| !pair.is_from(&address));
        for token in self.tokens() {
            if let Some(mesh) = self.meshes.get_mut(&token) {
                mesh.failed.retain(|pair, failed| {
                    !pair.is_from(&address) && !failed.until_change && !failed.no_route
                });
            }
            self.mesh(context, token, "new_local_addr");
        }
    }

    fn address_down(&mut self, context: &mut Context<'_>, gone: LocalAddress) {
        self.unanswered.retain(|pair| !pair.is_from(&gone));
        for token in self.tokens() {
            if let Some(mesh) = self.meshes.get_mut(&token) {
                mesh.failed.retain(|pair, _| !pair.is_from(&gone));
            }
            self.close_stranded(context, token, "del_local_addr");
            self.mesh(context, token, "del_local_addr");
        }
    }

    fn routes_changed(&mut self, context: &mut Context<'_>) {
        for token in self.tokens() {
            let Some(mesh) = self.meshes.get_mut(&token) else {
                continue;
            };
            // What was said of them stays: it is not said again if it is still so.
            let unrouted = mesh.failed.values_mut().filter(|f| f.no_route);
            let mut unrouted = unrouted.peekable();
            if unrouted.peek().is_some() {
                unrouted.for_each(|failed| failed.retry = Retry::default());
                self.mesh(context, token, "routes");
            }
        }
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, _: u32) {
        self.mesh(context, token, "timer");
    }
}

/// Closes a subflow, which may be over by now.
fn close(context: &mut Context<'_>, token: Token, id: SubflowId) {
    match context.subflow_destroy(token, id) {
        Err(error) if error.errno() != Some(Errno::ESRCH) => log::warn!("{token} id {id}: {error}"),
        _ => {}
    }
}

fn among(patterns: &[Pattern], local: &LocalAddress) -> bool {
    let mut patterns = patterns.iter();
    patterns.any(|pattern| pattern.matches(local.interface))
}

/// How many subflows a pair has.
fn count(context: &mut Context<'_>, token: Token, pair: &Pair) -> usize {
    let subflows = context.connection(token).map(|c| c.subflows.clone());
    let to_there = subflows
        .into_iter()
        .flatten()
        .filter(|s| (s.local_address, s.remote()) == (pair.local, pair.remote));
    let from = to_there.filter_map(|s| context.local_address_of(token, &s));
    from.filter(|local| pair.is_from(local)).count()
}

fn holds(context: &mut Context<'_>, token: Token, pair: &Pair) -> bool {
    count(context, token, pair) > 0
}

/// Whether an error is that nothing came back.
fn is_silence(errno: Option<Errno>) -> bool {
    matches!(
        errno,
        Some(Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETUNREACH)
    )
}
