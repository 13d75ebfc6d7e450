// SPDX-License-Identifier: GPL-2.0
//! From the bytes of an `estab` event to the bytes of `subflow-create`: what
//! `smapp run fullmesh` adds to the delay of a join, system calls left out; its
//! three parts apart, and together.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use criterion::Criterion;
use smapp::command::{Command, SubflowCreate, SubflowDestroy};
use smapp::controller::Dispatch;
use smapp::controller::fullmesh::Options;
use smapp::message::{Address, Connection, Subflow};
use smapp::netlink::{Messages, Request};
use smapp::rule::Rule;
use smapp::uapi::{VERSION, cmd, connection, subflow};
use smapp::{
    Backend, Engine, Error, Event, EventSet, IfIndex, Input, InterfaceName, LocalAddress, Policy,
    SubflowId, Token,
};

const TOKEN: Token = Token(0x1a2b_3c4d);

type Daemon = Engine<Writes, Dispatch>;

/// A kernel in which every command succeeds; it may write down the bytes of each.
#[derive(Default)]
struct Writes {
    request: Option<Vec<u8>>,
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
        if let Some(request) = &mut self.request {
            black_box(encode(token, create, request));
        }
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

fn encode<'a>(token: Token, create: &SubflowCreate, request: &'a mut Vec<u8>) -> &'a [u8] {
    Command::SubflowCreate(token, *create).encode(request, 32, 1)
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

/// Times what becomes of the connection that is established; how it ends is not timed.
fn bench_daemon(
    criterion: &mut Criterion,
    name: &str,
    backend: Writes,
    establish: impl Fn() -> Event,
) {
    let rule = Rule::every("bench", Policy::Fullmesh(Options::default()));
    let mut engine = Daemon::new(backend, Dispatch::new(vec![rule], 1));
    engine.attach().expect("no connections");
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let before = engine.backend().commands;
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                engine
                    .handle(Input::Event(establish()))
                    .expect("no listing");
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
    let bytes = event_bytes();
    let decode_event = || decode(black_box(&bytes)).expect("a good event");
    criterion.bench_function("decode", |bencher| bencher.iter(decode_event));
    let event = decode_event();
    bench_daemon(&mut criterion, "dispatch", Writes::default(), || {
        black_box(event)
    });
    let create = SubflowCreate::to("10.0.3.1:80".parse().expect("an address"))
        .from("10.0.2.1".parse().expect("an address"))
        .dev(IfIndex(3));
    let mut request = Vec::new();
    criterion.bench_function("encode", |bencher| {
        bencher.iter(|| encode(TOKEN, black_box(&create), &mut request).len());
    });
    let writes = Writes {
        request: Some(Vec::new()),
        commands: 0,
    };
    bench_daemon(&mut criterion, "event_to_command", writes, decode_event);
    criterion.final_summary();
}
