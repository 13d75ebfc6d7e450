// SPDX-License-Identifier: GPL-2.0
//! What a kernel interface has to do; [`Client`](super::Client) does the waiting.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::{Capabilities, Error, Input};
use crate::model::{Answer, Command, Connection, EventSet, Statistics, Token};

/// An interface of the running kernel for path management.
pub(crate) trait Interface: Send {
    /// What it can do here.
    fn capabilities(&self) -> Capabilities;

    /// Registers for events in addition to those registered for already. Gives the
    /// descriptors to poll from now on, besides those that it gave before.
    fn listen(&mut self, events: EventSet) -> Result<Vec<RawFd>, Error>;

    /// Reads once from its descriptors and adds what that gives to `inputs`; false if there
    /// was nothing left to read. Never waits.
    fn receive(&mut self, inputs: &mut VecDeque<Input>) -> Result<bool, Error>;

    /// Lists all connections.
    fn connections(&mut self) -> Result<Vec<Connection>, Error>;

    /// Asks for one connection.
    fn connection(&mut self, token: Token) -> Result<Connection, Error>;

    /// Carries out a command.
    fn command(&mut self, command: &Command) -> Result<Answer, Error>;

    /// Carries out several commands; the answers are in their order.
    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>>;

    /// What it has counted.
    fn statistics(&mut self) -> Result<Statistics, Error>;
}
