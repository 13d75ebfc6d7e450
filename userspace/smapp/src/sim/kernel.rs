// SPDX-License-Identifier: GPL-2.0
//! The simulated kernel as the engine sees it.

use std::net::IpAddr;
use std::time::Duration;

use super::{Outcome, Sim};
use crate::kernel::{Capabilities, Error, Input, Kernel};
use crate::model::{
    Address, AddressId, Answer, Command, Connection, Errno, EventSet, IfIndex, LocalAddress,
    RouteQuery, Subflow, SubflowCreate, SubflowDestroy, SubflowId, TcpState, Token,
};

impl Kernel for Sim {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all("simulated")
    }

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
            if self.lost && !self.losing && self.now >= self.told_at {
                self.lost = false;
                self.lost_told = Some(self.now);
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
        found.ok_or_else(|| refused("conn-get", Errno::ESRCH))
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        Ok(self.addresses.clone())
    }

    fn watch_routes(&mut self) -> Result<(), Error> {
        self.watches_routes = true;
        Ok(())
    }

    /// An address leads out of the first interface that has it and a route; if none has,
    /// by the default route, over the first interface of the host that has one.
    fn route(&mut self, query: &RouteQuery) -> Result<IfIndex, Error> {
        let exit = query.from.and_then(|from| self.exits.get(&from));
        if let (Some(&exit), None) = (exit, query.bound) {
            return Ok(exit);
        }
        let routed = |a: &&LocalAddress| {
            !self.unrouted.contains(&(a.address, a.ifindex))
                && a.address.is_ipv4() == query.to.is_ipv4()
        };
        let mut own = self
            .addresses
            .iter()
            .filter(|a| Some(a.address) == query.from);
        let found = match query.bound {
            Some(bound) => own.find(|a| a.ifindex == bound && routed(a)),
            None => own
                .find(routed)
                .or_else(|| self.addresses.iter().find(routed)),
        };
        let found = found.map(|a| a.ifindex);
        found.ok_or_else(|| refused("route", Errno::ENETUNREACH))
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        self.commands.push((self.now, *command));
        let answer = match command {
            Command::SubflowCreate(token, create) => {
                self.create(*token, create).map(Answer::Subflow)
            }
            Command::SubflowDestroy(token, destroy) => self.destroy(*token, destroy),
            Command::SubflowSet(token, id, backup) => self.set_backup(*token, *id, *backup),
            Command::Announce(token, address, port) => {
                self.announce(*token, *address, *port).map(Answer::Address)
            }
            Command::Withdraw(token, _) => self.known(*token).map(|_| Answer::Done),
        };
        answer.map_err(|errno| refused(command.name(), errno))
    }
}

impl Sim {
    fn known(&self, token: Token) -> Result<&Connection, Errno> {
        self.connections.get(&token).ok_or(Errno::ESRCH)
    }

    fn create(&mut self, token: Token, create: &SubflowCreate) -> Result<Subflow, Errno> {
        if let Some(errno) = self.refusal(token, create) {
            return Err(errno);
        }
        let id = self.next_id();
        let first = self.addresses.first().map(|a| a.address);
        let local = create.local_address.or(first).ok_or(Errno::EADDRNOTAVAIL)?;
        match self.paths.get(&local).copied() {
            Some(Outcome::Refused(errno)) => return Err(errno),
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
            local_id: self.local_id(token, local),
            local_port: create.local_port.unwrap_or(40000 + (id.0 % 20000) as u16),
            remote_address: create.remote.ip(),
            remote_port: create.remote.port(),
            remote_id: create.remote_id.unwrap_or_default(),
            ifindex: create.ifindex,
            backup: create.backup,
            active: true,
            state: Some(TcpState::SYN_SENT),
            ..Subflow::default()
        };
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.subflows.push(subflow);
        }
        self.ends.remove(&token);
        Ok(subflow)
    }

    fn destroy(&mut self, token: Token, destroy: &SubflowDestroy) -> Result<Answer, Errno> {
        let subflows = &self.known(token)?.subflows;
        let found = subflows.iter().find(|s| destroy.is(s)).copied();
        let found = found.ok_or(Errno::ESRCH)?;
        let joined = subflows.iter().filter(|s| s.has_joined());
        let left = joined.into_iter().any(|s| s.id != found.id);
        if found.has_joined() && !left && self.is_quiet() {
            self.cut_off += 1;
        }
        self.remove(token, found.id, Errno(0));
        Ok(Answer::Done)
    }

    fn set_backup(&mut self, token: Token, id: SubflowId, backup: bool) -> Result<Answer, Errno> {
        let connection = self.connections.get_mut(&token);
        let found = connection.and_then(|c| c.subflows.iter_mut().find(|s| s.id == id));
        found.ok_or(Errno::ESRCH)?.backup = backup;
        Ok(Answer::Done)
    }

    fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Errno> {
        self.known(token)?;
        if !self.established.contains(&token) {
            return Err(Errno::ENOTCONN);
        }
        let id = self.local_id(token, address);
        Ok(Address { id, address, port })
    }

    /// The ID of a local address: 0 for that of the initial subflow. It is one of the host
    /// instead of the connection, and given again after 255 others: simpler.
    fn local_id(&mut self, token: Token, address: IpAddr) -> AddressId {
        if self.initial.get(&token) == Some(&address) {
            return AddressId(0);
        }
        let known = self.announced.iter().position(|&a| a == address);
        let at = known.unwrap_or_else(|| {
            self.announced.push(address);
            self.announced.len() - 1
        });
        AddressId((at % 255) as u8 + 1)
    }
}

fn refused(command: &'static str, errno: Errno) -> Error {
    Error::Refused {
        command,
        errno,
        message: None,
    }
}
