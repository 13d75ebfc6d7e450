// SPDX-License-Identifier: GPL-2.0
//! Commands of the model, carried out by those of the kernel.

use std::net::IpAddr;

use super::refusal::{self, refused};
use super::state::Stock;
use super::subflows::Entry;
use super::wire::command::{self, Create, Local};
use super::wire::ends::Ends;
use crate::kernel::Error;
use crate::model::{
    Address, Answer, Command, Errno, Subflow, SubflowCreate, SubflowDestroy, TcpState, Token,
    WhichSubflow,
};

const EAFNOSUPPORT: Errno = Errno(97);

/// How many ids are tried for an address.
const ID_TRIES: usize = 16;

impl Stock {
    /// Carries out a command. The answer has the local port only if that is known.
    pub(super) fn carry_out(&mut self, command: &Command) -> Result<Answer, Error> {
        let token = command.token();
        self.know(token)?;
        if self.connections.get(token).is_none() {
            return Err(refusal::no_connection(command));
        }
        let result = match command {
            Command::SubflowCreate(_, create) => self.create(command, create).map(Answer::Subflow),
            Command::SubflowDestroy(_, destroy) => {
                self.destroy(command, destroy).map(|()| Answer::Done)
            }
            Command::SubflowSet(_, id, backup) => {
                let which = WhichSubflow::Id(*id);
                let result = self.entry(command, which).and_then(|entry| {
                    if entry.joined.is_none() {
                        let text = "subflow: it has not joined";
                        return Err(refused(command, Errno::ENOTCONN, text));
                    }
                    let order = command::Command::SetBackup(entry.ends, *backup);
                    self.calls.command(token, &order)
                });
                if result.is_ok() {
                    let known = self.connections.get_mut(token);
                    if let Some(entry) = known.and_then(|k| k.subflows.get_mut(*id)) {
                        entry.backup = *backup;
                    }
                }
                result.map(|()| Answer::Done)
            }
            Command::Announce(_, address, port) => {
                self.announce(command, *address, *port).map(Answer::Address)
            }
            Command::Withdraw(_, address) => self.withdraw(command, address).map(|()| Answer::Done),
        };
        result.map_err(|error| refusal::explain(command, error))
    }

    /// The entry of a subflow, with its local port.
    fn entry(&mut self, command: &Command, which: WhichSubflow) -> Result<Entry, Error> {
        let token = command.token();
        let find = |this: &Self| {
            let mut subflows = this.connections.get(token)?.subflows.iter();
            let is = |entry: &&Entry| match which {
                WhichSubflow::Id(id) => entry.id == id,
                WhichSubflow::Ends(local, remote) => {
                    (entry.ends.local, entry.ends.remote) == (local, remote)
                }
            };
            subflows.find(is).cloned()
        };
        let entry = find(self);
        if entry.as_ref().is_none_or(|e| e.ends.local.port() == 0) {
            self.learn_ports(token)?;
        }
        find(self).ok_or_else(|| refusal::no_subflow(command))
    }

    fn create(&mut self, command: &Command, create: &SubflowCreate) -> Result<Subflow, Error> {
        let token = command.token();
        let remote = create.remote;
        if remote.ip().is_unspecified() {
            let text = "remote-address: it must be one";
            return Err(refused(command, Errno::EINVAL, text));
        }
        let local = match create.local_address {
            Some(address) if address.is_ipv4() != remote.is_ipv4() => {
                let text = "local-address: it has another family than the remote one";
                return Err(refused(command, EAFNOSUPPORT, text));
            }
            Some(address) => address,
            None => self.source(command, create)?,
        };
        let Some(known) = self.connections.get(token) else {
            return Err(refusal::no_connection(command));
        };
        // The kernel does not look: the peer would refuse it.
        if known.deny_join_id0 && known.ends.remote == remote {
            let text = "the peer refuses joins to the address of its initial subflow";
            return Err(refused(command, Errno::EACCES, text));
        }
        let port = create.local_port.unwrap_or(0);
        let sent = self.with_id(command, local, port, |calls, local| {
            let create = Create {
                local,
                remote,
                remote_id: create.remote_id,
                ifindex: create.ifindex,
                backup: create.backup,
            };
            calls.command(token, &command::Command::Create(create))
        });
        let local = match sent {
            Err(error) if error.errno() == Some(Errno::ENOTCONN) => {
                return Err(self.not_connected(command, error));
            }
            result => result?,
        };
        let told = self.tells_timeouts();
        let Some(known) = self.connections.get_mut(token) else {
            return Err(refusal::no_connection(command));
        };
        let ends = Ends {
            local: (local.address, local.port).into(),
            remote,
            mapped: false,
        };
        let entry = known.subflows.add(ends);
        entry.active = true;
        entry.local_id = local.id;
        entry.remote_id = create.remote_id.unwrap_or_default();
        entry.ifindex = create.ifindex;
        entry.backup = create.backup;
        entry.wants_backup = create.backup;
        entry.told = told;
        let subflow = entry.subflow();
        if !told {
            self.look_soon();
        }
        Ok(subflow)
    }

    /// The local address that the kernel would choose. It has to be given: left to the
    /// kernel, the id would be another than the one in the list.
    fn source(&mut self, command: &Command, create: &SubflowCreate) -> Result<IpAddr, Error> {
        let mark = self
            .connections
            .get(command.token())
            .and_then(|known| known.owner.mark);
        let route = self.route()?;
        Ok(route.source(create.remote.ip(), create.ifindex, mark)?)
    }

    /// Sends a command that needs an entry of the list of local addresses.
    fn with_id(
        &mut self,
        command: &Command,
        address: IpAddr,
        port: u16,
        mut send: impl FnMut(&mut super::calls::Calls, Local) -> Result<(), Error>,
    ) -> Result<Local, Error> {
        let token = command.token();
        for _ in 0..ID_TRIES {
            let known = self.connections.get_mut(token);
            let chosen = known.and_then(|known| known.ids.choose(address, port));
            let Some(local) = chosen else {
                let text = "local-address: all address ids are taken";
                return Err(refused(command, Errno::ENOSPC, text));
            };
            match send(&mut self.calls, local) {
                Err(error) if refusal::is_mismatch(&error) => {
                    let listed = match self.features.local_addresses {
                        true => Some(self.calls.local_addresses(token)?),
                        false => None,
                    };
                    if let Some(known) = self.connections.get_mut(token) {
                        known.ids.refused(local, listed);
                    }
                }
                Err(error) => {
                    // What the kernel has taken out of its list again is no id of an own port.
                    if port != 0 {
                        if let Some(known) = self.connections.get_mut(token) {
                            known.ids.forget(local);
                        }
                    }
                    return Err(error);
                }
                Ok(()) => return Ok(local),
            }
        }
        let text = "local-address: no address id that the kernel takes was found";
        Err(refused(command, Errno::ENOSPC, text))
    }

    /// ENOTCONN: too early, or for ever.
    fn not_connected(&mut self, command: &Command, error: Error) -> Error {
        match self.calls.connection(command.token()) {
            Ok(None) => refusal::no_connection(command),
            Ok(Some(socket)) if socket.fallback => refusal::fell_back(command),
            Ok(Some(socket)) if socket.state == TcpState::ESTABLISHED => {
                let text = "the connection is not established yet";
                refused(command, Errno::ENOTCONN, text)
            }
            Ok(Some(_)) => refusal::half_closed(command),
            Err(_) => error,
        }
    }

    fn destroy(&mut self, command: &Command, destroy: &SubflowDestroy) -> Result<(), Error> {
        let token = command.token();
        let entry = self.entry(command, destroy.which)?;
        // There it would be a shutdown of what the application uses.
        let socket = self.calls.connection(token)?;
        if socket.is_some_and(|socket| socket.fallback) {
            return Err(refusal::fell_back(command));
        }
        self.mark_destroyed(token, &entry, true);
        let result = match destroy.reset {
            true => match self.calls.reset(entry.ends, entry.ifindex) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {
                    Err(refusal::no_subflow(command))
                }
                result => result,
            },
            false => self
                .calls
                .command(token, &command::Command::Destroy(entry.ends)),
        };
        if result.is_err() {
            self.mark_destroyed(token, &entry, false);
        }
        result
    }

    fn mark_destroyed(&mut self, token: Token, entry: &Entry, destroyed: bool) {
        let known = self.connections.get_mut(token);
        if let Some(entry) = known.and_then(|known| known.subflows.get_mut(entry.id)) {
            entry.destroyed = destroyed;
        }
    }

    fn announce(
        &mut self,
        command: &Command,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        let token = command.token();
        let local = self.with_id(command, address, port.unwrap_or(0), |calls, local| {
            if local.id.0 == 0 {
                let text = "address: the peer has it already, it is that of the initial subflow";
                return Err(refused(command, Errno::EINVAL, text));
            }
            calls.command(token, &command::Command::Announce(local))
        })?;
        Ok(Address {
            id: local.id,
            address,
            port,
        })
    }

    fn withdraw(&mut self, command: &Command, address: &Address) -> Result<(), Error> {
        let token = command.token();
        let local = Local {
            address: address.address,
            port: address.port.unwrap_or(0),
            id: address.id,
        };
        let remove = command::Command::Remove(address.id);
        match self.calls.command(token, &remove) {
            // A subflow that failed at once, or was destroyed, has taken the entry along.
            Err(error) if refusal::is_unknown_id(&error) => {
                let known = self.connections.get(token);
                if known.and_then(|known| known.ids.by_id(address.id)) != Some(local) {
                    let text = "address: it is not announced";
                    return Err(refused(command, Errno::ENOENT, text));
                }
                self.calls
                    .command(token, &command::Command::Announce(local))?;
                self.calls.command(token, &remove)
            }
            result => result,
        }
    }

    /// Learns the local ports of subflows that this host has just opened.
    pub(super) fn learn_ports(&mut self, token: Token) -> Result<(), Error> {
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
        // Without events nothing else tells of those that have joined by now.
        let sockets = match self.events {
            Some(_) => self.calls.connecting(token)?,
            None => self.calls.subflows()?.remove(&token).unwrap_or_default(),
        };
        let now = self.now();
        let Some(known) = self.connections.get_mut(token) else {
            return Ok(());
        };
        for socket in &sockets {
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
}
