// SPDX-License-Identifier: GPL-2.0
//! The module as a test talks to it: commands, and events that are awaited.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use smapp::wire::{Attributes, Messages, Request};
use smapp::{
    Address, AddressChange, Client, Connection, Errno, Error, Event, EventKind, EventSet, Input,
    Kernel, Subflow, SubflowCreate, SubflowDestroy, SubflowId, Token, What, wire,
};

use crate::netns::Netns;
use crate::on_failure::report;
use crate::wait::{DEADLINE, wait_for};

/// A client of the module in a network namespace, with the events seen so far.
pub struct PathManager<'a> {
    host: &'a Netns,
    client: Client,
    seen: Vec<Event>,
}

impl<'a> PathManager<'a> {
    /// Connect and register for all events.
    pub fn of(host: &'a Netns) -> Result<Self> {
        Self::with_events(host, EventSet::ALL)
    }

    /// Connect and register for some events.
    pub fn with_events(host: &'a Netns, events: EventSet) -> Result<Self> {
        let client = host
            .enter(|| -> Result<_, Error> {
                let mut client = Client::connect()?;
                client.listen(events)?;
                Ok(client)
            })
            .with_context(|| format!("no path manager in {}", host.name()))?;
        Ok(PathManager {
            host,
            client,
            seen: Vec::new(),
        })
    }

    /// The next event about a connection; an error when none comes in time or when events were lost.
    pub fn next(&mut self, deadline: Duration) -> Result<Event> {
        let until = self.client.now() + deadline;
        loop {
            match self.client.wait(Some(until))? {
                Input::Event(event) => {
                    self.seen.push(event);
                    return Ok(event);
                }
                Input::Address(_) => {}
                Input::Time => bail!("no event within {} s", deadline.as_secs_f32()),
                other => bail!("{other:?} instead of an event"),
            }
        }
    }

    /// Skip events until one is of `kind` and wanted.
    pub fn expect(&mut self, kind: EventKind, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        self.expect_within(DEADLINE, kind, wanted)
    }

    /// As [`PathManager::expect`], for what is slow by nature.
    pub fn expect_within(
        &mut self,
        deadline: Duration,
        kind: EventKind,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let end = Instant::now() + deadline;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Ok(event) if event.kind() == kind && wanted(&event) => return Ok(event),
                Ok(_) => (),
                Err(error) => {
                    return Err(error.context(self.state(&format!("expected {}", kind.word()))));
                }
            }
        }
    }

    /// The next change of a local address; events about connections are skipped.
    pub fn address_change(&mut self) -> Result<AddressChange> {
        let until = self.client.now() + DEADLINE;
        loop {
            match self.client.wait(Some(until))? {
                Input::Address(change) => return Ok(change),
                Input::Event(event) => self.seen.push(event),
                other => bail!("{other:?} instead of a change of a local address"),
            }
        }
    }

    /// Skip events until a connection is created; its token.
    pub fn created(&mut self) -> Result<Token> {
        Ok(self.expect(EventKind::Created, |_| true)?.token)
    }

    /// Skip events until the connection is established.
    pub fn established(&mut self, token: Token) -> Result<()> {
        self.expect(EventKind::Established, |event| event.token == token)
            .map(drop)
    }

    /// Skip events until one is of `kind` and about this subflow.
    pub fn expect_subflow(&mut self, kind: EventKind, id: SubflowId) -> Result<Subflow> {
        self.expect_subflow_within(DEADLINE, kind, id)
    }

    /// As [`PathManager::expect_subflow`], for what is slow by nature.
    pub fn expect_subflow_within(
        &mut self,
        deadline: Duration,
        kind: EventKind,
        id: SubflowId,
    ) -> Result<Subflow> {
        let is_it = |event: &Event| event.subflow().is_some_and(|subflow| subflow.id == id);
        let event = self.expect_within(deadline, kind, is_it)?;
        event
            .subflow()
            .copied()
            .context("an event of a subflow has a subflow")
    }

    /// Skip events until the joining subflow `id` is established or closed, which
    /// is an error.
    pub fn joined(&mut self, id: SubflowId) -> Result<Subflow> {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self
                .next(left)
                .with_context(|| self.state("expected sub_estab"))?;
            match event.subflow() {
                Some(subflow) if subflow.id == id => match event.kind() {
                    EventKind::SubflowEstablished => return Ok(*subflow),
                    EventKind::SubflowClosed => bail!("subflow {id} closed: {:?}", subflow.errno),
                    _ => (),
                },
                _ => (),
            }
        }
    }

    /// All events seen so far, skipped ones included.
    pub fn seen(&self) -> &[Event] {
        &self.seen
    }

    /// Open a subflow.
    pub fn create(&mut self, token: Token, subflow: SubflowCreate) -> Result<Subflow, Error> {
        self.client.subflow_create(token, &subflow)
    }

    /// Close a subflow.
    pub fn destroy(
        &mut self,
        token: Token,
        subflow: impl Into<SubflowDestroy>,
    ) -> Result<(), Error> {
        self.client.subflow_destroy(token, &subflow.into())
    }

    /// The commands that have no words of their own here.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Skip events until the peer announces an address.
    pub fn announced(&mut self, token: Token) -> Result<Address> {
        let event = self.expect(EventKind::AddressAnnounced, |event| event.token == token)?;
        match event.what {
            What::AddressAnnounced(address) => Ok(address),
            other => bail!("{other:?}"),
        }
    }

    /// One connection.
    pub fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        self.client.connection(token)
    }

    /// All connections.
    pub fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        self.client.connections()
    }

    /// Wait until the connection has this number of subflows, all established.
    pub fn wait_for_subflows(&mut self, token: Token, count: usize) -> Result<Connection> {
        let what = format!("connection {token} with {count} subflows");
        let result = wait_for(&what, DEADLINE, || {
            let connection = self.connection(token)?;
            let established =
                |subflow: &&Subflow| subflow.state == Some(smapp::TcpState::ESTABLISHED);
            let ready = connection.subflows.iter().filter(established).count();
            ensure!(
                ready == count && connection.subflows.len() == count,
                "{connection:#?}"
            );
            Ok(connection)
        });
        result.with_context(|| self.state("waiting for subflows"))
    }

    /// Send a request with any content; the refusal, or an error when it was not
    /// refused.
    pub fn refusal(
        &mut self,
        command: u8,
        fill: impl FnOnce(Request<'_>) -> Request<'_>,
    ) -> Result<Refusal> {
        let socket = self.host.enter(|| -> std::io::Result<_> {
            let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
            socket.enable_ext_ack(true)?;
            Ok(socket)
        })?;
        let mut buffer = Vec::new();
        let version = wire::uapi::VERSION;
        let family = self.host.enter(|| -> Result<_> {
            let mut socket = wire::Socket::open(NlFamily::Generic)?;
            Ok(wire::Family::resolve(&mut socket, &mut buffer)?.id)
        })?;
        let request = Request::generic(&mut buffer, family, wire::ACK, 1, command, version);
        let request = fill(request).finish();
        socket.send(request, Msg::empty())?;
        let mut answer = vec![0; 65536];
        let (length, _) = socket
            .recv(&mut answer, Msg::DONTWAIT)
            .context("no answer")?;
        for message in Messages::new(&answer[..length]) {
            let message = message?;
            if message.kind == wire::ERROR {
                let (errno, text) = message.error()?;
                ensure!(errno != 0, "the request was not refused");
                let details = message.payload.get(4 + request.len()..);
                return Ok(Refusal {
                    errno: Errno(errno),
                    text: text.unwrap_or_default().into(),
                    attribute: attribute_at_fault(request, details.unwrap_or_default())?,
                });
            }
        }
        bail!("the request was answered, not refused")
    }

    fn state(&self, what: &str) -> String {
        let events: Vec<_> = self
            .seen
            .iter()
            .map(|event| format!("  {event:?}"))
            .collect();
        let host = self.host.name();
        let (events, kernel) = (events.join("\n"), report(host));
        format!("{what} on {host}; events so far:\n{events}\n{kernel}")
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error.
    pub errno: Errno,
    /// The kernel's words.
    pub text: String,
    /// The number of the attribute that is wrong or missing, if the kernel names one.
    pub attribute: Option<u16>,
}

/// The attribute that the details of an extended acknowledgement point to, by its
/// place in the request or, if it is missing, by its number (`linux/netlink.h`).
fn attribute_at_fault(request: &[u8], details: &[u8]) -> Result<Option<u16>> {
    const NLMSGERR_ATTR_OFFS: u16 = 2;
    const NLMSGERR_ATTR_MISS_TYPE: u16 = 5;
    const FLAGS: u16 = 0xc000;
    let mut number = None;
    for attribute in Attributes::new(details) {
        let attribute = attribute?;
        match attribute.kind {
            NLMSGERR_ATTR_OFFS => {
                let place = attribute.u32()? as usize + 2;
                let kind = request
                    .get(place..place + 2)
                    .context("not in the request")?;
                number = Some(u16::from_ne_bytes(kind.try_into()?) & !FLAGS);
            }
            NLMSGERR_ATTR_MISS_TYPE => number = Some(u16::try_from(attribute.u32()?)?),
            _ => {}
        }
    }
    Ok(number)
}
