// SPDX-License-Identifier: GPL-2.0
//! The running kernel, as far as the current network namespace goes.
//!
//! One poll waits for everything: the sockets of the interface and the descriptors that the
//! program gave. It tells only of what has become readable since, so a socket is read until
//! it is empty before the next poll.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll};

use super::interface::Interface;
use super::route::Route;
use super::route_watch::RouteWatch;
use super::{CLOSE_TIMEOUT, Capabilities, Error, Input, Kernel, KernelKind};
use crate::model::{
    Answer, Command, Connection, EventKind, EventSet, IfIndex, LocalAddress, RouteQuery,
    Statistics, Token, changes,
};

const EVENTS: mio::Token = mio::Token(0);
const STOP: mio::Token = mio::Token(1);
const WAKE: mio::Token = mio::Token(2);
const ROUTES: mio::Token = mio::Token(3);

#[cfg(test)]
mod tests;

/// Local addresses are told by this client, whatever the interface: it lists them again when
/// rtnetlink, or the interface, tells of a change. So nothing escapes it, like a new name of
/// an interface or the end of the preferred lifetime of an address.
const LOCAL: EventSet = EventSet::of(&[EventKind::NewLocalAddress, EventKind::DelLocalAddress]);

/// After this many inputs in a row it looks at signals, the program's descriptors and the
/// time: events that keep coming do not put them off.
const BATCH: u32 = 64;

/// So many answers of the routing tables are kept: a flood of peers does not fill memory.
const ROUTES_KEPT: usize = 1024;

/// The running kernel, in the network namespace of the thread that connects.
pub struct Client {
    interface: Box<dyn Interface>,
    route: Option<Route>,
    watch: Option<RouteWatch>,
    /// What the routing tables answered since they last changed, kept once changes of
    /// routes are heard of.
    routes: Option<BTreeMap<RouteQuery, IfIndex>>,
    /// The local addresses that were told, and of which kinds of changes.
    addresses: Vec<LocalAddress>,
    told_of: EventSet,
    /// The addresses have to be listed again.
    changed: bool,
    poll: Poll,
    ready: mio::Events,
    pending: VecDeque<Input>,
    /// Whether the interface, and whether rtnetlink, may have something queued.
    readable: bool,
    watch_readable: bool,
    stop: bool,
    wake: bool,
    /// Inputs told, and reads that gave none, since the last poll.
    told: u32,
    start: Instant,
}

impl Client {
    /// Connects in the current network namespace, to the interface that is
    /// [selected](KernelKind::selected) there. Needs CAP_NET_ADMIN in the user namespace
    /// that owns it, for all that follows.
    pub fn connect() -> Result<Self, Error> {
        Self::connect_to(KernelKind::selected())
    }

    /// Connects to this interface.
    pub fn connect_to(kind: KernelKind) -> Result<Self, Error> {
        Self::over(kind.connect()?)
    }

    fn over(interface: Box<dyn Interface>) -> Result<Self, Error> {
        Ok(Self {
            interface,
            route: None,
            watch: None,
            routes: None,
            addresses: Vec::new(),
            told_of: EventSet::default(),
            changed: false,
            poll: Poll::new().map_err(Error::io("poll"))?,
            ready: mio::Events::with_capacity(4),
            pending: VecDeque::with_capacity(64),
            readable: false,
            watch_readable: false,
            stop: false,
            wake: false,
            told: 0,
            start: Instant::now(),
        })
    }

    /// Makes [`wait`](Kernel::wait) return [`Input::Stop`] once `fd`, for
    /// example a signalfd, is readable.
    pub fn stop_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), STOP)
    }

    /// Makes [`wait`](Kernel::wait) return [`Input::Wake`] when `fd`, which must
    /// not block, becomes readable. The caller reads it until it is empty: only
    /// then it is waited for again.
    pub fn wake_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), WAKE)
    }

    /// Gets what the kernel side has counted since it was loaded.
    pub fn statistics(&mut self) -> Result<Statistics, Error> {
        self.interface.statistics()
    }

    fn watch(&self, fd: RawFd, token: mio::Token) -> Result<(), Error> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(Error::io("poll"))
    }

    fn route_socket(&mut self) -> Result<&mut Route, Error> {
        Ok(match &mut self.route {
            Some(route) => route,
            none => none.insert(Route::open()?),
        })
    }

    fn watcher(&mut self) -> Result<&mut RouteWatch, Error> {
        if self.watch.is_none() {
            let watch = RouteWatch::open()?;
            self.watch(watch.as_raw_fd(), ROUTES)?;
            self.watch = Some(watch);
        }
        self.watch.as_mut().ok_or(Error::NoAnswer("rtnetlink"))
    }

    fn is_readable(&self) -> bool {
        self.readable || self.watch_readable
    }

    /// Reads what is there, as inputs if it is any; false if nothing is.
    fn take_in(&mut self) -> Result<bool, Error> {
        if self.watch_readable || self.changed {
            self.look()?;
            if !self.pending.is_empty() {
                return Ok(true);
            }
        }
        if !self.readable {
            return Ok(false);
        }
        self.readable = self.interface.receive(&mut self.pending)?;
        // A local address is a reason to look, not all that there is to see.
        let all = self.pending.len();
        self.pending
            .retain(|input| !matches!(input, Input::Address(_)));
        self.changed |= self.pending.len() < all;
        Ok(true)
    }

    /// Queues what rtnetlink tells.
    fn look(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.watch_readable) {
            if let Some(watch) = &mut self.watch {
                let changed = watch.read()?;
                self.changed |= changed.addresses;
                if let Some(routes) = &mut self.routes {
                    routes.clear();
                }
                if changed.routes {
                    self.pending.push_back(Input::Routes);
                }
            }
        }
        if std::mem::take(&mut self.changed) {
            let listed = match self.route_socket()?.addresses() {
                Ok(listed) => listed,
                // The change that interrupted the listing has its own notice: list again then.
                Err(error) => {
                    log::warn!("{error}");
                    self.changed = true;
                    return Ok(());
                }
            };
            let before = std::mem::replace(&mut self.addresses, listed);
            let changes = changes(&before, &self.addresses);
            let told = changes.filter(|change| self.told_of.contains(change.kind()));
            self.pending.extend(told.map(Input::Address));
        }
        Ok(())
    }

    /// Polls, at most for this long, and notes what is ready.
    fn poll(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.told = 0;
        match self.poll.poll(&mut self.ready, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result.map_err(Error::io("poll"))?,
        }
        for ready in &self.ready {
            match ready.token() {
                STOP => self.stop = true,
                WAKE => self.wake = true,
                ROUTES => self.watch_readable = true,
                _ => self.readable = true,
            }
        }
        Ok(())
    }
}

impl AsRawFd for Client {
    /// A descriptor that becomes readable once there is an input again, after
    /// [`wait`](Kernel::wait) has told them all.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("capabilities", &self.capabilities())
            .finish_non_exhaustive()
    }
}

impl Kernel for Client {
    fn capabilities(&self) -> Capabilities {
        self.interface.capabilities()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn close_timeout(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/sys/net/mptcp/close_timeout");
        let seconds = text.ok().and_then(|text| text.trim().parse().ok());
        seconds.map_or(CLOSE_TIMEOUT, Duration::from_secs)
    }

    fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        let local = events.intersection(LOCAL);
        if local != EventSet::default() {
            self.watcher()?;
            if self.told_of == EventSet::default() {
                self.addresses = self.route_socket()?.addresses()?;
            }
            self.told_of = self.told_of.union(local);
        }
        for descriptor in self.interface.listen(events)? {
            self.watch(descriptor, EVENTS)?;
            self.readable = true;
        }
        Ok(())
    }

    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error> {
        loop {
            if self.told < BATCH {
                self.told += 1;
                if let Some(input) = self.pending.pop_front() {
                    return Ok(input);
                }
                if self.take_in()? {
                    continue;
                }
            }
            let more = self.told >= BATCH || self.is_readable();
            let left = until.map(|until| until.saturating_sub(self.now()));
            self.poll(if more { Some(Duration::ZERO) } else { left })?;
            if self.stop {
                return Ok(Input::Stop);
            }
            if std::mem::take(&mut self.wake) {
                return Ok(Input::Wake);
            }
            // What is there by then is told before the time, up to a batch of it.
            let is_due = until.is_some_and(|until| self.now() >= until);
            if is_due && (more || !self.is_readable()) {
                return Ok(Input::Time);
            }
        }
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        self.interface.connections()
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        self.interface.connection(token)
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        Ok(self.route_socket()?.addresses()?)
    }

    fn watch_routes(&mut self) -> Result<(), Error> {
        self.watcher()?.add_routes()?;
        self.routes.get_or_insert_default();
        Ok(())
    }

    fn route(&mut self, query: &RouteQuery) -> Result<IfIndex, Error> {
        let kept = self.routes.as_ref().and_then(|routes| routes.get(query));
        if let Some(interface) = kept {
            return Ok(*interface);
        }
        let interface = self.route_socket()?.lookup(query)?;
        if let Some(routes) = &mut self.routes {
            if routes.len() >= ROUTES_KEPT {
                routes.clear();
            }
            routes.insert(*query, interface);
        }
        Ok(interface)
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        self.interface.command(command)
    }

    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        self.interface.commands(commands)
    }
}
