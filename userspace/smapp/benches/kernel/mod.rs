// SPDX-License-Identifier: GPL-2.0
//! A kernel that does nothing, and the events that make each policy act.
#![allow(dead_code)] // each benchmark uses a part

use std::cell::Cell;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use smapp::policy::PolicyOptions;
use smapp::sim::Sim;
use smapp::wire::uapi::{VERSION, cmd, connection, subflow};
use smapp::wire::{Messages, Query, Request, decode_event, encode_command};
use smapp::{
    Answer, Capabilities, Command, Connection, Error, Event, EventSet, IfIndex, Input,
    InterfaceName, Kernel, LocalAddress, RouteQuery, Subflow, SubflowId, TcpState, Token,
};

/// Number of the family.
const FAMILY: u16 = 32;
pub const TOKEN: Token = Token(0x1a2b_3c4d);

/// A kernel that writes down the bytes of a command and has it succeed.
#[derive(Default)]
pub struct Writes {
    request: Vec<u8>,
    silent: bool,
    next: u32,
    /// When it was first asked to change something.
    pub commanded: Cell<Option<Instant>>,
    /// What it answers when it is asked for a connection.
    pub asked: Connection,
}

impl Writes {
    /// One in which commands succeed, and no bytes are written.
    pub fn nothing() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    fn write(&mut self, command: &Command) {
        if !self.silent {
            encode(command, &mut self.request);
        }
    }
}

/// Writes the bytes of a command, as the client does.
pub fn encode(command: &Command, request: &mut Vec<u8>) {
    black_box(encode_command(command, request, FAMILY, 1));
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Kernel for Writes {
    fn capabilities(&self) -> Capabilities {
        Sim::new(Duration::ZERO).capabilities()
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn listen(&mut self, _: EventSet) -> Result<(), Error> {
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> Result<Input, Error> {
        Ok(Input::Stop)
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        Ok(Vec::new())
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        if !self.silent {
            black_box(Query::Connection(token).encode(&mut self.request, FAMILY, 1));
        }
        Ok(self.asked.clone())
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        let local = |text: &str, ifindex| LocalAddress {
            address: address(text),
            ifindex: IfIndex(ifindex),
            interface: InterfaceName::default(),
            deprecated: false,
        };
        Ok(vec![local("10.0.1.1", 2), local("10.0.2.1", 3)])
    }

    fn watch_routes(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn route(&mut self, query: &RouteQuery) -> Result<IfIndex, Error> {
        let addresses = self.addresses()?;
        let from = addresses.iter().find(|a| Some(a.address) == query.from);
        from.map(|a| a.ifindex).ok_or(Error::NoAnswer("route"))
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        self.write(command);
        let first = self.commanded.get().unwrap_or_else(Instant::now);
        self.commanded.set(Some(first));
        let Command::SubflowCreate(_, create) = command else {
            return Ok(Answer::Done);
        };
        self.next += 1;
        let mut subflow = Subflow::default();
        subflow.id = SubflowId(100 + self.next);
        subflow.local_address = create.local_address.unwrap_or(address("10.0.1.1"));
        subflow.remote_address = create.remote.ip();
        subflow.remote_port = create.remote.port();
        subflow.active = true;
        Ok(Answer::Subflow(subflow))
    }
}

/// The bytes of an event about a subflow from 10.0.1.1 to a server, or of one that a
/// client has opened to this host.
fn event(command: u8, token: Token, id: u32, server_side: bool, rto: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Request::generic(&mut bytes, FAMILY, 0, 0, command, VERSION)
        .u32(connection::TOKEN, token.0)
        .flag(connection::SERVER_SIDE, server_side)
        .nest(connection::SUBFLOW, |r| {
            let r = r
                .u32(subflow::ID, id)
                .address(subflow::LOCAL_ADDRESS, address("10.0.1.1"))
                .port(subflow::LOCAL_PORT, 43210)
                .address(subflow::REMOTE_ADDRESS, address("10.0.3.1"))
                .port(subflow::REMOTE_PORT, 80 + id as u16)
                .flag(subflow::INITIAL, id == 1)
                .flag(subflow::ACTIVE, !server_side);
            match rto {
                Some(rto) => r.u32(subflow::RTO, rto),
                None => r,
            }
        })
        .finish();
    bytes
}

/// The bytes of `estab` of a connection that this host has opened.
pub fn established(token: Token) -> Vec<u8> {
    event(cmd::ESTAB, token, 1, false, None)
}

/// The bytes of `sub_estab` of one of its further subflows.
pub fn subflow_established(token: Token, id: u32) -> Vec<u8> {
    event(cmd::SUB_ESTAB, token, id, false, None)
}

/// What the engine makes of the bytes of an event.
pub fn decode(bytes: &[u8]) -> Event {
    let message = Messages::new(bytes).next().expect("a message");
    let (command, attributes) = message.and_then(|m| m.generic()).expect("a good message");
    match decode_event(command, attributes).expect("a good event") {
        Some(Input::Event(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// A policy, what happens first, and the bytes of the event that it answers by a command.
pub struct Case {
    pub name: &'static str,
    pub policy: PolicyOptions,
    pub before: Vec<Event>,
    pub trigger: Vec<u8>,
    pub asked: Connection,
}

fn policy(word: &str) -> PolicyOptions {
    serde_json::from_str(&format!(r#"{{"{word}": {{}}}}"#)).expect("the word of a policy")
}

/// One for each policy.
pub fn cases() -> Vec<Case> {
    let at_estab = |name| Case {
        name,
        policy: policy(name),
        before: Vec::new(),
        trigger: established(TOKEN),
        asked: Connection::default(),
    };
    // All that it knows of is a subflow with an RTO of two seconds.
    let at_timeout = |name| Case {
        before: vec![decode(&established(TOKEN))],
        trigger: event(cmd::TIMEOUT, TOKEN, 1, false, Some(2_000_000)),
        asked: {
            let mut connection = Connection::default();
            connection.token = TOKEN;
            connection.subflows = vec![{
                let mut subflow = Subflow::default();
                subflow.id = SubflowId(1);
                subflow.rto = Some(2_000_000);
                subflow.state = Some(TcpState::ESTABLISHED);
                subflow
            }];
            connection
        },
        ..at_estab(name)
    };
    let joins = |id| event(cmd::SUB_ESTAB, TOKEN, id, true, None);
    let limit = Case {
        before: vec![
            decode(&event(cmd::ESTAB, TOKEN, 1, true, None)),
            decode(&joins(2)),
        ],
        trigger: joins(3),
        ..at_estab("limit")
    };
    vec![
        at_estab("fullmesh"),
        at_timeout("backup"),
        at_timeout("streaming"),
        at_estab("refresh"),
        at_estab("ndiffports"),
        limit,
    ]
}
