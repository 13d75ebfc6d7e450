// SPDX-License-Identifier: GPL-2.0
//! The seam between the engine and the kernel, real or simulated.

use std::net::IpAddr;
use std::time::Duration;

use crate::address::{AddressChange, LocalAddress};
use crate::command::{SubflowCreate, SubflowDestroy};
use crate::error::Error;
use crate::event::{Event, EventSet, SubflowId, Token};
use crate::message::{Address, Connection, Subflow};

/// What the engine waits for.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant)] // nearly all inputs are events: no allocation for each
pub enum Input {
    /// Something happened to a connection.
    Event(Event),
    /// A local address became usable or unusable; it may be known already.
    Address(AddressChange),
    /// Events were lost. All events that came before the loss have been
    /// delivered, those to come follow it.
    Lost,
    /// The time that was waited for has come.
    Time,
    /// A descriptor of the program can be read, see
    /// [`Client::wake_on`](crate::Client::wake_on).
    Wake,
    /// The program was asked to stop.
    Stop,
}

/// A kernel.
///
/// Commands take effect before they return; what they cause comes as events.
pub trait Backend {
    /// Time since some fixed moment, never going back.
    fn now(&self) -> Duration;

    /// Registers for these events in addition to those registered for already.
    fn listen(&mut self, events: EventSet) -> Result<(), Error>;

    /// Waits for the next input, at most until the clock shows `until`.
    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error>;

    /// Lists all connections, without losing events that happen meanwhile.
    fn connections(&mut self) -> Result<Vec<Connection>, Error>;

    /// Asks for one connection, with what TCP knows of its subflows now.
    fn connection(&mut self, token: Token) -> Result<Connection, Error>;

    /// Lists the usable local addresses. Who has registered for new_local_addr
    /// and del_local_addr before misses no change.
    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error>;

    /// Opens a subflow: its SYN has been sent when this returns.
    fn subflow_create(&mut self, token: Token, subflow: &SubflowCreate) -> Result<Subflow, Error>;

    /// Opens several subflows, at once where the kernel allows it. The answers are
    /// in the order of `subflows`; a refusal is of that one alone.
    fn subflow_create_all(
        &mut self,
        token: Token,
        subflows: &[SubflowCreate],
    ) -> Vec<Result<Subflow, Error>> {
        let each = subflows.iter();
        each.map(|subflow| self.subflow_create(token, subflow))
            .collect()
    }

    /// Closes a subflow.
    fn subflow_destroy(&mut self, token: Token, subflow: &SubflowDestroy) -> Result<(), Error>;

    /// Asks the peer to use a subflow as backup only, or no longer so.
    fn subflow_set_backup(
        &mut self,
        token: Token,
        id: SubflowId,
        backup: bool,
    ) -> Result<(), Error>;

    /// Announces a local address to the peer, with a port unless it is the one
    /// of the initial subflow; tells the number that it got.
    fn announce(
        &mut self,
        token: Token,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<Address, Error>;

    /// Withdraws an address, as it was announced. Subflows stay.
    fn withdraw(&mut self, token: Token, address: &Address) -> Result<(), Error>;
}
