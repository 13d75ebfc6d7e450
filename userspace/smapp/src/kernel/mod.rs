// SPDX-License-Identifier: GPL-2.0
//! The seam to a kernel: what it tells, what it can be told, and what it can do at all.
//!
//! [`Kernel`] is what the engine runs on: the running kernel ([`Client`]) or a simulated
//! one ([`Sim`](crate::sim::Sim)). The running one has more than one interface for path
//! management; each is a folder here that turns its bytes into the values of the model.

#[cfg(feature = "tokio")]
mod async_events;
mod capabilities;
mod client;
mod error;
mod interface;
mod kind;
pub(crate) mod module;
pub(crate) mod route;
mod route_watch;
pub(crate) mod stock;
pub(crate) mod tcp_info;

use std::time::Duration;

use crate::model::{
    Address, AddressChange, Answer, Command, Connection, Event, EventSet, IfIndex, LocalAddress,
    RouteQuery, Subflow, SubflowCreate, SubflowDestroy, SubflowId, Token,
};

#[cfg(feature = "tokio")]
pub use async_events::AsyncEvents;
pub use capabilities::{Capabilities, Lack, SubflowIds};
pub use client::Client;
pub use error::Error;
pub use kind::KernelKind;

/// The default of `net.mptcp.close_timeout`.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the engine waits for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant)] // Nearly all are events: a box would be one more allocation.
pub enum Input {
    /// Something happened to a connection.
    Event(Event),
    /// A local address became usable or unusable; it may be known already.
    Address(AddressChange),
    /// Routes, or the rules that choose among routing tables, have changed.
    Routes,
    /// Events were lost, of connections or of addresses. It is told when nothing is left of
    /// what was queued: some of that came after the loss.
    Lost,
    /// The time that was waited for has come.
    Time,
    /// A descriptor of the program can be read, see [`Client::wake_on`].
    Wake,
    /// The program was asked to stop.
    Stop,
}

/// A kernel: it tells what happens, and carries out commands.
///
/// Commands take effect before they return; what they cause comes as events. A method fails
/// with [`Error::Refused`] where the kernel answers with an errno, with
/// [`Error::NotPermitted`] without CAP_NET_ADMIN, and with [`Error::Unusable`] once its
/// interface is gone.
pub trait Kernel {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Time since some fixed moment; it never goes back.
    fn now(&self) -> Duration;

    /// How long it keeps a connection without subflows (`net.mptcp.close_timeout`).
    fn close_timeout(&self) -> Duration {
        CLOSE_TIMEOUT
    }

    /// Registers for these events in addition to those registered for already.
    fn listen(&mut self, events: EventSet) -> Result<(), Error>;

    /// Waits for the next input, at most until the clock ([`now`](Self::now)) shows `until`.
    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error>;

    /// Lists all connections, without losing events that happen meanwhile.
    fn connections(&mut self) -> Result<Vec<Connection>, Error>;

    /// Asks for one connection, with what TCP knows of its subflows now.
    fn connection(&mut self, token: Token) -> Result<Connection, Error>;

    /// Lists the usable local addresses. Who has registered for new_local_addr
    /// and del_local_addr before misses no change.
    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error>;

    /// Has [`Input::Routes`] come when routes change.
    fn watch_routes(&mut self) -> Result<(), Error>;

    /// Tells by which interface packets leave, for all that the routing tables say; a
    /// refusal is that there is no route.
    fn route(&mut self, query: &RouteQuery) -> Result<IfIndex, Error>;

    /// Carries out a command.
    fn command(&mut self, command: &Command) -> Result<Answer, Error>;

    /// Carries out several commands, at once where the kernel allows it. The answers
    /// are in their order; a refusal is of that one alone.
    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        commands.iter().map(|one| self.command(one)).collect()
    }

    /// Opens a subflow: its SYN has been sent when this returns.
    ///
    /// A kernel refuses it with ENOTCONN before the connection is established, EOPNOTSUPP
    /// after a fallback to TCP, EACCES if the peer denies joins to the address, ENOSPC beyond
    /// 255 subflows, ESRCH if the connection is over, and with what bind(2) and connect(2)
    /// answer: EADDRNOTAVAIL, EADDRINUSE, ENETUNREACH ..
    fn subflow_create(&mut self, token: Token, subflow: &SubflowCreate) -> Result<Subflow, Error> {
        let command = Command::SubflowCreate(token, *subflow);
        match self.command(&command)? {
            Answer::Subflow(subflow) => Ok(subflow),
            _ => Err(Error::NoAnswer(command.name())),
        }
    }

    /// Closes a subflow.
    fn subflow_destroy(&mut self, token: Token, subflow: &SubflowDestroy) -> Result<(), Error> {
        self.command(&Command::SubflowDestroy(token, *subflow))
            .map(drop)
    }

    /// Asks the peer to use a subflow as backup only, or no longer so (MP_PRIO).
    fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error> {
        self.command(&Command::SubflowSet(token, id, backup))
            .map(drop)
    }

    /// Announces a local address to the peer, with a port unless it is the one
    /// of the initial subflow; tells the number that it got.
    fn announce(
        &mut self,
        token: Token,
        address: std::net::IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error> {
        let command = Command::Announce(token, address, port);
        match self.command(&command)? {
            Answer::Address(address) => Ok(address),
            _ => Err(Error::NoAnswer(command.name())),
        }
    }

    /// Withdraws an address, as it was announced. Subflows stay.
    fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error> {
        self.command(&Command::Withdraw(token, *address)).map(drop)
    }
}
