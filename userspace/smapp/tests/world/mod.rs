// SPDX-License-Identifier: GPL-2.0
//! The simulated world of the policies' tests: a client with the addresses WIFI
//! and LTE, and a connection from WIFI to SERVER that is established at 0.1 s.
//! Times are virtual seconds.
#![allow(dead_code)] // each test binary uses a part

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smapp::sim::Sim;
use smapp::{
    Command, Connection, Engine, IfIndex, InterfaceName, LocalAddress, Policy, Subflow, SubflowId,
    TcpState, Token, WhichSubflow,
};

pub const TOKEN: Token = Token(0x1a2b_3c4d);
pub const WIFI: &str = "10.0.1.1";
pub const LTE: &str = "10.0.2.1";
pub const SERVER: &str = "10.0.3.1:80";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// An address on the interface wlan0 (WIFI), wwan0 (LTE) or eth0.
pub fn local(address: &str) -> LocalAddress {
    let (ifindex, name) = match address {
        WIFI | "fd00:1::1" => (2, "wlan0"),
        LTE | "fd00:2::1" => (3, "wwan0"),
        _ => (4, "eth0"),
    };
    LocalAddress {
        address: ip(address),
        ifindex: IfIndex(ifindex),
        interface: InterfaceName::new(name.as_bytes()),
        deprecated: false,
    }
}

pub fn connection(token: Token, server_side: bool) -> Connection {
    let mut connection = Connection::default();
    connection.token = token;
    connection.server_side = server_side;
    connection
}

/// Has a connection exist from `time` on, established 0.05 s later.
pub fn connect(sim: &mut Sim, time: f64, connection: Connection, from: &str, to: &str) {
    let (token, to): (_, SocketAddr) = (connection.token, to.parse().unwrap());
    let from = SocketAddr::new(ip(from), 33000);
    sim.at(seconds(time), move |sim| sim.created(connection, from, to));
    sim.at(seconds(time + 0.05), move |sim| sim.established(token));
}

/// The world, until `end`.
pub fn world(end: f64) -> Sim {
    let mut sim = Sim::new(seconds(end));
    connect(&mut sim, 0.05, connection(TOKEN, false), WIFI, SERVER);
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim
}

/// Has the application write so many bytes every second, from 1 s on.
pub fn write_every_second(sim: &mut Sim, bytes: u64, until: u32) {
    for second in 1..until {
        sim.at(seconds(second.into()), move |sim| sim.write(TOKEN, bytes));
    }
}

/// Runs to the end, and checks that the engine knows what is true.
pub fn run<P: Policy>(sim: Sim, policy: P) -> Engine<Sim, P> {
    let mut engine = Engine::new(sim, policy);
    engine.run().unwrap();
    let known: Vec<_> = engine.connections().collect();
    let live: Vec<_> = engine.kernel().live().collect();
    assert_eq!(known, live, "the engine's table differs from the world");
    engine
}

/// The live subflows of the first connection.
pub fn subflows<C: Policy>(engine: &Engine<Sim, C>) -> Vec<Subflow> {
    let connection = engine.kernel().live().next().expect("a live connection");
    connection.subflows.clone()
}

/// The local addresses from which subflows have joined.
pub fn joined<C: Policy>(engine: &Engine<Sim, C>) -> Vec<IpAddr> {
    let subflows = subflows(engine).into_iter();
    let joined = subflows.filter(|s| s.state == Some(TcpState::ESTABLISHED));
    joined.map(|s| s.local_address).collect()
}

/// When a subflow from `from` was asked for.
pub fn opened<C: Policy>(engine: &Engine<Sim, C>, from: &str) -> Vec<f64> {
    let commands = engine.kernel().commands().iter();
    let from_there = commands.filter(|(_, command)| {
        matches!(command, Command::SubflowCreate(_, c) if c.local_address == Some(ip(from)))
    });
    from_there.map(|(time, _)| time.as_secs_f64()).collect()
}

/// When the subflow with a number was asked to close; all if none is given.
pub fn closed<C: Policy>(engine: &Engine<Sim, C>, id: Option<SubflowId>) -> Vec<f64> {
    let commands = engine.kernel().commands().iter();
    let those = commands.filter(|(_, command)| match (command, id) {
        (Command::SubflowDestroy(_, destroy), Some(id)) => destroy.which == WhichSubflow::Id(id),
        (Command::SubflowDestroy(..), None) => true,
        _ => false,
    });
    those.map(|(time, _)| time.as_secs_f64()).collect()
}

/// Asserts that a decision for the connection has this in its text.
#[track_caller]
pub fn assert_decision<C: Policy>(engine: &Engine<Sim, C>, text: &str) {
    let decisions: Vec<_> = engine.decisions(TOKEN).map(|d| &d.text).collect();
    let found = decisions.iter().any(|d| d.contains(text));
    assert!(found, "no decision says `{text}`: {decisions:#?}");
}
