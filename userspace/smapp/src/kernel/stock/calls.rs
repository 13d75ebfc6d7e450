// SPDX-License-Identifier: GPL-2.0
//! Calls to the kernel: a request and its answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use neli::consts::socket::NlFamily;

use super::refusal;
use super::wire::command::{Command, Local};
use super::wire::diag::{ConnectionSocket, FAMILIES, Question, SubflowSocket};
use super::wire::ends::Ends;
use super::wire::family::Family;
use crate::kernel::Error;
use crate::model::{Errno, IfIndex, Token};
use crate::netlink::{Malformed, Message, Socket};

/// The sockets for calls, and the numbers of the family.
pub(super) struct Calls {
    pub family: Family,
    generic: Socket,
    diag: Socket,
    request: Vec<u8>,
    seq: u32,
}

impl Calls {
    /// Opens them in the current network namespace; none if the kernel has no such family.
    pub fn open() -> Result<Option<Self>, Error> {
        const NAME: &str = "look-up of the family mptcp_pm";
        let mut generic = Socket::open(NlFamily::Generic)?;
        let mut request = Vec::with_capacity(256);
        let mut family = None;
        let answer = generic.call(NAME, 1, Family::request(&mut request, 1), |message| {
            family = Some(Family::decode(message.generic()?.1)?);
            Ok(())
        });
        match answer.map_err(Error::from) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            result => result?,
        }
        Ok(Some(Self {
            family: family.ok_or(Error::NoAnswer(NAME))?,
            generic,
            diag: Socket::open(NlFamily::SockOrInetDiag)?,
            request,
            seq: 1,
        }))
    }

    /// Carries out a command about a connection.
    pub fn command(&mut self, token: Token, command: &Command) -> Result<(), Error> {
        self.seq = self.seq.wrapping_add(1);
        let request = command.encode(&mut self.request, self.family.id, self.seq, token);
        let answer = self
            .generic
            .call(command.name(), self.seq, request, |_| Ok(()));
        Ok(answer?)
    }

    /// Lists the ids of the local addresses of a connection. Some kernels list the endpoints
    /// of the other path manager instead.
    pub fn local_addresses(&mut self, token: Token) -> Result<Vec<Local>, Error> {
        let command = Command::Addresses;
        self.seq = self.seq.wrapping_add(1);
        let request = command.encode(&mut self.request, self.family.id, self.seq, token);
        let mut listed = Vec::new();
        self.generic
            .call(command.name(), self.seq, request, |message| {
                listed.push(Local::decode(message.generic()?.1)?);
                Ok(())
            })?;
        Ok(listed)
    }

    /// Whether the path manager in user space has the connection: it looks for a subflow
    /// that nobody has. A connection that is over by now had it as far as this is known.
    pub fn is_managed(&mut self, token: Token) -> Result<bool, Error> {
        const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1);
        let nowhere = Ends {
            local: NOBODY,
            remote: NOBODY,
            mapped: false,
        };
        match self.command(token, &Command::Destroy(nowhere)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(true),
            Err(error) if refusal::is_other_path_manager(&error) => Ok(false),
            Err(error) if refusal::is_unknown_token(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// One connection; none if there is none with this token.
    pub fn connection(&mut self, token: Token) -> Result<Option<ConnectionSocket>, Error> {
        let mut found = None;
        let question = Question::Connection(token);
        let answer = self.ask(question, ConnectionSocket::decode, |s| found = Some(s));
        found_or_none(answer).map(|()| found)
    }

    /// All connections.
    pub fn connections(&mut self) -> Result<Vec<ConnectionSocket>, Error> {
        let mut sockets = Vec::new();
        for family in FAMILIES {
            let question = Question::Connections { family };
            self.ask(question, ConnectionSocket::decode, |s| sockets.push(s))?;
        }
        Ok(sockets)
    }

    /// One TCP socket; none if there is none with these ends.
    pub fn subflow(
        &mut self,
        ends: Ends,
        ifindex: Option<IfIndex>,
    ) -> Result<Option<SubflowSocket>, Error> {
        let mut found = None;
        let question = Question::Subflow(ends, ifindex);
        let answer = self.ask(question, SubflowSocket::decode, |s| found = Some(s));
        found_or_none(answer).map(|()| found)
    }

    /// All live subflows by their connections, with what they know.
    pub fn subflows(&mut self) -> Result<BTreeMap<Token, Vec<SubflowSocket>>, Error> {
        let mut subflows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for family in FAMILIES {
            let question = Question::Subflows { family, info: true };
            self.ask(question, SubflowSocket::decode, |socket| {
                if let (Some(ulp), true) = (socket.subflow, socket.is_live()) {
                    subflows.entry(ulp.token).or_default().push(socket);
                }
            })?;
        }
        Ok(subflows)
    }

    /// All TCP sockets, without what they know: that is cheap.
    pub fn tcp_sockets(&mut self) -> Result<Vec<SubflowSocket>, Error> {
        let mut sockets = Vec::new();
        for family in FAMILIES {
            let info = false;
            let question = Question::Subflows { family, info };
            self.ask(question, SubflowSocket::decode, |s| sockets.push(s))?;
        }
        Ok(sockets)
    }

    /// The subflows of a connection whose SYN is not answered.
    pub fn connecting(&mut self, token: Token) -> Result<Vec<SubflowSocket>, Error> {
        let mut sockets = Vec::new();
        for family in FAMILIES {
            let question = Question::Connecting { family };
            self.ask(question, SubflowSocket::decode, |socket| {
                let ours = socket.subflow.is_some_and(|ulp| ulp.token == token);
                sockets.extend(ours.then_some(socket));
            })?;
        }
        Ok(sockets)
    }

    /// Resets a subflow.
    pub fn reset(&mut self, ends: Ends, ifindex: Option<IfIndex>) -> Result<(), Error> {
        self.ask(Question::Reset(ends, ifindex), SubflowSocket::decode, drop)
    }

    fn ask<T>(
        &mut self,
        question: Question,
        decode: fn(&[u8]) -> Result<T, Malformed>,
        mut each: impl FnMut(T),
    ) -> Result<(), Error> {
        self.seq = self.seq.wrapping_add(1);
        let request = question.encode(&mut self.request, self.seq);
        let take = |message: Message<'_>| {
            each(decode(message.payload)?);
            Ok(())
        };
        Ok(self.diag.call(question.name(), self.seq, request, take)?)
    }
}

/// There may be no such socket.
fn found_or_none(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        result => result,
    }
}
