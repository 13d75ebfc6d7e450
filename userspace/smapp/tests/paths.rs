// SPDX-License-Identifier: GPL-2.0
//! Which paths `fullmesh` uses, in the simulated world: addresses, interfaces and routes
//! that come, go and move.

mod world;

use std::time::Duration;

use smapp::policy::PolicyOptions;
use smapp::policy::fullmesh::{Fullmesh, Options};
use smapp::rules::{Config, Dispatch};
use smapp::sim::Sim;
use smapp::{
    Address, AddressId, Command, Connection, Engine, Errno, IfIndex, LocalAddress, Policy,
    SubflowId, Token,
};
use world::{
    LTE, SERVER, TOKEN, WIFI, assert_decision, connect, connection, ip, joined, local, opened, run,
    seconds, subflows, world,
};

const ETH: &str = "10.0.4.1";

fn fullmesh() -> Fullmesh {
    Fullmesh::new(Options::default(), 1)
}

fn with(set: impl FnOnce(&mut Options)) -> Fullmesh {
    let mut options = Options::default();
    set(&mut options);
    Fullmesh::new(options, 1)
}

fn deprecated(address: &str) -> LocalAddress {
    LocalAddress {
        deprecated: true,
        ..local(address)
    }
}

/// An address on the interface of another one.
fn beside(other: &str, address: &str) -> LocalAddress {
    LocalAddress {
        address: ip(address),
        ..local(other)
    }
}

/// The interfaces that the live subflows are bound to.
fn bound<C: Policy>(engine: &Engine<Sim, C>) -> Vec<Option<u32>> {
    let all = subflows(engine).into_iter();
    all.map(|s| s.ifindex.map(|index| index.0)).collect()
}

/// The addresses that were withdrawn, and when.
fn withdrawn<C: Policy>(engine: &Engine<Sim, C>) -> Vec<(f64, Address)> {
    let commands = engine.kernel().commands().iter();
    let those = commands.filter_map(|(time, command)| match command {
        Command::Withdraw(_, address) => Some((time.as_secs_f64(), *address)),
        _ => None,
    });
    those.collect()
}

/// The orders about the priority of subflows, and when.
fn priorities<C: Policy>(engine: &Engine<Sim, C>) -> Vec<(f64, SubflowId, bool)> {
    let commands = engine.kernel().commands().iter();
    let those = commands.filter_map(|(time, command)| match *command {
        Command::SubflowSet(_, id, backup) => Some((time.as_secs_f64(), id, backup)),
        _ => None,
    });
    those.collect()
}

#[test]
fn a_deprecated_address_gets_no_new_subflow() {
    let mut sim = world(60.0);
    sim.address_up(deprecated(ETH));
    // Its subflow stays, and is not replaced.
    sim.at(seconds(5.0), |sim| sim.address_changed(deprecated(LTE)));
    sim.at(seconds(20.0), |sim| {
        let held = sim.live().next().unwrap().subflows.len();
        assert_eq!(held, 2, "a subflow from a deprecated address goes on");
        sim.subflow_closed(TOKEN, ip(LTE), Errno::ECONNRESET);
    });
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI)]);
    assert_eq!(opened(&engine, ETH), [] as [f64; 0]);
    assert_eq!(opened(&engine, LTE), [0.1]);
}

#[test]
fn each_interface_comes_before_a_second_address_of_one() {
    let mut sim = Sim::new(seconds(10.0));
    connect(&mut sim, 0.05, connection(TOKEN, false), WIFI, SERVER);
    // The address that holds a subflow is not the first one.
    for other in ["10.0.1.7", WIFI, "10.0.1.8", "10.0.1.9"] {
        sim.address_up(beside(WIFI, other));
    }
    sim.address_up(local(LTE));
    sim.address_up(local(ETH));
    let engine = run(sim, with(|o| o.max_subflows = "4".parse().unwrap()));
    let from = joined(&engine);
    assert_eq!(from, [ip(WIFI), ip(LTE), ip(ETH), ip("10.0.1.7")]);
}

#[test]
fn an_address_that_changes_again_and_again_is_withdrawn_each_time() {
    let mut sim = world(2000.0);
    let number = |n: u32| beside(LTE, &format!("10.0.{}.{}", 20 + n / 200, 1 + n % 200));
    sim.at(seconds(2.0), move |sim| {
        sim.address_down(local(LTE));
        sim.address_up(number(0));
    });
    for n in 1..300 {
        sim.at(seconds(f64::from(n) * 5.0), move |sim| {
            sim.address_down(number(n - 1));
            sim.address_up(number(n));
        });
    }
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI), number(299).address]);
    let withdrawn = withdrawn(&engine);
    assert_eq!(withdrawn.len(), 300);
    assert!(withdrawn.iter().all(|(_, gone)| gone.id != AddressId(0)));
    assert_eq!(withdrawn[0].1.address, ip(LTE));
    assert_decision(&engine, "is gone: withdrawing address id");
}

#[test]
fn the_address_of_the_initial_subflow_is_withdrawn_once_another_works() {
    let mut sim = Sim::new(seconds(30.0));
    connect(&mut sim, 0.05, connection(TOKEN, false), WIFI, SERVER);
    sim.address_up(local(WIFI));
    sim.at(seconds(5.0), |sim| sim.address_down(local(WIFI)));
    sim.at(seconds(9.0), |sim| sim.address_up(beside(WIFI, "10.0.1.9")));
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip("10.0.1.9")]);
    let (time, gone) = withdrawn(&engine)[0];
    assert!(time > 9.0, "{time}");
    assert_eq!((gone.id, gone.address), (AddressId(0), ip(WIFI)));
}

#[test]
fn subflows_are_bound_only_if_that_is_needed() {
    let engine = run(world(10.0), fullmesh());
    assert_eq!(bound(&engine), [None, None]);
    // By its routes this address leaves by another interface.
    let mut sim = world(10.0);
    sim.set_routed(local(LTE), false);
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI)]);
    // An interface that was asked for.
    let named = with(|o| o.interfaces = vec!["wwan*".parse().unwrap()]);
    let engine = run(world(10.0), named);
    assert_eq!(bound(&engine), [None, Some(3)]);
}

#[test]
fn an_address_on_two_interfaces_has_two_subflows() {
    let other = LocalAddress {
        ifindex: IfIndex(9),
        ..local(LTE)
    };
    let mut sim = world(20.0);
    sim.address_up(other);
    sim.at(seconds(4.0), |sim| {
        let subflows = &sim.live().next().unwrap().subflows;
        let mut bound: Vec<_> = subflows.iter().map(|s| s.ifindex).collect();
        bound.sort();
        assert_eq!(bound, [None, Some(IfIndex(3)), Some(IfIndex(9))]);
        sim.address_down(local(LTE));
    });
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE)]);
    assert_eq!(bound(&engine), [None, Some(9)]);
    assert_eq!(withdrawn(&engine), [], "the host still has it");
}

#[test]
fn an_address_that_moves_is_followed_make_before_break() {
    let there = LocalAddress {
        ifindex: IfIndex(9),
        ..local(LTE)
    };
    let named = || with(|o| o.interfaces = vec!["w*".parse().unwrap()]);
    let mut sim = world(20.0);
    sim.at(seconds(4.0), move |sim| {
        sim.address_down(local(LTE));
        sim.address_up(there);
    });
    let engine = run(sim, named());
    assert_eq!(bound(&engine), [None, Some(9)]);
    // Both at once for a while: the old one is closed when the new one has joined.
    let mut sim = world(20.0);
    sim.path(ip(WIFI), smapp::sim::Outcome::Refused(Errno::ENETUNREACH));
    sim.at(seconds(3.0), |sim| {
        sim.subflow_closed(TOKEN, ip(WIFI), Errno::ETIMEDOUT)
    });
    sim.at(seconds(4.0), move |sim| {
        sim.address_up(there);
        sim.address_down(local(LTE));
    });
    let engine = run(sim, named());
    assert_eq!(bound(&engine), [Some(9)]);
    let old = engine.kernel().commands().iter();
    let old: Vec<_> = old
        .filter(|(_, c)| matches!(c, Command::SubflowDestroy(..)))
        .collect();
    assert!(old.len() == 1 && old[0].0 > seconds(4.0), "{old:?}");
    assert_eq!(engine.kernel().cut_off(), 0);
}

#[test]
fn an_address_moves_away_from_where_its_routes_lead() {
    let there = LocalAddress {
        ifindex: IfIndex(9),
        ..local(WIFI)
    };
    for overlap in [true, false] {
        let mut sim = world(20.0);
        sim.set_exit(ip(WIFI), IfIndex(2));
        sim.at(seconds(4.0), move |sim| match overlap {
            true => {
                sim.address_up(there);
                sim.address_down(local(WIFI));
            }
            false => {
                sim.address_down(local(LTE));
                sim.address_down(local(WIFI));
                sim.address_up(there);
            }
        });
        let engine = run(sim, fullmesh());
        let last = *subflows(&engine).last().unwrap();
        assert_eq!(last.local_address, ip(WIFI), "{overlap}");
        assert_eq!(last.ifindex, Some(IfIndex(9)), "{overlap}");
        let initial = subflows(&engine).iter().any(|s| s.initial);
        assert!(!initial, "the old one is closed");
    }
}

#[test]
fn a_metered_initial_subflow_is_backup_while_another_works() {
    let mut sim = world(60.0);
    sim.at(seconds(20.0), |sim| sim.address_down(local(LTE)));
    sim.at(seconds(40.0), |sim| sim.address_up(local(LTE)));
    let engine = run(sim, with(|o| o.metered = vec!["wlan*".parse().unwrap()]));
    let [initial, ..] = subflows(&engine)[..] else {
        panic!("no subflow");
    };
    let set = priorities(&engine);
    let words: Vec<_> = set.iter().map(|&(_, id, backup)| (id, backup)).collect();
    assert_eq!(
        words,
        [true, false, true].map(|backup| (initial.id, backup))
    );
    for ((time, ..), expected) in set.iter().zip([0.11, 20.0, 40.01]) {
        assert!((time - expected).abs() < 0.001, "{set:?}");
    }
    assert!(initial.backup && initial.initial);
    assert_decision(&engine, "is no longer backup");
}

#[test]
fn what_has_no_route_is_opened_when_one_comes() {
    let mut sim = world(30.0);
    sim.set_routed(local(LTE), false);
    sim.at(seconds(7.0), |sim| sim.set_routed(local(LTE), true));
    let engine = run(sim, fullmesh());
    let times = opened(&engine, LTE);
    assert!(
        times.len() == 1 && times[0] > 7.0 && times[0] < 8.0,
        "{times:?}"
    );
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn what_has_no_route_is_said_once_and_not_tried() {
    let mut sim = world(86_400.0);
    let bridge = beside(ETH, "172.17.0.1");
    sim.address_up(bridge);
    sim.set_routed(bridge, false);
    let engine = run(sim, fullmesh());
    assert_eq!(opened(&engine, "172.17.0.1"), [] as [f64; 0]);
    let said = engine.decisions(TOKEN);
    let said = said
        .filter(|d| d.text.contains("opening when routes"))
        .count();
    assert_eq!(said, 1);
}

#[test]
fn what_never_answers_is_tried_ever_more_rarely_for_all_connections() {
    let mut sim = world(86_400.0);
    for n in 1..=10 {
        connect(
            &mut sim,
            f64::from(n),
            connection(Token(n), false),
            WIFI,
            SERVER,
        );
    }
    for n in 11..=20 {
        let time = f64::from(n) * 3000.0;
        connect(&mut sim, time, connection(Token(n), false), WIFI, SERVER);
    }
    sim.address_up(local(ETH));
    sim.loss(ip(ETH), 1.0);
    let engine = run(sim, fullmesh());
    // Those of the beginning at once, then one at a time and at last each hour.
    let tries = opened(&engine, ETH);
    assert!(tries.len() < 50, "{} tries", tries.len());
    let last: Vec<_> = tries.iter().filter(|&&time| time > 40_000.0).collect();
    assert!((8..16).contains(&last.len()), "{last:?}");
    assert!(engine.kernel().live().all(|c| c.subflows.len() >= 2));
}

#[test]
fn what_has_answered_once_is_tried_at_least_each_minute() {
    let mut sim = world(7200.0);
    sim.at(seconds(100.0), |sim| {
        sim.loss(ip(LTE), 1.0);
        sim.subflow_closed(TOKEN, ip(LTE), Errno::ETIMEDOUT);
    });
    sim.at(seconds(7000.0), |sim| sim.loss(ip(LTE), 0.0));
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn a_family_that_the_socket_does_not_take_is_left() {
    let mut sim = world(3600.0);
    for address in ["fd00:1::1", "fd00:2::1"] {
        sim.address_up(local(address));
    }
    sim.at(seconds(0.2), |sim| {
        sim.take_one_family(TOKEN);
        for id in 1..4 {
            let address = Address {
                id: AddressId(id),
                address: ip(&format!("fd00:3::{id}")),
                port: None,
            };
            sim.address_announced(TOKEN, address);
        }
    });
    sim.at(seconds(900.0), |sim| sim.address_down(local("fd00:1::1")));
    sim.at(seconds(901.0), |sim| sim.address_up(local("fd00:1::1")));
    let engine = run(sim, fullmesh());
    let refused = opened(&engine, "fd00:1::1").len() + opened(&engine, "fd00:2::1").len();
    assert_eq!(refused, 1);
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE)]);
    assert_decision(&engine, "its socket takes the family of the server only");
}

/// A connection whose program has bound it to its interface, or to its address.
fn bound_connection(to_interface: bool) -> Connection {
    let mut connection = connection(TOKEN, false);
    connection.owner.uid = Some(1000);
    connection.owner.ifindex = to_interface.then_some(IfIndex(2));
    connection.owner.bound_to_address = !to_interface;
    connection
}

fn bound_world(to_interface: bool) -> Sim {
    let mut sim = Sim::new(seconds(30.0));
    connect(&mut sim, 0.05, bound_connection(to_interface), WIFI, SERVER);
    for address in [local(WIFI), beside(WIFI, "10.0.1.9"), local(LTE)] {
        sim.address_up(address);
    }
    sim
}

#[test]
fn a_program_that_is_bound_stays_there() {
    let engine = run(bound_world(true), fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI), ip("10.0.1.9")]);
    assert_eq!(bound(&engine), [None, Some(2)]);
    let engine = run(bound_world(false), fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI)]);
    // Whatever the policy.
    let words = r#"{"ndiffports": {"subflows": 3}}"#;
    let ndiffports: PolicyOptions = serde_json::from_str(words).unwrap();
    let engine = run(bound_world(true), ndiffports.policy(1));
    assert_eq!(bound(&engine), [None, Some(2), Some(2)]);
}

#[test]
fn a_rule_can_tell_what_is_bound_and_let_it_leave() {
    for (to_interface, condition, from) in [
        (true, "", &[WIFI, "10.0.1.9"][..]),
        (true, "unbind = true", &[WIFI, LTE, "10.0.1.9"]),
        (
            true,
            "bound-interface = \"wlan?\"\nunbind = true",
            &[WIFI, LTE, "10.0.1.9"],
        ),
        (true, "bound-interface = \"wwan*\"", &[WIFI]),
        (false, "bound-interface = \"*\"", &[WIFI]),
        (
            false,
            "bound-address = \"10.0.0.0/8\"\nunbind = true",
            &[WIFI, LTE, "10.0.1.9"],
        ),
        (
            true,
            "bound-address = \"0.0.0.0/0\"\nunbind = true",
            &[WIFI],
        ),
    ] {
        let text = format!("[[rule]]\npolicy = \"fullmesh\"\n{condition}");
        let config = Config::parse("test.toml".as_ref(), &text).unwrap();
        let engine = run(bound_world(to_interface), Dispatch::new(config.rules, 1));
        let expected: Vec<_> = from.iter().map(|address| ip(address)).collect();
        assert_eq!(joined(&engine), expected, "{to_interface} {condition}");
    }
}

#[test]
fn routes_that_change_without_end_leave_time_for_other_things() {
    let mut sim = world(30.0);
    sim.set_routed(local(ETH), false);
    sim.address_up(local(ETH));
    for n in 0..20_000 {
        sim.at(Duration::from_millis(1000 + n), |sim| {
            sim.set_routed(local(ETH), false)
        });
    }
    sim.at(seconds(22.0), |sim| sim.set_routed(local(ETH), true));
    let engine = run(sim, fullmesh());
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE), ip(ETH)]);
}
