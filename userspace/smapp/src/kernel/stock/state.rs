// SPDX-License-Identifier: GPL-2.0
//! What is kept of an unmodified kernel.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::bpf::{Programs, Refusal, Timeouts};
use super::calls::Calls;
use super::capabilities::Features;
use super::connections::Connections;
use super::poller::Poller;
use super::wire::diag::ConnectionSocket;
use crate::kernel::route::Route;
use crate::kernel::{Error, Input};
use crate::model::{Connection, Errno, EventSet, SubflowId, TcpState, Token};
use crate::netlink::Socket;

/// How often everything is listed, for what nobody tells.
const LISTING: Duration = Duration::from_secs(30);

/// A connection to an unmodified kernel.
pub(crate) struct Stock {
    pub(super) calls: Calls,
    pub(super) features: Features,
    pub(super) registered: EventSet,
    pub(super) events: Option<Socket>,
    pub(super) route: Option<Route>,
    pub(super) programs: Option<Programs>,
    /// None as long as no program was tried.
    pub(super) refusals: Option<Vec<Refusal>>,
    pub(super) connections: Connections,
    pub(super) poller: Poller,
    /// Sockets that have closed: when it is told, unless an event does it before.
    pub(super) ended: VecDeque<(Duration, Token, Option<SubflowId>)>,
    /// When everything is listed next.
    pub(super) next_listing: Duration,
    pub(super) timer: TimerFd,
    /// Inputs that came up outside of `receive`.
    pub(super) queue: VecDeque<Input>,
    /// Events were lost, and what was queued before is not yet read.
    pub(super) lost: bool,
    pub(super) start: Instant,
}

impl Stock {
    /// Connects in the current network namespace; none if the kernel has no path manager
    /// for user space.
    pub fn connect() -> Result<Option<Self>, Error> {
        let Some(mut calls) = Calls::open()? else {
            return Ok(None);
        };
        // Without a connection: a kernel that reads the token says that there is none.
        let local_addresses = match calls.local_addresses(Token(0)) {
            Err(error) => error.errno() == Some(Errno::EINVAL),
            Ok(_) => false,
        };
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        Ok(Some(Self {
            calls,
            features: Features {
                local_addresses,
                ..Features::default()
            },
            registered: EventSet::default(),
            events: None,
            route: None,
            programs: None,
            refusals: None,
            connections: Connections::default(),
            poller: Poller::default(),
            ended: VecDeque::new(),
            next_listing: Duration::ZERO,
            timer: timer.map_err(|errno| Error::io("timer")(errno.into()))?,
            queue: VecDeque::new(),
            lost: false,
            start: Instant::now(),
        }))
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn route(&mut self) -> Result<&mut Route, Error> {
        Ok(match &mut self.route {
            Some(route) => route,
            none => none.insert(Route::open()?),
        })
    }

    /// Has the timer expire when something is due next.
    pub(super) fn arm(&mut self) -> Result<(), Error> {
        let now = self.now();
        let ended = self.ended.front().map(|&(at, ..)| at);
        let listing = self.events.is_some().then_some(self.next_listing);
        let queued = (!self.queue.is_empty()).then_some(now);
        let due = [ended, listing, queued, self.poller.next()];
        let Some(at) = due.into_iter().flatten().min() else {
            return Ok(());
        };
        // 0 would stop it.
        let left = at.saturating_sub(now).max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer
            .set(once, TimerSetTimeFlags::empty())
            .map_err(|errno| Error::io("timer")(errno.into()))
    }

    /// Makes a connection known that is not: who only sends commands has no events.
    pub(super) fn know(&mut self, token: Token) -> Result<(), Error> {
        if self.connections.contains(token) {
            return Ok(());
        }
        if let Some(socket) = self.calls.connection(token)? {
            if !is_over(&socket) {
                let mut all = self.calls.subflows()?;
                let mut subflows = all.remove(&token).unwrap_or_default();
                let managed = self.calls.is_managed(token)?;
                self.connections.found(&socket, &subflows, managed);
                let now = self.now();
                self.connections.listed(&socket, &mut subflows, now);
            }
        }
        Ok(())
    }

    /// Whether a program tells of the timeouts of a subflow that begins now.
    pub(super) fn tells_timeouts(&self) -> bool {
        let programs = self.programs.as_ref();
        programs.is_some_and(|programs| programs.timeouts != Timeouts::Nowhere)
    }

    /// Looks for timeouts soon, unless a program tells of all.
    pub(super) fn look_soon(&mut self) {
        let programs = self.programs.as_ref();
        if programs.is_none_or(|programs| programs.timeouts != Timeouts::Timer) {
            let now = self.now();
            self.poller.hurry(now);
        }
    }

    /// Everything has been listed, or need not be yet.
    pub(super) fn list_later(&mut self) {
        self.next_listing = self.now() + LISTING;
    }

    /// Lists everything, makes known what is not; true if there was something that events
    /// should have told.
    pub(super) fn list(&mut self) -> Result<(Vec<Connection>, bool), Error> {
        let sockets = self.calls.connections()?;
        let mut all = self.calls.subflows()?;
        let now = self.now();
        let (mut listed, mut missed) = (Vec::new(), false);
        for socket in &sockets {
            let token = socket.token;
            let mut subflows = all.remove(&token).unwrap_or_default();
            if !self.connections.contains(token) {
                if is_over(socket) {
                    continue;
                }
                let managed = self.calls.is_managed(token)?;
                self.connections.found(socket, &subflows, managed);
                missed |= managed && socket.state != TcpState::SYN_SENT;
            }
            listed.extend(self.connections.listed(socket, &mut subflows, now));
        }
        self.list_later();
        self.look_soon();
        Ok((listed, missed))
    }
}

/// Whether it is none to be told of: the peer speaks plain TCP, or the application has
/// closed it and what is left is the kernel's.
fn is_over(socket: &ConnectionSocket) -> bool {
    socket.state == TcpState::CLOSE
        || socket.fallback && !socket.capable
        // One that is not accepted yet has no owner either.
        || socket.orphan && !matches!(socket.state, TcpState::ESTABLISHED | TcpState::SYN_SENT)
}
