// SPDX-License-Identifier: GPL-2.0
//! The policies `refresh`, `ndiffports` and `limit` in the simulated world of
//! `world/mod.rs`, one behaviour a test.

mod world;

use std::collections::BTreeSet;

use smapp::policy::limit::{self, Limit};
use smapp::policy::ndiffports::{self, Ndiffports};
use smapp::policy::refresh::{self, Refresh};
use smapp::policy::{Count, PolicyOptions};
use smapp::sim::{Outcome, Sim};
use smapp::{Engine, Errno, SubflowId, Token};
use world::*;

fn refresh() -> Refresh {
    Refresh::new(refresh::Options::default(), 1)
}

fn ndiffports(subflows: u64) -> Ndiffports {
    let options = ndiffports::Options {
        subflows: Count::new(subflows),
        ..ndiffports::Options::default()
    };
    Ndiffports::new(options, 1)
}

fn ports<C: smapp::Policy>(engine: &Engine<Sim, C>) -> BTreeSet<u16> {
    subflows(engine).iter().map(|s| s.local_port).collect()
}

#[test]
fn refresh_has_its_subflows_on_different_ports() {
    let engine = run(world(2.0), refresh());
    assert_eq!(joined(&engine), [ip(WIFI); 5]);
    assert_eq!(ports(&engine).len(), 5);
}

#[test]
fn refresh_ends_up_on_fast_ports() {
    let mut sim = world(600.0);
    // Four of five ports lead over a slow path.
    sim.rate(|s| match s.local_port % 5 {
        0 => 1_000_000,
        _ => 100_000,
    });
    sim.at(seconds(1.0), |sim| sim.write(TOKEN, 10_000_000_000));
    let engine = run(sim, refresh());
    let ports = ports(&engine);
    assert!(ports.iter().all(|port| port % 5 == 0), "{ports:?}");
    assert_eq!(ports.len(), 5);
    assert_decision(&engine, "are alike, resting");
    assert_eq!(engine.timers(), 1, "it looks again some time");
    let times = closed(&engine, None);
    let apart = times.windows(2).all(|t| t[1] - t[0] > 2.4);
    assert!(apart, "one every 2.5 s: {times:?}");
}

#[test]
fn refresh_keeps_what_it_learned_about_ports() {
    let mut sim = world(1000.0);
    sim.rate(|s| match s.local_port % 5 {
        0 => 1_000_000,
        _ => 100_000,
    });
    sim.at(seconds(1.0), |sim| sim.write(TOKEN, 10_000_000_000));
    let next = smapp::Token(7);
    sim.at(seconds(900.0), |sim| sim.closed(TOKEN));
    connect(&mut sim, 901.0, connection(next, false), WIFI, SERVER);
    let engine = run(sim, refresh());
    let fast = subflows(&engine).into_iter().filter(|s| !s.initial);
    let fast: Vec<_> = fast.map(|s| s.local_port % 5).collect();
    assert_eq!(fast, [0; 4]);
}

#[test]
fn refresh_goes_on_when_a_path_becomes_slow_later() {
    let mut sim = world(600.0);
    sim.at(seconds(1.0), |sim| sim.write(TOKEN, 10_000_000_000));
    sim.at(seconds(200.0), |sim| {
        sim.rate(|s| match s.local_port % 2 {
            0 => 1_000_000,
            _ => 100_000,
        });
    });
    let engine = run(sim, refresh());
    let ports = ports(&engine);
    assert!(ports.iter().all(|port| port % 2 == 0), "{ports:?}");
    let times = closed(&engine, None);
    assert!(times.iter().all(|&t| t > 200.0), "{times:?}");
}

#[test]
fn refresh_leaves_an_idle_connection_alone() {
    let mut sim = world(60.0);
    sim.rate(|s| u64::from(s.local_port));
    assert!(closed(&run(sim, refresh()), None).is_empty());
}

#[test]
fn refresh_takes_another_port_if_one_is_taken() {
    let mut sim = world(50.0);
    sim.path(ip(WIFI), Outcome::Refused(Errno::EADDRINUSE));
    let engine = run(sim, refresh());
    let commands = engine.kernel().commands();
    let tries = commands.iter().filter(|(time, _)| *time < seconds(1.0));
    let tries: BTreeSet<_> = tries.map(|(_, c)| format!("{c:?}")).collect();
    assert_eq!(tries.len(), 8, "different ports: {tries:?}");
    // 1, 2, 4, 8, 16 s later.
    assert_eq!(
        commands.len() - tries.len(),
        5,
        "one at a time: {commands:?}"
    );
}

#[test]
fn ndiffports_opens_subflows_on_one_pair() {
    for n in [1, 2, 8] {
        let engine = run(world(10.0), ndiffports(n));
        assert_eq!(joined(&engine), vec![ip(WIFI); n as usize]);
    }
}

#[test]
fn ndiffports_replaces_what_is_lost() {
    let mut sim = world(20.0);
    sim.at(seconds(5.0), |sim| {
        sim.subflow_closed(TOKEN, ip(WIFI), Errno::ECONNRESET)
    });
    let engine = run(sim, ndiffports(3));
    assert_eq!(joined(&engine), [ip(WIFI); 3]);
    let last = *opened(&engine, WIFI).last().unwrap();
    assert!((5.9..6.01).contains(&last), "{last}");
}

#[test]
fn ndiffports_does_not_hammer() {
    let mut sim = world(600.0);
    sim.path(ip(WIFI), Outcome::Fails(Errno::ECONNREFUSED, seconds(0.0)));
    let tries = opened(&run(sim, ndiffports(2)), WIFI).len();
    assert!((10..20).contains(&tries), "{tries}");
}

/// A server to which the peer opens a subflow from each of `remotes`, a second apart.
fn server(remotes: &'static [&'static str]) -> Sim {
    let mut sim = Sim::new(seconds(100.0));
    connect(
        &mut sim,
        0.05,
        connection(TOKEN, true),
        WIFI,
        "10.0.9.1:5000",
    );
    for (i, remote) in remotes.iter().enumerate() {
        sim.at(seconds(1.0 + i as f64), move |sim| {
            let remote = remote.parse().unwrap();
            sim.peer_joins(TOKEN, format!("{WIFI}:80").parse().unwrap(), remote)
        });
    }
    sim
}

#[test]
fn limit_closes_what_joins_beyond_it() {
    let remotes = &[
        "10.0.9.1:1",
        "10.0.9.1:2",
        "10.0.8.1:1",
        "10.0.8.1:2",
        "10.0.7.1:1",
        "[fd00::1]:1",
    ];
    let engine = run(server(remotes), Limit::new(limit::Options::default(), 1));
    let kept = subflows(&engine);
    let kept: Vec<_> = kept.iter().map(|s| s.remote().to_string()).collect();
    assert_eq!(
        kept,
        ["10.0.9.1:5000", "10.0.9.1:1", "10.0.8.1:1", "10.0.8.1:2"]
    );
    assert_decision(&engine, "(per-address)");
    assert_decision(&engine, "(subflows)");
}

#[test]
fn limit_never_closes_the_last_subflow() {
    let options = limit::Options {
        subflows: Count::new(1),
        per_address: Count::new(1),
        per_peer: Some(Count::new(1)),
    };
    let engine = run(server(&["10.0.9.1:1"]), Limit::new(options, 1));
    assert_eq!(subflows(&engine).len(), 1);
    assert!(closed(&engine, Some(SubflowId(0))).is_empty());
}

#[test]
fn limit_counts_a_peer_over_all_its_connections() {
    let mut sim = server(&["10.0.9.1:1", "10.0.9.1:2", "10.0.8.1:3"]);
    let other = Token(7);
    let from = "10.0.9.1:5001";
    connect(&mut sim, 1.5, connection(other, true), WIFI, from);
    let joins = move |sim: &mut Sim, remote: &str| {
        let local = format!("{WIFI}:80").parse().unwrap();
        sim.peer_joins(other, local, remote.parse().unwrap());
    };
    // Three with 10.0.9.1 there are by now: the one at 2 s was too many.
    sim.at(seconds(5.0), move |sim| joins(sim, "10.0.9.1:8"));
    sim.at(seconds(6.0), move |sim| joins(sim, "10.0.8.1:9"));
    sim.at(seconds(7.0), move |sim| sim.closed(TOKEN));
    sim.at(seconds(8.0), move |sim| joins(sim, "10.0.9.1:10"));
    let options = limit::Options {
        subflows: Count::new(9),
        per_address: Count::new(9),
        per_peer: Some(Count::new(3)),
    };
    let engine = run(sim, Limit::new(options, 1));
    let kept = subflows(&engine);
    let kept: Vec<_> = kept.iter().map(|s| s.remote().to_string()).collect();
    assert_eq!(kept, ["10.0.9.1:5001", "10.0.8.1:9", "10.0.9.1:10"]);
    assert_eq!(closed(&engine, None), [2.0, 5.0]);
    let mut decisions = engine.decisions(other);
    assert!(decisions.any(|d| d.text.contains("(per-peer)")));
}

#[test]
fn limit_leaves_clients_alone() {
    let mut sim = world(10.0);
    for port in 1..20 {
        let remote = format!("10.0.3.1:{port}").parse().unwrap();
        let local = format!("{WIFI}:80").parse().unwrap();
        sim.at(seconds(1.0), move |sim| {
            sim.peer_joins(TOKEN, local, remote)
        });
    }
    let engine = run(sim, Limit::new(limit::Options::default(), 1));
    assert!(engine.kernel().commands().is_empty());
}

/// A connection over WIFI whose bundle is to move, with another address of the same family.
fn moving(end: f64) -> Sim {
    let mut sim = world(end);
    write_every_second(&mut sim, 1000, end as u32 - 2);
    sim
}

/// `refresh` and `ndiffports` with two subflows.
fn bundles() -> [PolicyOptions; 2] {
    ["refresh", "ndiffports"].map(|word| {
        let mut options = PolicyOptions::by_word(word).unwrap();
        options.set("subflows", &["2"]).unwrap();
        options
    })
}

#[test]
fn a_bundle_follows_when_its_address_goes() {
    for options in bundles() {
        let mut sim = moving(200.0);
        sim.at(seconds(10.0), |sim| {
            sim.carrier(ip(WIFI), false);
            sim.address_down(local(WIFI));
        });
        let engine = run(sim, options.policy(1));
        assert_eq!(joined(&engine), [ip(LTE); 2], "{}", options.word());
        assert!(engine.kernel().waiting(TOKEN) == 0);
        assert_decision(&engine, "10.0.1.1 is gone: going to 10.0.2.1 wwan0");
    }
}

#[test]
fn a_bundle_prefers_another_address_of_its_interface() {
    for options in bundles() {
        let mut sim = moving(200.0);
        let renewed = smapp::LocalAddress {
            address: ip("10.0.1.99"),
            ..local(WIFI)
        };
        sim.at(seconds(10.0), move |sim| {
            sim.address_up(renewed);
            sim.address_down(local(WIFI));
        });
        let engine = run(sim, options.policy(1));
        let word = options.word();
        assert_eq!(joined(&engine), [ip("10.0.1.99"); 2], "{word}");
    }
}

#[test]
fn a_bundle_waits_for_an_address_if_there_is_none() {
    for options in bundles() {
        let mut sim = moving(200.0);
        let renewed = smapp::LocalAddress {
            address: ip("10.0.1.99"),
            ..local(WIFI)
        };
        sim.at(seconds(9.0), |sim| sim.address_down(local(LTE)));
        sim.at(seconds(10.0), |sim| {
            sim.carrier(ip(WIFI), false);
            sim.address_down(local(WIFI));
        });
        sim.at(seconds(60.0), move |sim| sim.address_up(renewed));
        let engine = run(sim, options.policy(1));
        let word = options.word();
        assert_eq!(joined(&engine), [ip("10.0.1.99"); 2], "{word}");
    }
}

#[test]
fn a_bundle_goes_where_something_works_if_nothing_is_left() {
    for options in bundles() {
        let mut sim = moving(200.0);
        sim.at(seconds(10.0), |sim| {
            let fails = Outcome::Fails(Errno::EHOSTUNREACH, seconds(0.1));
            sim.path(ip(WIFI), fails);
            (0..2).for_each(|_| sim.subflow_closed(TOKEN, ip(WIFI), Errno::EHOSTUNREACH));
        });
        let engine = run(sim, options.policy(1));
        assert_eq!(joined(&engine), [ip(LTE); 2], "{}", options.word());
        assert_decision(&engine, "10.0.1.1 does not work: going to 10.0.2.1 wwan0");
    }
}
