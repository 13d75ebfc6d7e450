// SPDX-License-Identifier: GPL-2.0
//! The simulated kernel as the engine sees it.

use std::net::IpAddr;
use std::time::Duration;

use super::{Outcome, Sim};
use crate::address::LocalAddress;
use crate::backend::{Backend, Input};
use crate::command::{Command, SubflowCreate, SubflowDestroy};
use crate::error::{Errno, Error};
use crate::event::{AddressId, EventSet, SubflowId, Token};
use crate::message::{Address, Connection, Subflow, TcpState};

impl Backend for Sim {
    fn now(&self) -> Duration {
        self.now
    }

    fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        self.listening = events.iter().fold(self.listening, EventSet::with);
        Ok(())
    }

    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error> {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                return Ok(input);
            }
            if self.lost && !self.losing {
                self.lost = false;
                return Ok(Input::Lost);
            }
            let next = self.script.first_key_value().map(|(&(time, _), _)| time);
            let scripted = next.is_some_and(|next| until.is_none_or(|until| next <= until));
            let time = if scripted { next } else { until };
            match time {
                Some(time) if time <= self.end => self.now = self.now.max(time),
                _ => {
                    self.now = self.end;
                    return Ok(Input::Stop);
                }
            }
            match self.script.pop_first() {
                Some((_, action)) if scripted => action(self),
                unscripted => {
                    self.script.extend(unscripted);
                    return Ok(Input::Time);
                }
            }
        }
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        self.listings += 1;
        Ok(self.connections.values().cloned().collect())
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        let found = self.connections.get(&token);
        let found = found.map(|connection| self.transfer.fill(connection.clone()));
        found.ok_or_else(|| refused(&Command::Connection(token), Errno::ESRCH))
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        self.inputs
            .retain(|input| !matches!(input, Input::Address(_)));
        Ok(self.addresses.clone())
    }

    fn subflow_create(&mut self, token: Token, create: &SubflowCreate) -> Result<Subflow, Error> {
        let command = Command::SubflowCreate(token, *create);
        self.commands.push((self.now, command));
        let refused = |errno| refused(&command, errno);
        if let Some(errno) = self.refusal(token, create) {
            return Err(refused(errno));
        }
        let id = self.next_id();
        let local = create
            .local_address()
            .or(self.addresses.first().map(|a| a.address));
        let local = local.ok_or(refused(Errno::EADDRNOTAVAIL))?;
        match self.paths.get(&local).copied() {
            Some(Outcome::Refused(errno)) => return Err(refused(errno)),
            Some(Outcome::Fails(errno, after)) => {
                self.at(self.now + after, move |sim| {
                    sim.remove(token, id, errno);
                });
            }
            Some(Outcome::Joins(after)) => self.at(self.now + after, move |s| s.join(token, id)),
            None if self.lost_on(local) => self.syn_lost(token, id, 0),
            None => {
                self.at(self.now + Duration::from_millis(10), move |sim| {
                    sim.join(token, id)
                });
            }
        }
        let subflow = Subflow {
            id,
            local_address: local,
            local_port: create.port().unwrap_or(40000 + (id.0 % 20000) as u16),
            remote_address: create.remote().ip(),
            remote_port: create.remote().port(),
            remote_id: create.remote_address_id().unwrap_or_default(),
            backup: create.is_backup(),
            active: true,
            state: Some(TcpState::SYN_SENT),
            ..Subflow::default()
        };
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.subflows.push(subflow);
        }
        Ok(subflow)
    }

    fn subflow_destroy(&mut self, token: Token, destroy: &SubflowDestroy) -> Result<(), Error> {
        let command = Command::SubflowDestroy(token, *destroy);
        self.commands.push((self.now, command));
        let connection = self.connections.get(&token);
        let subflows = connection.map_or(&[][..], |c| &c.subflows);
        let Some(found) = subflows.iter().find(|s| destroy.is(s)).copied() else {
            return Err(refused(&command, Errno::ESRCH));
        };
        let joined = |s: &&Subflow| s.state == Some(TcpState::ESTABLISHED);
        let left = subflows.iter().filter(joined).any(|s| s.id != found.id);
        if joined(&&found) && !left && self.is_quiet() {
            self.cut_off += 1;
        }
        self.remove(token, found.id, Errno(0));
        Ok(())
    }

    fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error> {
        let command = Command::SubflowSet(token, id, backup);
        self.commands.push((self.now, command));
        let connection = self.connections.get_mut(&token);
        let found = connection.and_then(|c| c.subflows.iter_mut().find(|s| s.id == id));
        match found {
            Some(subflow) => {
                subflow.backup = backup;
                Ok(())
            }
            None => Err(refused(&command, Errno::ESRCH)),
        }
    }

    fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        let command = Command::Announce(token, address, port);
        self.commands.push((self.now, command));
        if !self.connections.contains_key(&token) {
            return Err(refused(&command, Errno::ESRCH));
        }
        if !self.established.contains(&token) {
            return Err(refused(&command, Errno::ENOTCONN));
        }
        // An ID per address, of the host instead of the connection: simpler, and as unique.
        let known = self.announced.iter().position(|&a| a == address);
        let at = known.unwrap_or_else(|| {
            self.announced.push(address);
            self.announced.len() - 1
        });
        let id = u8::try_from(at + 1).map_err(|_| refused(&command, Errno::ENOSPC))?;
        Ok(Address {
            id: AddressId(id),
            address,
            port,
        })
    }

    fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error> {
        let command = Command::Withdraw(token, *address);
        self.commands.push((self.now, command));
        match self.connections.contains_key(&token) {
            true => Ok(()),
            false => Err(refused(&command, Errno::ESRCH)),
        }
    }
}

fn refused(command: &Command, errno: Errno) -> Error {
    Error::Refused {
        command: command.name(),
        errno,
        message: None,
    }
}
