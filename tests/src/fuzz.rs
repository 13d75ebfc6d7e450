// SPDX-License-Identifier: GPL-2.0
//! A fuzzer of the family: sends mutated messages from both hosts of a topology while
//! connections run, and holds the kernel to what it promises.
//!
//! - Every message that is one is answered: with an acknowledgement or with an errno.
//! - What must be refused is refused, what must be answered is answered.
//! - Connections that are only asked about carry data all the time.
//! - Events and listings can be decoded whatever happens.
//!
//! That the kernel's log stays clean and the module's count even is for the end of the
//! guest to say.

mod attribute;
mod grammar;
mod message;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use smapp::wire::{DONE, ERROR, Messages};
use smapp::{Client, Errno, EventSet, Kernel, wire};

use crate::netns::Netns;
use crate::topology::{Family, Path, Topology, server};
use crate::traffic::Connection;
use grammar::COMMANDS;
use message::{Expected, Fuzzed, Generator, World};

/// Messages between two looks at what exists.
const LOOK: u64 = 500;
/// Messages between two generations of connections.
const GENERATION: u64 = 5_000;
/// Messages in one datagram at most.
const TOGETHER: usize = 4;

/// What came of the messages.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages sent.
    pub sent: u64,
    /// Datagrams that were no messages.
    torn: u64,
    /// Events that came, and how often their queue was overrun.
    events: (u64, u64),
    /// How often each errno answered each command.
    answers: BTreeMap<(usize, Errno), u64>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, overruns) = self.events;
        let (sent, torn) = (self.sent, self.torn);
        writeln!(
            f,
            "{sent} messages, {torn} datagrams that were none, {events} events, {overruns} overruns"
        )?;
        for (number, command) in COMMANDS.iter().enumerate() {
            let of_it = self
                .answers
                .range((number, Errno(0))..(number + 1, Errno(0)));
            let words: Vec<_> = of_it
                .map(|((_, errno), count)| match errno {
                    Errno(0) => format!("{count} done"),
                    errno => format!("{count} {}", name(*errno)),
                })
                .collect();
            writeln!(f, "  {:<16}{}", command.name, words.join(", "))?;
        }
        Ok(())
    }
}

fn name(errno: Errno) -> String {
    let text = errno.to_string();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Send so many messages, chosen by `seed`; tell after every tenth of them.
pub fn run(seed: u64, messages: u64, mut tell: impl FnMut(&Outcome)) -> Result<Outcome> {
    let topology = Topology::new()?;
    let mut bystanders = [
        Connection::establish(&topology, Family::V4)?,
        Connection::establish(&topology, Family::V6)?,
    ];
    let mut hosts = [
        Host::of(&topology.client, seed)?,
        Host::of(&topology.server, seed.wrapping_add(1))?,
    ];
    for host in &mut hosts {
        host.note_bystanders()?;
    }
    let mut victims = Vec::new();
    let mut outcome = Outcome::default();
    let (mut look, mut generation, mut told) = (0, 0, 0);
    while outcome.sent < messages {
        if outcome.sent >= generation {
            generation += GENERATION;
            victims.clear();
            for family in [Family::V4, Family::V6, Family::V4] {
                victims.push(Connection::establish(&topology, family)?);
            }
        }
        if outcome.sent >= look {
            look += LOOK;
            for host in &mut hosts {
                host.look(&mut outcome)?;
            }
            for (number, connection) in bystanders.iter_mut().enumerate() {
                connection.exchange(2000).with_context(|| {
                    format!("bystander {number} after {} messages", outcome.sent)
                })?;
            }
        }
        for host in &mut hosts {
            host.send(&mut outcome)?;
        }
        if outcome.sent - told >= messages / 10 {
            told = outcome.sent;
            tell(&outcome);
        }
    }
    drop(victims);
    // The family is as useful as before.
    let mut fresh = Connection::establish(&topology, Family::V4)?;
    fresh.exchange(2000)?;
    Ok(outcome)
}

/// One end of the topology, from which messages are sent.
struct Host {
    socket: NlSocket,
    events: NlSocket,
    client: Client,
    generator: Generator,
    world: World,
    seq: u32,
    buffer: Vec<u8>,
}

impl Host {
    fn of(netns: &Netns, seed: u64) -> Result<Self> {
        netns.enter(|| {
            let client = Client::connect()?;
            let family = wire::Family::resolve(
                &mut wire::Socket::open(NlFamily::Generic)?,
                &mut Vec::new(),
            )?;
            let events = open()?;
            let groups: Vec<_> = EventSet::ALL
                .iter()
                .map(|kind| family.group(kind))
                .collect();
            events.add_mcast_membership(Groups::new_groups(&groups))?;
            Ok(Host {
                socket: open()?,
                events,
                generator: Generator::new(seed, family.id),
                client,
                world: World {
                    addresses: addresses(),
                    ..World::default()
                },
                seq: 0,
                buffer: vec![0; 1 << 18],
            })
        })
    }

    /// The connections that there are now are only asked about.
    fn note_bystanders(&mut self) -> Result<()> {
        let connections = self.client.connections()?;
        self.world.bystanders = connections.iter().map(|c| c.token.0).collect();
        ensure!(self.world.bystanders.len() == 2, "{connections:#?}");
        Ok(())
    }

    /// Reads the events that came, and what exists now.
    fn look(&mut self, outcome: &mut Outcome) -> Result<()> {
        while let Some(length) = self.receive_event(outcome)? {
            for message in Messages::new(&self.buffer[..length]) {
                let (command, attributes) = message?.generic()?;
                let input = wire::decode_event(command, attributes)?;
                ensure!(input.is_some(), "event {command}");
                outcome.events.0 += 1;
            }
        }
        let connections = self.client.connections()?;
        let World {
            victims,
            bystanders,
            ports,
            ..
        } = &mut self.world;
        for token in &*bystanders {
            let there = connections.iter().any(|c| c.token.0 == *token);
            ensure!(there, "bystander {token:08x} is gone");
        }
        let other = connections
            .iter()
            .filter(|c| !bystanders.contains(&c.token.0));
        *victims = other
            .map(|c| (c.token.0, c.subflows.iter().map(|s| s.id.0).collect()))
            .collect();
        let subflows = connections.iter().flat_map(|c| &c.subflows);
        *ports = subflows
            .flat_map(|s| [s.local_port, s.remote_port])
            .take(64)
            .collect();
        Ok(())
    }

    fn receive_event(&mut self, outcome: &mut Outcome) -> Result<Option<usize>> {
        loop {
            match receive(&self.events, &mut self.buffer)? {
                Received::Bytes(length) => return Ok(Some(length)),
                Received::Overrun => outcome.events.1 += 1,
                Received::Nothing => return Ok(None),
            }
        }
    }

    /// Sends some messages in one datagram, and judges the answers.
    fn send(&mut self, outcome: &mut Outcome) -> Result<()> {
        if self.generator.up_to(99) == 0 {
            let torn = self.generator.torn(&self.world);
            self.socket.send(&torn, Msg::empty())?;
            outcome.torn += 1;
            while let Received::Bytes(_) = receive(&self.socket, &mut self.buffer)? {}
        }
        let count = 1 + self.generator.up_to(TOGETHER - 1);
        let mut datagram = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..count {
            self.seq = self.seq.wrapping_add(1);
            let message = self.generator.message(&self.world, self.seq);
            datagram.extend_from_slice(&message.bytes);
            datagram.resize(datagram.len().next_multiple_of(4), 0);
            sent.push((self.seq, message));
        }
        self.socket.send(&datagram, Msg::empty())?;
        let mut answers = BTreeMap::new();
        for (seq, message) in sent {
            while !answers.contains_key(&seq) {
                self.answers(&mut answers)
                    .with_context(|| format!("{seq} {message:?}"))?;
            }
            let errno = answers[&seq];
            judge(&message, errno)?;
            outcome.sent += 1;
            *outcome.answers.entry((message.command, errno)).or_default() += 1;
        }
        Ok(())
    }

    /// Receives one datagram of answers; by sequence number, those that it ends. A dump goes
    /// on while what came after it has been answered.
    fn answers(&mut self, ends: &mut BTreeMap<u32, Errno>) -> Result<()> {
        let Received::Bytes(length) = receive(&self.socket, &mut self.buffer)? else {
            bail!("no answer");
        };
        for message in Messages::new(&self.buffer[..length]) {
            let message = message?;
            let errno = match message.kind {
                ERROR => Errno(message.error()?.0),
                DONE => Errno(message.dump_error()),
                _ => {
                    message.generic()?;
                    continue;
                }
            };
            let before = ends.insert(message.seq, errno);
            ensure!(before.is_none(), "two answers to {}", message.seq);
        }
        Ok(())
    }
}

fn judge(message: &Fuzzed, errno: Errno) -> Result<()> {
    let right = match message.expected {
        Expected::Success => errno == Errno(0),
        Expected::Refusal => errno != Errno(0),
        Expected::Any => true,
    };
    ensure!(
        right,
        "{}: answered with {errno}: {message:?}",
        COMMANDS[message.command].name
    );
    // Never one of the kernel's own, which user space does not know.
    ensure!(errno.0 < 512, "answered with {errno}: {message:?}");
    Ok(())
}

enum Received {
    Bytes(usize),
    Overrun,
    Nothing,
}

fn receive(socket: &NlSocket, buffer: &mut [u8]) -> Result<Received> {
    const ENOBUFS: i32 = Errno::ENOBUFS.0 as i32;
    match socket.recv(&mut *buffer, Msg::TRUNC | Msg::DONTWAIT) {
        Ok((length, _)) if length <= buffer.len() => Ok(Received::Bytes(length)),
        Ok((length, _)) => bail!("an answer of {length} bytes"),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
        Err(error) if error.raw_os_error() == Some(ENOBUFS) => Ok(Received::Overrun),
        Err(error) => Err(error).context("cannot receive"),
    }
}

fn open() -> Result<NlSocket> {
    let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
    socket.enable_ext_ack(true)?;
    Ok(socket)
}

/// Addresses of the topology, and some that no host has.
fn addresses() -> Vec<IpAddr> {
    let paths = [Path::First, Path::Second];
    let clients = Family::BOTH.map(|family| paths.map(|path| path.client(family)));
    let servers = Family::BOTH.map(server);
    let odd = [
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "10.0.1.255",
        "192.0.2.1",
        "169.254.1.1",
        "::",
        "::1",
        "ff02::1",
        "fe80::1",
        "::ffff:10.0.3.2",
        "2001:db8::1",
    ];
    let odd = odd.iter().filter_map(|text| text.parse().ok());
    clients
        .into_iter()
        .flatten()
        .chain(servers)
        .chain(odd)
        .collect()
}
