// SPDX-License-Identifier: GPL-2.0
//! The interface of the module `smapp_pm`: a generic netlink family of its own.
//!
//! Events and commands have a socket each: the answer to a command never waits behind
//! events, and a burst of events never costs an answer.

pub(crate) mod decode;
pub(crate) mod encode;
mod family;
mod missing;
#[allow(dead_code)] // It is generated whole, and some numbers are for the module only.
pub mod uapi;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};

use neli::consts::socket::NlFamily;

use self::decode::{
    decode_announced_address, decode_connection, decode_created_subflow, decode_event,
    decode_statistics,
};
use self::encode::{Query, encode_command};
use super::interface::Interface;
use super::{Capabilities, Error, Input};
use crate::model::{Answer, Command, Connection, Errno, EventSet, Statistics, Token};
use crate::netlink::{self, Attributes, Message, Received, Socket};

pub use family::Family;
pub use missing::{Missing, sysctl};

/// How often a listing is started again when changes interrupt it.
const DUMP_TRIES: usize = 5;

/// A connection to the module in the kernel.
pub(crate) struct Module {
    family: Family,
    commands: Socket,
    events: Option<Socket>,
    request: Vec<u8>,
    seq: u32,
    /// Events were lost, and what was queued before is not yet read.
    lost: bool,
}

impl Module {
    /// Connects in the current network namespace.
    pub fn connect() -> Result<Self, Error> {
        let mut commands = Socket::open(NlFamily::Generic)?;
        let mut request = Vec::with_capacity(256);
        let family = Family::resolve(&mut commands, &mut request)?;
        if family.version != u32::from(uapi::VERSION) {
            return Err(Error::unusable(Missing::Version(family.version)));
        }
        Ok(Self {
            family,
            commands,
            events: None,
            request,
            seq: 1,
            lost: false,
        })
    }

    /// Asks a question and hands each message of the answer to `each`.
    fn ask(
        &mut self,
        query: Query,
        mut each: impl FnMut(Attributes<'_>) -> Result<(), netlink::Malformed>,
    ) -> Result<(), Error> {
        self.seq = self.seq.wrapping_add(1);
        let request = query.encode(&mut self.request, self.family.id, self.seq);
        let take = |message: Message<'_>| Ok(each(message.generic()?.1)?);
        let answer = self.commands.call(query.name(), self.seq, request, take);
        answer.map_err(unloaded)
    }
}

/// Whether the module is there.
pub(crate) fn is_loaded() -> bool {
    let socket = Socket::open(NlFamily::Generic);
    socket.is_ok_and(|mut socket| Family::resolve(&mut socket, &mut Vec::new()).is_ok())
}

/// Reads the answer to a command.
fn answer(socket: &mut Socket, command: &Command, seq: u32) -> Result<Answer, Error> {
    let mut answer = match command {
        Command::SubflowCreate(..) | Command::Announce(..) => None,
        _ => Some(Answer::Done),
    };
    let read = socket.answer(command.name(), seq, |message| {
        let (_, attributes) = message.generic()?;
        match command {
            Command::SubflowCreate(..) => {
                answer = decode_created_subflow(attributes)?.map(Answer::Subflow);
            }
            Command::Announce(..) => {
                answer = decode_announced_address(attributes)?.map(Answer::Address);
            }
            _ => {}
        }
        Ok(())
    });
    read.map_err(unloaded)?;
    answer.ok_or(Error::NoAnswer(command.name()))
}

/// What an error says: `__netlink_dump_start()` answers a listing with EPROTONOSUPPORT
/// while the module unloads, as it can get no reference to it any more.
fn unloaded(error: netlink::Error) -> Error {
    let error = Error::from(error);
    match error.errno() {
        Some(Errno::EPROTONOSUPPORT) => Error::unusable(Missing::Unloaded),
        _ => error,
    }
}

impl Interface for Module {
    fn capabilities(&self) -> Capabilities {
        let mut all = Capabilities::all(uapi::FAMILY);
        all.version = Some(self.family.version);
        all
    }

    fn listen(&mut self, events: EventSet) -> Result<Vec<RawFd>, Error> {
        let groups: Vec<u32> = events.iter().map(|kind| self.family.group(kind)).collect();
        if let Some(socket) = &self.events {
            socket.join(&groups)?;
            return Ok(Vec::new());
        }
        let socket = Socket::open(NlFamily::Generic)?;
        socket.join(&[family::NOTIFY_GROUP])?;
        socket.join(&groups)?;
        let descriptor = socket.as_raw_fd();
        self.events = Some(socket);
        Ok(vec![descriptor])
    }

    fn receive(&mut self, inputs: &mut VecDeque<Input>) -> Result<bool, Error> {
        let Some(socket) = &mut self.events else {
            return Ok(false);
        };
        match socket.receive()? {
            Received::Datagram(messages) => {
                for message in messages {
                    let message = message.map_err(netlink::Error::from)?;
                    let (command, attributes) = message.generic().map_err(netlink::Error::from)?;
                    if message.kind != self.family.id {
                        if family::is_removal(command, attributes) {
                            return Err(Error::unusable(Missing::Unloaded));
                        }
                        continue;
                    }
                    match decode_event(command, attributes) {
                        Ok(input) => inputs.extend(input),
                        Err(error) => {
                            log::error!("event {command} ignored: {error}");
                            self.lost = true;
                        }
                    }
                }
                Ok(true)
            }
            // What was queued before the loss is still to come.
            Received::Overrun => {
                self.lost = true;
                Ok(true)
            }
            Received::Nothing => {
                if std::mem::take(&mut self.lost) {
                    inputs.push_back(Input::Lost);
                }
                Ok(false)
            }
        }
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        // A listing that is interrupted by changes may lack a connection, which another
        // listing has: together they have all that live. For those that have ended meanwhile
        // there is an event.
        let mut seen = BTreeMap::new();
        for _ in 0..DUMP_TRIES {
            let mut listed: Vec<Connection> = Vec::new();
            let take = |attributes: Attributes<'_>| {
                let next = decode_connection(attributes)?;
                match listed.last_mut() {
                    // A connection with many subflows comes in several messages.
                    Some(last) if last.token == next.token => last.subflows.extend(next.subflows),
                    _ => listed.push(next),
                }
                Ok(())
            };
            match self.ask(Query::Connections, take) {
                Err(Error::Interrupted(_)) => seen.extend(listed.into_iter().map(|c| (c.token, c))),
                result => return result.map(|()| listed),
            }
        }
        Ok(seen.into_values().collect())
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        let mut found = None;
        self.ask(Query::Connection(token), |attributes| {
            found = Some(decode_connection(attributes)?);
            Ok(())
        })?;
        found.ok_or(Error::NoAnswer("conn-get"))
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        self.seq = self.seq.wrapping_add(1);
        let request = encode_command(command, &mut self.request, self.family.id, self.seq);
        self.commands.send(request)?;
        answer(&mut self.commands, command, self.seq)
    }

    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        let mut all = Vec::new();
        let first = self.seq.wrapping_add(1);
        for (command, number) in commands.iter().zip(0..) {
            self.seq = first.wrapping_add(number);
            let request = encode_command(command, &mut self.request, self.family.id, self.seq);
            all.extend_from_slice(request);
        }
        let mut sent = match all.is_empty() {
            true => Ok(()),
            false => self.commands.send(&all),
        };
        let each = commands.iter().zip(0..);
        each.map(|(command, number)| {
            std::mem::replace(&mut sent, Ok(()))?;
            answer(&mut self.commands, command, first.wrapping_add(number))
        })
        .collect()
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        let mut found = None;
        self.ask(Query::Statistics, |attributes| {
            found = Some(decode_statistics(attributes)?);
            Ok(())
        })?;
        found.ok_or(Error::NoAnswer("stats-get"))
    }
}
