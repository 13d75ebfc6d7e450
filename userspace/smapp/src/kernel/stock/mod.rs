// SPDX-License-Identifier: GPL-2.0
//! The interface of an unmodified kernel: the family `mptcp_pm`, `sock_diag`, rtnetlink,
//! and BPF programs where they are allowed.
//!
//! Design decisions: `mptcp_pm` names subflows by their ends, so their numbers, and which
//! are known at all, are kept here. What its events leave out is asked of `sock_diag`; what
//! they never tell the BPF programs do, or a listing of everything every 30 s. What
//! cannot be found out is `None`.

mod addresses;
mod bpf;
mod calls;
mod capabilities;
mod connections;
mod inputs;
mod orders;
mod poller;
mod refusal;
mod state;
mod subflows;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use neli::consts::socket::NlFamily;

use self::bpf::{Programs, Timeouts};
use self::wire::diag::SubflowSocket;
use super::interface::Interface;
use super::{Capabilities, Error, Input, SubflowIds};
use crate::model::{
    Answer, Command, Connection, Errno, EventKind, EventSet, Statistics, Token, What,
};
use crate::netlink::Socket;

pub(crate) use state::Stock;

impl Interface for Stock {
    fn capabilities(&self) -> Capabilities {
        let programs = self.programs.as_ref();
        let refusals = self.refusals.as_ref();
        let tried = refusals.map(|_| {
            programs.map_or((Timeouts::Nowhere, false), |programs| {
                (programs.timeouts, programs.ends)
            })
        });
        Capabilities {
            interface: wire::family::NAME,
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
        // The client watches the local addresses itself.
        let local = [EventKind::NewLocalAddress, EventKind::DelLocalAddress];
        let others = events.iter().any(|kind| !local.contains(&kind));
        if self.events.is_none() && others {
            let socket = Socket::open(NlFamily::Generic)?;
            socket.join(&[self.calls.family.events])?;
            descriptors.push(socket.as_raw_fd());
            self.events = Some(socket);
            let (programs, refusals) = Programs::load();
            for bpf::Refusal { program, reason } in &refusals {
                log::info!("BPF program {program} not used: {reason}");
            }
            descriptors.extend(programs.as_ref().map(AsRawFd::as_raw_fd));
            self.programs = programs;
            self.refusals = Some(refusals);
            descriptors.push(self.timer.as_fd().as_raw_fd());
            self.list_later();
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
            let socket = self.calls.subflow(entry.ends, entry.ifindex)?;
            if let Some(socket) = socket.filter(SubflowSocket::is_live) {
                subflows.push(entry.subflow_now(&socket));
            }
        }
        let connection = known.connection(&socket, subflows);
        self.arm()?;
        Ok(connection)
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        let mut answers = self.commands(std::slice::from_ref(command));
        answers
            .pop()
            .unwrap_or(Err(Error::NoAnswer(command.name())))
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
            match known.and_then(|known| known.subflows.get(subflow.id)) {
                Some(entry) => *subflow = entry.subflow(),
                // It has ended already.
                None => {
                    let id = subflow.id;
                    let closed = self.queue.iter().find_map(|input| match input {
                        Input::Event(event) if event.token == token => match event.what {
                            What::SubflowClosed(closed) if closed.id == id => Some(closed),
                            _ => None,
                        },
                        _ => None,
                    });
                    *subflow = closed.unwrap_or(*subflow);
                }
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
