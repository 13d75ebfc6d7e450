// SPDX-License-Identifier: GPL-2.0
//! From the bytes of an `estab` event to the bytes of `subflow-create`: what
//! user space adds to the delay of a join, system calls left out.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use criterion::Criterion;
use smapp::command::{Command, SubflowCreate, SubflowDestroy};
use smapp::controller::fullmesh::{Fullmesh, Options};
use smapp::message::{Address, Connection, Subflow};
use smapp::netlink::{Messages, Request};
use smapp::uapi::{VERSION, cmd, connection, subflow};
use smapp::{
    Backend, Engine, Error, Event, EventSet, IfIndex, Input, InterfaceName, LocalAddress,
    SubflowId, Token,
};

const TOKEN: Token = Token(0x1a2b_3c4d);

/// A kernel that writes down the bytes of a command and has it succeed.
#[derive(Default)]
struct Writes {
    request: Vec<u8>,
    commands: usize,
}

impl Backend for Writes {
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

    fn connection(&mut self, _: Token) -> Result<Connection, Error> {
        Err(Error::NoAnswer("conn-get"))
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        let local = |address: &str, ifindex| LocalAddress {
            address: address.parse().expect("an address"),
            ifindex: IfIndex(ifindex),
            interface: InterfaceName::default(),
        };
        Ok(vec![local("10.0.1.1", 2), local("10.0.2.1", 3)])
    }

    fn subflow_create(&mut self, token: Token, create: &SubflowCreate) -> Result<Subflow, Error> {
        self.commands += 1;
        black_box(Command::SubflowCreate(token, *create).encode(&mut self.request, 32, 1));
        Ok(Subflow {
            id: SubflowId(2),
            ..Subflow::default()
        })
    }

    fn subflow_destroy(&mut self, _: Token, _: &SubflowDestroy) -> Result<(), Error> {
        Ok(())
    }

    fn subflow_set_backup(&mut self, _: Token, _: SubflowId, _: bool) -> Result<(), Error> {
        Ok(())
    }

    fn announce(&mut self, _: Token, _: IpAddr, _: Option<u16>) -> Result<Address, Error> {
        Err(Error::NoAnswer("announce"))
    }

    fn withdraw(&mut self, _: Token, _: &Address) -> Result<(), Error> {
        Ok(())
    }
}

fn event_bytes() -> Vec<u8> {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let mut bytes = Vec::new();
    Request::generic(&mut bytes, 32, 0, 0, cmd::ESTAB, VERSION)
        .u32(connection::TOKEN, TOKEN.0)
        .nest(connection::SUBFLOW, |r| {
            r.u32(subflow::ID, 1)
                .address(subflow::LOCAL_ADDRESS, address("10.0.1.1"))
                .port(subflow::LOCAL_PORT, 43210)
                .address(subflow::REMOTE_ADDRESS, address("10.0.3.1"))
                .port(subflow::REMOTE_PORT, 80)
                .attribute(subflow::INITIAL, &[])
                .attribute(subflow::ACTIVE, &[])
        })
        .finish();
    bytes
}

fn decode(bytes: &[u8]) -> Result<Event, Error> {
    let message = Messages::new(bytes).next().expect("a message")?;
    let (command, attributes) = message.generic()?;
    Ok(Event::decode(command, attributes)?.expect("a known event"))
}

fn event_to_command(criterion: &mut Criterion) {
    let bytes = event_bytes();
    let mut engine = Engine::new(Writes::default(), Fullmesh::new(Options::default(), 1));
    engine.attach().expect("no connections");
    criterion.bench_function("event_to_command", |bencher| {
        bencher.iter_custom(|rounds| {
            let before = engine.backend().commands;
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                let event = decode(black_box(&bytes)).expect("a good event");
                engine.handle(Input::Event(event)).expect("no listing");
                total += start.elapsed();
                let closed = Event::Closed {
                    token: TOKEN,
                    server_side: false,
                };
                engine.handle(Input::Event(closed)).expect("no listing");
            }
            assert_eq!(engine.backend().commands - before, rounds as usize);
            total
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    event_to_command(&mut criterion);
    criterion.final_summary();
}
