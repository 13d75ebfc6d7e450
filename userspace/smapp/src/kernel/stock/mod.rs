// SPDX-License-Identifier: GPL-2.0
//! The interface of an unmodified kernel: the family `mptcp_pm`, `sock_diag`, rtnetlink,
//! and BPF programs where they are allowed.
//!
//! Design decisions: `mptcp_pm` names subflows by their ends, so their numbers, and which
//! are known at all, are kept here. What its events leave out is asked of `sock_diag`; what
//! they never tell the BPF programs do, or a listing of everything every 30 s. Where an
//! answer cannot be had, it is none.

mod addresses;
mod bpf;
mod calls;
pub(crate) mod capabilities;
mod connections;
mod inputs;
mod orders;
mod poller;
mod refusal;
mod subflows;
mod wire;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use neli::consts::socket::NlFamily;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use self::bpf::{Programs, Refusal};
use self::calls::Calls;
use self::capabilities::Features;
use self::connections::Connections;
use self::poller::Poller;
use super::interface::Interface;
use super::route::Route;
use super::{Capabilities, Error, Input, SubflowIds};
use crate::model::{
    Answer, Command, Connection, Errno, EventKind, EventSet, LocalAddress, Statistics, SubflowId,
    TcpState, Token,
};
use crate::netlink::Socket;

/// What an unmodified kernel can be told.
pub(crate) const INTERFACE: &str = "mptcp_pm";

/// A connection to an unmodified kernel.
pub(crate) struct Stock {
    calls: Calls,
    features: Features,
    registered: EventSet,
    events: Option<Socket>,
    /// Tells that links or addresses change.
    changes: Option<Socket>,
    route: Option<Route>,
    /// As far as has been told.
    addresses: Vec<LocalAddress>,
    programs: Option<Programs>,
    /// None as long as no program was tried.
    refusals: Option<Vec<Refusal>>,
    connections: Connections,
    poller: Poller,
    /// Sockets that have closed: when it is told, unless an event does it before.
    ended: VecDeque<(Duration, Token, Option<SubflowId>)>,
    /// When everything is listed next.
    next_listing: Duration,
    timer: TimerFd,
    /// Inputs that came up outside of `receive`.
    queue: VecDeque<Input>,
    /// Events were lost, and what was queued before is not yet read.
    lost: bool,
    start: Instant,
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
            changes: None,
            route: None,
            addresses: Vec::new(),
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

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn route(&mut self) -> Result<&mut Route, Error> {
        Ok(match &mut self.route {
            Some(route) => route,
            none => none.insert(Route::open()?),
        })
    }

    /// Has the timer expire when something is due next.
    fn arm(&mut self) -> Result<(), Error> {
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
    fn know(&mut self, token: Token) -> Result<(), Error> {
        if self.connections.contains(token) {
            return Ok(());
        }
        if let Some(socket) = self.calls.connection(token)? {
            if !is_over(&socket) {
                let subflows = self.calls.subflows()?;
                let managed = self.calls.is_managed(token)?;
                self.connections.found(&socket, &subflows, managed);
                let now = self.now();
                self.connections.listed(&[socket], &subflows, now);
            }
        }
        Ok(())
    }

    /// Learns the local ports of subflows that this host has just opened.
    fn learn_ports(&mut self, token: Token) -> Result<(), Error> {
        // Events that wait may tell.
        let busy = self.drain_events()?;
        let Some(known) = self.connections.get(token) else {
            return Ok(());
        };
        let unknown = known.subflows.iter().any(|e| e.ends.local.port() == 0);
        // With more events to come this is no time for a listing: they tell.
        if !unknown || busy > 16 {
            return Ok(());
        }
        let sockets = self.calls.connecting()?;
        let now = self.now();
        let Some(known) = self.connections.get_mut(token) else {
            return Ok(());
        };
        for socket in &sockets {
            if socket.subflow.is_none_or(|ulp| ulp.token != token) {
                continue;
            }
            if let Some(entry) = known.subflows.find(&socket.ends) {
                if entry.ifindex.is_some() {
                    self.features.ifindex = Some(socket.ifindex.is_some());
                }
                if entry.wants_backup {
                    let backup = socket.subflow.is_some_and(|ulp| ulp.backup());
                    self.features.backup_on_syn = Some(backup);
                }
                entry.learn(socket, now);
            }
        }
        Ok(())
    }

    /// Lists everything, makes known what is not; true if there was something that events
    /// should have told.
    fn list(&mut self) -> Result<(Vec<Connection>, bool), Error> {
        let sockets = self.calls.connections()?;
        let subflows = self.calls.subflows()?;
        let mut missed = false;
        for socket in &sockets {
            let token = socket.token;
            if self.connections.contains(token) || is_over(socket) {
                continue;
            }
            let managed = self.calls.is_managed(token)?;
            self.connections.found(socket, &subflows, managed);
            missed |= managed && socket.state != TcpState::SYN_SENT;
        }
        let now = self.now();
        self.next_listing = now + LISTING;
        let listed = self.connections.listed(&sockets, &subflows, now);
        self.poller.hurry(now);
        Ok((listed, missed))
    }
}

/// How often everything is listed, for what nobody tells.
const LISTING: Duration = Duration::from_secs(30);

/// Whether the application has closed it: what is left is the kernel's.
fn is_over(socket: &wire::diag::ConnectionSocket) -> bool {
    socket.state == TcpState::CLOSE
        // One that is not accepted yet has no owner either.
        || socket.orphan && !matches!(socket.state, TcpState::ESTABLISHED | TcpState::SYN_SENT)
}

impl Interface for Stock {
    fn capabilities(&self) -> Capabilities {
        let programs = self.programs.as_ref();
        let refusals = self.refusals.as_ref();
        let tried = refusals.map(|_| {
            programs.map_or((bpf::Timeouts::Nowhere, false), |programs| {
                (programs.timeouts, programs.ends)
            })
        });
        Capabilities {
            interface: INTERFACE,
            version: None,
            events: EventSet::ALL,
            commands: Capabilities::COMMANDS,
            subflow_ids: SubflowIds::Library,
            lacks: capabilities::lacks(
                &self.features,
                tried,
                refusals.map_or(&[], |refusals| refusals),
            ),
        }
    }

    fn listen(&mut self, events: EventSet) -> Result<Vec<RawFd>, Error> {
        self.registered = self.registered.union(events);
        let mut descriptors = Vec::new();
        let local = [EventKind::NewLocalAddress, EventKind::DelLocalAddress];
        if self.changes.is_none() && local.iter().any(|&kind| events.contains(kind)) {
            /// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`
            const GROUPS: [u32; 3] = [1, 5, 9];
            let socket = Socket::open(NlFamily::Route)?;
            socket.join(&GROUPS)?;
            descriptors.push(socket.as_raw_fd());
            self.changes = Some(socket);
            self.addresses = self.route()?.addresses()?;
        }
        let others = events.iter().any(|kind| !local.contains(&kind));
        if self.events.is_none() && others {
            let socket = Socket::open(NlFamily::Generic)?;
            socket.join(&[self.calls.family.events])?;
            descriptors.push(socket.as_raw_fd());
            self.events = Some(socket);
            let (programs, refusals) = Programs::load();
            descriptors.extend(programs.as_ref().map(AsRawFd::as_raw_fd));
            self.programs = programs;
            self.refusals = Some(refusals);
            descriptors.push(self.timer.as_fd().as_raw_fd());
            self.next_listing = self.now() + LISTING;
            self.arm()?;
        }
        Ok(descriptors)
    }

    fn receive(&mut self, inputs: &mut VecDeque<Input>) -> Result<bool, Error> {
        let more = self.receive_one()?;
        let registered = self.registered;
        inputs.extend(self.queue.drain(..).filter(|input| match input {
            Input::Event(event) => registered.contains(event.kind()),
            Input::Address(change) => registered.contains(change.kind()),
            _ => true,
        }));
        if !more {
            self.arm()?;
        }
        Ok(more)
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        let (listed, _) = self.list()?;
        self.arm()?;
        Ok(listed)
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        self.know(token)?;
        let none = || Error::Refused {
            command: "conn-get",
            errno: Errno::ESRCH,
            message: Some("token: there is no such connection".to_owned()),
        };
        if self.connections.get(token).is_none() {
            return Err(none());
        }
        let socket = self.calls.connection(token)?.ok_or_else(none)?;
        self.learn_ports(token)?;
        let known = self.connections.get(token).ok_or_else(none)?;
        let mut subflows = Vec::new();
        for entry in known.subflows.iter() {
            if let Some(socket) = self.calls.subflow(entry.ends, entry.ifindex)? {
                subflows.push(entry.subflow_now(&socket));
            }
        }
        let connection = known.connection(&socket, subflows);
        self.arm()?;
        Ok(connection)
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        let mut answers = self.commands(std::slice::from_ref(command));
        answers.pop().unwrap_or(Err(Error::NoAnswer(command.name())))
    }

    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        let mut answers: Vec<_> = commands.iter().map(|c| self.carry_out(c)).collect();
        for (command, answer) in commands.iter().zip(&mut answers) {
            let Ok(Answer::Subflow(subflow)) = answer else {
                continue;
            };
            let token = command.token();
            if let Err(error) = self.learn_ports(token) {
                log::warn!("local port of subflow {} not known: {error}", subflow.id);
            }
            let known = self.connections.get(token);
            // It may have ended already.
            if let Some(entry) = known.and_then(|known| known.subflows.get(subflow.id)) {
                *subflow = entry.subflow();
            }
        }
        if let Err(error) = self.arm() {
            log::error!("{error}");
        }
        answers
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        Err(Error::Refused {
            command: "stats-get",
            errno: Errno::EOPNOTSUPP,
            message: Some("this kernel counts nothing for it: see `nstat -az 'MPTcp*'`".to_owned()),
        })
    }
}
