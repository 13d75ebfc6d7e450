// SPDX-License-Identifier: GPL-2.0
//! What a hostile peer cannot have the policies and the engine do (docs/security.md).

mod world;

use std::time::Duration;

use smapp::policy::fullmesh::{Fullmesh, Options};
use smapp::policy::{PolicyOptions, backup, ndiffports, refresh, streaming};
use smapp::sim::{Outcome, Sim};
use smapp::{
    Address, AddressId, Command, Connection, Context, Engine, Errno, Error, EventSet, Policy,
    SubflowCreate, Token,
};

use world::*;

/// Subflows that a connection may open at once; after that one each second.
const BURST: usize = 256;

/// The subflows that were asked for: where they were to lead.
fn asked<C: Policy>(engine: &Engine<Sim, C>) -> Vec<String> {
    let commands = engine.kernel().commands().iter();
    let creates = commands.filter_map(|(_, command)| match command {
        Command::SubflowCreate(_, create) => Some(create.remote.to_string()),
        _ => None,
    });
    creates.collect()
}

fn announce(sim: &mut Sim, time: f64, id: u8, address: &str) {
    let address = Address {
        id: AddressId(id),
        address: ip(address),
        port: None,
    };
    sim.at(seconds(time), move |sim| {
        sim.address_announced(TOKEN, address)
    });
}

/// A connection to a server of the internet.
fn public(end: f64) -> Sim {
    let mut sim = Sim::new(seconds(end));
    connect(
        &mut sim,
        0.05,
        connection(TOKEN, false),
        WIFI,
        "192.0.2.1:80",
    );
    sim.address_up(local(WIFI));
    sim
}

#[test]
fn a_storm_of_resets_is_no_storm_of_subflows() {
    const SECONDS: usize = 100;
    for policy in [
        PolicyOptions::Fullmesh(Options::default()),
        PolicyOptions::Backup(backup::Options::default()),
        PolicyOptions::Streaming(streaming::Options::default()),
        PolicyOptions::Refresh(refresh::Options::default()),
        PolicyOptions::Ndiffports(ndiffports::Options::default()),
    ] {
        // Whatever joins is reset at once, the first subflow too.
        let mut sim = world(SECONDS as f64);
        for local in [WIFI, LTE] {
            sim.path(ip(local), Outcome::Joins(Duration::from_millis(1)));
            for ms in (1000..SECONDS as u64 * 1000).step_by(5) {
                sim.at(Duration::from_millis(ms), move |sim| {
                    sim.subflow_closed(TOKEN, ip(local), Errno::ECONNRESET)
                });
            }
        }
        let mut engine = Engine::new(sim, policy.policy(1));
        engine.run().unwrap();
        let opened = asked(&engine).len();
        let most = BURST + SECONDS;
        let word = policy.word();
        println!("{word}: {opened} subflows in {SECONDS} s");
        assert!((1..=most).contains(&opened), "{word}: {opened} of {most}");
    }
}

#[test]
fn a_flood_of_announcements_is_no_flood_of_subflows_or_memory() {
    const SECONDS: usize = 60;
    let mut sim = world(SECONDS as f64);
    for local in [WIFI, LTE] {
        sim.path(
            ip(local),
            Outcome::Fails(Errno::ECONNREFUSED, Duration::ZERO),
        );
    }
    // A thousand each second, of which each is a new address of the same ID.
    for n in 0..50_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let time = 1.0 + f64::from(n) / 1000.0;
        announce(&mut sim, time, 1 + c % 4, &format!("10.{a}.{b}.{c}"));
    }
    let mut engine = run(sim, Fullmesh::new(Options::default(), 1));
    let opened = asked(&engine).len();
    assert!((100..=BURST + SECONDS).contains(&opened), "{opened}");
    let known = engine.control(|fullmesh, context| {
        assert_eq!(context.remote_addresses(TOKEN).count(), 4);
        format!("{fullmesh:?}").len()
    });
    assert!(known < 10_000, "the policy remembers {known} bytes of text");
}

/// Many connections to one server, at the same moment.
fn crowd(end: f64, size: u32) -> (Sim, impl Iterator<Item = Token>) {
    let mut sim = Sim::new(seconds(end));
    sim.address_up(local(WIFI));
    let tokens = (1..=size).map(Token);
    for token in tokens.clone() {
        connect(&mut sim, 0.05, connection(token, false), WIFI, SERVER);
    }
    (sim, tokens)
}

fn announce_to_all(sim: &mut Sim, tokens: impl Iterator<Item = Token>, id: u8, address: &str) {
    let address = Address {
        id: AddressId(id),
        address: ip(address),
        port: None,
    };
    for token in tokens {
        sim.at(seconds(1.0), move |sim| {
            sim.address_announced(token, address)
        });
    }
}

#[test]
fn many_connections_are_no_flood_of_a_third_party() {
    const SECONDS: usize = 30;
    let (mut sim, tokens) = crowd(SECONDS as f64, 1000);
    sim.path(
        ip(WIFI),
        Outcome::Fails(Errno::ECONNREFUSED, Duration::ZERO),
    );
    let tokens: Vec<_> = tokens.collect();
    for id in 1..=4 {
        announce_to_all(
            &mut sim,
            tokens.iter().copied(),
            id,
            &format!("10.9.0.{id}"),
        );
    }
    let engine = run(sim, Fullmesh::new(Options::default(), 1));
    let opened = asked(&engine).len();
    let most = 1024 + 100 * SECONDS;
    assert!((1024..=most).contains(&opened), "{opened} of {most}");
}

/// Asks for many subflows to what is announced and for one to the server, at once.
#[derive(Default)]
struct Batches {
    to_server: usize,
    throttled: usize,
}

impl Policy for Batches {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, there: &Address) {
        let mut batch = vec![SubflowCreate::to((there.address, 80).into()); 150];
        batch.push(SubflowCreate::to(SERVER.parse().unwrap()));
        let results = context.subflow_create_all(token, &batch);
        self.to_server += usize::from(results.last().unwrap().is_ok());
        let throttled = |r: &&Result<_, _>| matches!(r, Err(Error::Throttled(_)));
        self.throttled += results.iter().filter(throttled).count();
    }
}

#[test]
fn a_flood_does_not_keep_others_from_their_server() {
    const CONNECTIONS: u32 = 10;
    let (mut sim, tokens) = crowd(3.0, CONNECTIONS);
    announce_to_all(&mut sim, tokens, 1, "10.9.0.1");
    let mut engine = run(sim, Batches::default());
    engine.control(|batches, _| {
        assert_eq!(batches.throttled, 1500 - 1024);
        assert_eq!(batches.to_server, CONNECTIONS as usize);
    });
}

#[test]
fn an_announced_address_that_answers_is_reached_by_all() {
    const CONNECTIONS: u32 = 3000;
    let (mut sim, tokens) = crowd(120.0, CONNECTIONS);
    announce_to_all(&mut sim, tokens, 1, "10.0.9.1");
    let engine = run(sim, Fullmesh::new(Options::default(), 1));
    let reached = |c: &&Connection| {
        c.subflows
            .iter()
            .any(|s| s.remote_address == ip("10.0.9.1"))
    };
    let reached = engine.connections().filter(reached).count();
    assert_eq!(reached, CONNECTIONS as usize);
}

#[test]
fn a_server_outside_does_not_lead_into_a_private_network() {
    for inside in ["10.0.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"] {
        let mut sim = public(10.0);
        sim.address_up(local("fd00:1::1"));
        announce(&mut sim, 1.0, 1, inside);
        announce(&mut sim, 1.0, 2, "192.0.2.2");
        let engine = run(sim, Fullmesh::new(Options::default(), 1));
        assert_eq!(asked(&engine), ["192.0.2.2:80"], "{inside}");
    }
    // A server inside does.
    let mut sim = world(10.0);
    announce(&mut sim, 1.0, 1, "10.0.9.1");
    let engine = run(sim, Fullmesh::new(Options::default(), 1));
    assert!(asked(&engine).contains(&"10.0.9.1:80".to_owned()));
}

#[test]
fn only_announced_addresses_of_the_prefixes_are_contacted() {
    let options = Options {
        peer_addresses: vec![
            "192.0.2.0/28".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ],
        ..Options::default()
    };
    let mut sim = public(10.0);
    announce(&mut sim, 1.0, 1, "192.0.2.16");
    announce(&mut sim, 1.0, 2, "192.0.2.15");
    announce(&mut sim, 1.0, 3, "10.0.0.1");
    let engine = run(sim, Fullmesh::new(options, 1));
    assert_eq!(asked(&engine), ["192.0.2.15:80", "10.0.0.1:80"]);
}

#[test]
fn this_host_is_not_contacted() {
    let mut sim = world(10.0);
    announce(&mut sim, 1.0, 1, WIFI);
    announce(&mut sim, 1.0, 2, LTE);
    let engine = run(sim, Fullmesh::new(Options::default(), 1));
    assert_eq!(asked(&engine), [SERVER], "the join over the other path");
}

#[test]
fn events_that_are_lost_all_the_time_are_listed_now_and_then() {
    let mut sim = world(20.0);
    for ms in (1000..20_000).step_by(2) {
        let losing = ms % 4 == 0;
        sim.at(Duration::from_millis(ms), move |sim| {
            sim.lose_events(losing);
            announce_now(sim, (ms / 2) as u8);
        });
    }
    let engine = run(sim, Fullmesh::new(Options::default(), 1));
    // When it attached, and in 19 s not more often than every 200 ms.
    let listings = engine.kernel().listings();
    assert!((50..=1 + 19 * 5 + 1).contains(&listings), "{listings}");
}

fn announce_now(sim: &mut Sim, last: u8) {
    let address = Address {
        id: AddressId(1),
        address: [10, 9, 0, last].into(),
        port: None,
    };
    sim.address_announced(TOKEN, address);
}
