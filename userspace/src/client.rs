// SPDX-License-Identifier: GPL-2.0
//! The kernel of the current network namespace, as a [`Backend`].
//!
//! Design decisions: events and commands have a socket each, so that the answer
//! to a command never queues behind events and a burst of events never costs an
//! answer. There is one thread and one poll; sockets are emptied before it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll};
use neli::consts::socket::NlFamily;

use crate::address::{AddressChange, Listing, LocalAddress};
use crate::backend::{Backend, Input};
use crate::command::{Command, SubflowCreate, SubflowDestroy};
use crate::error::{Errno, Error};
use crate::event::{Event, EventSet, SubflowId, Token};
use crate::family::{self, Family, Missing};
use crate::message::{Address, Connection, Part, Subflow};
use crate::netlink::{Attributes, Message};
use crate::socket::{Received, Socket};
use crate::stats::Stats;

const EVENTS: mio::Token = mio::Token(0);
const STOP: mio::Token = mio::Token(1);
const WAKE: mio::Token = mio::Token(2);

/// How often a listing is started again when changes interrupt it.
const DUMP_TRIES: usize = 5;

/// A socket that delivers on its own, and whether something may be queued.
struct Source {
    socket: Socket,
    ready: bool,
}

/// A connection to the module in the kernel.
pub struct Client {
    family: Family,
    commands: Socket,
    events: Option<Source>,
    route: Option<Socket>,
    request: Vec<u8>,
    seq: u32,
    poll: Poll,
    ready: mio::Events,
    pending: VecDeque<Input>,
    lost: bool,
    stop: bool,
    wake: bool,
    start: Instant,
}

impl Client {
    /// Connects in the current network namespace.
    pub fn connect() -> Result<Self, Error> {
        let mut commands = Socket::open(NlFamily::Generic)?;
        let mut request = Vec::with_capacity(256);
        let family = resolve(&mut commands, &mut request)?;
        Ok(Self {
            family,
            commands,
            events: None,
            route: None,
            request,
            seq: 1,
            poll: Poll::new().map_err(Error::io("poll"))?,
            ready: mio::Events::with_capacity(4),
            pending: VecDeque::with_capacity(64),
            lost: false,
            stop: false,
            wake: false,
            start: Instant::now(),
        })
    }

    /// The numbers of the family in the running kernel.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// Makes [`wait`](Backend::wait) return [`Input::Stop`] once `fd`, for
    /// example a signalfd, is readable.
    pub fn stop_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), STOP)
    }

    /// Makes [`wait`](Backend::wait) return [`Input::Wake`] when `fd`, which must
    /// not block, becomes readable. The caller reads it until it is empty: only
    /// then it is waited for again.
    pub fn wake_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), WAKE)
    }

    /// Gets what the module has counted since it was loaded.
    pub fn stats(&mut self) -> Result<Stats, Error> {
        let mut found = None;
        self.call(&Command::Stats, |attributes| {
            found = Some(Stats::decode(attributes)?);
            Ok(())
        })?;
        found.ok_or(Error::NoAnswer("stats-get"))
    }

    /// Sends a command and hands each message of the answer to `each`.
    fn call(
        &mut self,
        command: &Command,
        mut each: impl FnMut(Attributes<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.seq = self.seq.wrapping_add(1);
        let request = command.encode(&mut self.request, self.family.id, self.seq);
        let take = |message: Message<'_>| each(message.generic()?.1);
        match self.commands.call(command.name(), self.seq, request, take) {
            // A listing while the module unloads: __netlink_dump_start() cannot hold it.
            Err(error) if error.errno() == Some(Errno::EPROTONOSUPPORT) => {
                Err(Error::Missing(Missing::Unloaded))
            }
            answer => answer,
        }
    }

    /// Sends a command that is answered by an acknowledgement only.
    fn order(&mut self, command: &Command) -> Result<(), Error> {
        self.call(command, |_| Ok(()))
    }

    fn watch(&self, fd: RawFd, token: mio::Token) -> Result<(), Error> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(Error::io("poll"))
    }

    /// Takes one datagram of events into the pending inputs; false if there is none.
    fn receive_events(&mut self) -> Result<bool, Error> {
        let Some(source) = self.events.as_mut().filter(|source| source.ready) else {
            return Ok(false);
        };
        match source.socket.receive()? {
            Received::Datagram(messages) => {
                for message in messages {
                    let message = message?;
                    let (command, attributes) = message.generic()?;
                    if message.kind != self.family.id {
                        if family::is_removal(command, attributes) {
                            return Err(Error::Missing(Missing::Unloaded));
                        }
                        continue;
                    }
                    match decode(command, attributes) {
                        Ok(input) => self.pending.extend(input),
                        Err(error) => {
                            log::error!("event {command} ignored: {error}");
                            self.lost = true;
                        }
                    }
                }
            }
            // What was queued before the loss is still to come.
            Received::Overrun => self.lost = true,
            Received::Nothing => {
                source.ready = false;
                if std::mem::take(&mut self.lost) {
                    self.pending.push_back(Input::Lost);
                }
            }
        }
        Ok(true)
    }
}

impl AsRawFd for Client {
    /// A descriptor that becomes readable once there is an input again, after
    /// [`wait`](Backend::wait) has told them all.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = &self.family;
        f.debug_struct("Client")
            .field("family", family)
            .finish_non_exhaustive()
    }
}

/// What the module sent as `command`; none if this version does not know it.
fn decode(command: u8, attributes: Attributes<'_>) -> Result<Option<Input>, Error> {
    if let Some(event) = Event::decode(command, attributes.clone())? {
        return Ok(Some(Input::Event(event)));
    }
    Ok(AddressChange::decode(command, attributes)?.map(Input::Address))
}

/// The subflow in the answer to subflow-create; over already if the peer was quick to refuse it.
fn created_subflow(attributes: Attributes<'_>) -> Result<Option<Subflow>, Error> {
    let mut created = None;
    Connection::decode_with(attributes, |part| {
        if let Part::Subflow(nest) = part {
            created = Some(Subflow::decode(nest)?);
        }
        Ok(())
    })?;
    Ok(created)
}

fn resolve(socket: &mut Socket, request: &mut Vec<u8>) -> Result<Family, Error> {
    let mut family = Err(Error::NoAnswer("look-up of the family smapp_pm"));
    let request = Family::request(request, 1);
    let answer = socket.call("look-up of the family smapp_pm", 1, request, |message| {
        family = Family::decode(message.generic()?.1);
        Ok(())
    });
    match answer {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Err(Error::Missing(Missing::find())),
        Err(error) => Err(error),
        Ok(()) => family,
    }
}

impl Backend for Client {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        if self.events.is_none() {
            let socket = Socket::open(NlFamily::Generic)?;
            socket.join(&[family::NOTIFY_GROUP])?;
            self.watch(socket.as_raw_fd(), EVENTS)?;
            self.events = Some(Source {
                socket,
                ready: true,
            });
        }
        let groups: Vec<u32> = events.iter().map(|kind| self.family.group(kind)).collect();
        self.events
            .as_ref()
            .map_or(Ok(()), |source| source.socket.join(&groups))
    }

    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error> {
        // What is there is told before the time, however late it is.
        let mut polled = false;
        loop {
            if let Some(input) = self.pending.pop_front() {
                return Ok(input);
            }
            if self.receive_events()? {
                continue;
            }
            if self.stop {
                return Ok(Input::Stop);
            }
            if std::mem::take(&mut self.wake) {
                return Ok(Input::Wake);
            }
            let left = until.map(|until| until.saturating_sub(self.now()));
            if polled && left == Some(Duration::ZERO) {
                return Ok(Input::Time);
            }
            match self.poll.poll(&mut self.ready, left) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(Error::io("poll"))?,
            }
            polled = true;
            for ready in &self.ready {
                match (ready.token(), &mut self.events) {
                    (EVENTS, Some(source)) => source.ready = true,
                    (STOP, _) => self.stop = true,
                    (WAKE, _) => self.wake = true,
                    _ => {}
                }
            }
        }
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        // What changes during one listing another one has: together they miss nothing
        // that lives. What is over by then is told to be.
        let mut seen = BTreeMap::new();
        for _ in 0..DUMP_TRIES {
            let mut listed: Vec<Connection> = Vec::new();
            let take = |attributes: Attributes<'_>| {
                let next = Connection::decode(attributes)?;
                match listed.last_mut() {
                    // One with many subflows comes in several messages.
                    Some(last) if last.token == next.token => last.subflows.extend(next.subflows),
                    _ => listed.push(next),
                }
                Ok(())
            };
            match self.call(&Command::Connections, take) {
                Err(Error::DumpInterrupted) => {
                    seen.extend(listed.into_iter().map(|c| (c.token, c)))
                }
                result => return result.map(|()| listed),
            }
        }
        Ok(seen.into_values().collect())
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        let mut found = None;
        self.call(&Command::Connection(token), |attributes| {
            found = Some(Connection::decode(attributes)?);
            Ok(())
        })?;
        found.ok_or(Error::NoAnswer("conn-get"))
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        let socket = match &mut self.route {
            Some(socket) => socket,
            none => none.insert(Socket::open(NlFamily::Route)?),
        };
        'again: for _ in 0..DUMP_TRIES {
            let mut listing = Listing::default();
            for links in [true, false] {
                self.seq = self.seq.wrapping_add(1);
                let request = Listing::request(&mut self.request, links, self.seq);
                let take = |message: Message<'_>| listing.apply(&message);
                match socket.call("list of local addresses", self.seq, request, take) {
                    Err(Error::DumpInterrupted) => continue 'again,
                    result => result?,
                }
            }
            return Ok(listing.usable().collect());
        }
        Err(Error::DumpInterrupted)
    }

    fn subflow_create(&mut self, token: Token, subflow: &SubflowCreate) -> Result<Subflow, Error> {
        let mut created = None;
        self.call(&Command::SubflowCreate(token, *subflow), |attributes| {
            created = created_subflow(attributes)?;
            Ok(())
        })?;
        created.ok_or(Error::NoAnswer("subflow-create"))
    }

    fn subflow_create_all(
        &mut self,
        token: Token,
        subflows: &[SubflowCreate],
    ) -> Vec<Result<Subflow, Error>> {
        const NAME: &str = "subflow-create";
        if subflows.is_empty() {
            return Vec::new();
        }
        let commands = subflows.iter();
        let commands: Vec<_> = commands
            .map(|subflow| Command::SubflowCreate(token, *subflow))
            .collect();
        let first = self.seq.wrapping_add(1);
        self.seq = self.seq.wrapping_add(commands.len() as u32);
        let requests = Command::encode_all(&commands, self.family.id, first);
        let mut sent = self.commands.send(&requests);
        let answer = |number: u32| {
            std::mem::replace(&mut sent, Ok(()))?;
            let mut created = None;
            self.commands
                .answer(NAME, first.wrapping_add(number), |message| {
                    created = created_subflow(message.generic()?.1)?;
                    Ok(())
                })?;
            created.ok_or(Error::NoAnswer(NAME))
        };
        (0..commands.len() as u32).map(answer).collect()
    }

    fn subflow_destroy(&mut self, token: Token, subflow: &SubflowDestroy) -> Result<(), Error> {
        self.order(&Command::SubflowDestroy(token, *subflow))
    }

    fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error> {
        self.order(&Command::SubflowSet(token, id, backup))
    }

    fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        let mut announced = None;
        self.call(&Command::Announce(token, address, port), |attributes| {
            Connection::decode_with(attributes, |part| match part {
                Part::Address(nest) => Address::decode(nest).map(|a| announced = Some(a)),
                _ => Ok(()),
            })
            .map(drop)
        })?;
        announced.ok_or(Error::NoAnswer("announce"))
    }

    fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error> {
        self.order(&Command::Withdraw(token, *address))
    }
}
