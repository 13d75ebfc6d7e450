// SPDX-License-Identifier: GPL-2.0
//! The policy `fullmesh` in a simulated world, one behaviour a test.
//!
//! A client with the addresses WIFI and LTE has a connection from WIFI to
//! SERVER, which is established at 0.1 s. Times are virtual.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smapp::policy::fullmesh::{Fullmesh, Options};
use smapp::sim::{Outcome, Sim};
use smapp::{
    Address, AddressId, AddressIds, Command, Connection, Engine, Errno, IfIndex, InterfaceName,
    LocalAddress, TcpState, Token,
};

const TOKEN: Token = Token(0x1a2b_3c4d);
const WIFI: &str = "10.0.1.1";
const LTE: &str = "10.0.2.1";
const SERVER: &str = "10.0.3.1:80";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

fn local(address: &str) -> LocalAddress {
    LocalAddress {
        address: ip(address),
        ifindex: IfIndex(2),
        interface: InterfaceName::new(b"eth0"),
        deprecated: false,
    }
}

/// A world without addresses in which `connection` is established at 0.1 s.
fn world(connection: Connection, from: &str, to: &str, end: f64) -> Sim {
    let mut sim = Sim::new(seconds(end));
    let (token, server): (_, SocketAddr) = (connection.token, to.parse().unwrap());
    let client = SocketAddr::new(ip(from), 43210);
    sim.at(seconds(0.05), move |sim| {
        sim.created(connection, client, server)
    });
    sim.at(seconds(0.1), move |sim| sim.established(token));
    sim
}

fn connection() -> Connection {
    {
        let mut connection = Connection::default();
        connection.token = TOKEN;
        connection
    }
}

/// The world of the tests: see above.
fn usual(end: f64) -> Sim {
    let mut sim = world(connection(), WIFI, SERVER, end);
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim
}

fn run(sim: Sim) -> Engine<Sim, Fullmesh> {
    run_with(sim, Options::default())
}

fn run_with(sim: Sim, options: Options) -> Engine<Sim, Fullmesh> {
    let mut engine = Engine::new(sim, Fullmesh::new(options, 1));
    engine.run().unwrap();
    let known: Vec<_> = engine.connections().collect();
    let live: Vec<_> = engine.kernel().live().collect();
    assert_eq!(known, live, "the engine's table differs from the world");
    for connection in live {
        let mut pairs: Vec<_> = connection
            .subflows
            .iter()
            .map(|s| (s.local_address, s.ifindex, s.remote()))
            .collect();
        pairs.sort();
        let all = pairs.len();
        pairs.dedup();
        assert_eq!(pairs.len(), all, "two subflows on one pair: {connection:?}");
    }
    engine
}

/// When a subflow from `from` was asked for, in seconds.
fn tries(engine: &Engine<Sim, Fullmesh>, from: &str) -> Vec<f64> {
    let commands = engine.kernel().commands().iter();
    let from_there = commands.filter(|(_, command)| {
        matches!(command, Command::SubflowCreate(_, c) if c.local_address == Some(ip(from)))
    });
    from_there.map(|(time, _)| time.as_secs_f64()).collect()
}

/// Local addresses of the live subflows of the connection.
fn subflows(engine: &Engine<Sim, Fullmesh>) -> Vec<IpAddr> {
    let connection = engine.kernel().live().next().expect("a live connection");
    let joined = |state| state == Some(TcpState::ESTABLISHED);
    assert!(
        connection.subflows.iter().all(|s| joined(s.state)),
        "{connection:?}"
    );
    connection
        .subflows
        .iter()
        .map(|s| s.local_address)
        .collect()
}

/// Asserts that each delay is the expected one, or up to a tenth less.
#[track_caller]
fn assert_delays(times: &[f64], expected: &[f64]) {
    let delays: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let fits = |(delay, expected): (&f64, &f64)| {
        *delay <= expected + 1e-6 && *delay >= expected * 0.9 - 1e-6
    };
    let all_fit = delays.iter().zip(expected).all(fits);
    assert!(
        all_fit && delays.len() == expected.len(),
        "{delays:?} instead of {expected:?}"
    );
}

#[test]
fn each_other_address_gets_a_subflow_once_established() {
    let engine = run(usual(10.0));
    assert_eq!(tries(&engine, LTE), [0.1]);
    assert_eq!(tries(&engine, WIFI), [] as [f64; 0]);
    assert_eq!(subflows(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn ipv6_connections_use_ipv6_addresses() {
    let mut sim = world(connection(), "fd00:1::1", "[fd00:3::1]:80", 10.0);
    for address in ["fd00:1::1", "fd00:2::1", WIFI] {
        sim.address_up(local(address));
    }
    let engine = run(sim);
    assert_eq!(subflows(&engine), [ip("fd00:1::1"), ip("fd00:2::1")]);
    assert_eq!(engine.kernel().commands().len(), 1);
}

#[test]
fn a_server_opens_no_subflows() {
    let mut sim = world(
        {
            let mut connection = connection();
            connection.server_side = true;
            connection
        },
        WIFI,
        SERVER,
        10.0,
    );
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn nothing_is_tried_where_the_peer_denies_joins() {
    let mut sim = world(
        {
            let mut connection = connection();
            connection.deny_join_id0 = true;
            connection
        },
        WIFI,
        SERVER,
        10.0,
    );
    sim.address_up(local(LTE));
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn an_address_that_appears_gets_a_subflow_at_once() {
    let mut sim = world(connection(), WIFI, SERVER, 10.0);
    sim.address_up(local(WIFI));
    sim.at(seconds(4.0), |sim| sim.address_up(local(LTE)));
    assert_eq!(tries(&run(sim), LTE), [4.0]);
}

#[test]
fn subflows_of_an_address_that_goes_are_closed() {
    let mut sim = usual(100.0);
    sim.at(seconds(4.0), |sim| sim.address_down(local(LTE)));
    let engine = run(sim);
    let closed = engine.kernel().commands().iter();
    let closed: Vec<_> = closed
        .filter(|(_, c)| matches!(c, Command::SubflowDestroy(..)))
        .collect();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].0, seconds(4.0));
    assert_eq!(subflows(&engine), [ip(WIFI)]);
    assert_eq!(
        tries(&engine, LTE),
        [0.1],
        "no retry from an address that is gone"
    );
}

#[test]
fn the_initial_subflow_goes_with_its_address_and_returns_with_it() {
    let mut sim = usual(10.0);
    sim.at(seconds(4.0), |sim| sim.address_down(local(WIFI)));
    sim.at(seconds(6.0), |sim| sim.address_up(local(WIFI)));
    let engine = run(sim);
    assert_eq!(tries(&engine, WIFI), [6.0]);
    assert_eq!(subflows(&engine), [ip(LTE), ip(WIFI)]);
}

#[test]
fn a_reset_subflow_is_opened_again_after_a_second() {
    let mut sim = usual(20.0);
    sim.at(seconds(4.0), |sim| {
        sim.subflow_closed(TOKEN, ip(LTE), Errno::ECONNRESET)
    });
    let engine = run(sim);
    assert_delays(&[4.0, tries(&engine, LTE)[1]], &[1.0]);
    assert_eq!(subflows(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn the_delay_depends_on_the_error() {
    for (errno, delay) in [
        (Errno::ECONNREFUSED, 1.0),
        (Errno::ECONNRESET, 1.0),
        (Errno::EPIPE, 1.0),
        (Errno::ETIMEDOUT, 3.0),
        (Errno(74), 3.0), // EBADMSG
        (Errno::ENETUNREACH, 5.0),
        (Errno::EHOSTUNREACH, 5.0),
        (Errno(0), 60.0),
    ] {
        let mut sim = usual(100.0);
        sim.at(seconds(4.0), move |sim| {
            sim.subflow_closed(TOKEN, ip(LTE), errno)
        });
        let engine = run(sim);
        assert_delays(&[4.0, tries(&engine, LTE)[1]], &[delay]);
    }
}

#[test]
fn the_initial_subflow_is_replaced_by_a_join() {
    let mut sim = usual(20.0);
    sim.at(seconds(4.0), |sim| {
        sim.subflow_closed(TOKEN, ip(WIFI), Errno::ETIMEDOUT)
    });
    let engine = run(sim);
    assert_delays(&[4.0, tries(&engine, WIFI)[0]], &[3.0]);
    assert_eq!(subflows(&engine), [ip(LTE), ip(WIFI)]);
}

#[test]
fn failures_in_a_row_double_the_delay_up_to_a_minute() {
    let mut sim = usual(400.0);
    sim.path(ip(LTE), Outcome::Fails(Errno::ECONNREFUSED, Duration::ZERO));
    let times = tries(&run(sim), LTE);
    assert_delays(&times[..9], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
}

#[test]
fn a_failed_pair_waits_whatever_else_happens() {
    let mut sim = usual(10.0);
    sim.path(ip(LTE), Outcome::Fails(Errno::EHOSTUNREACH, Duration::ZERO));
    sim.at(seconds(1.0), |sim| sim.address_up(local("10.0.4.1")));
    sim.at(seconds(2.0), |sim| {
        sim.subflow_closed(TOKEN, ip("10.0.4.1"), Errno::ECONNRESET)
    });
    let engine = run(sim);
    assert_eq!(tries(&engine, "10.0.4.1").len(), 2);
    assert_delays(&tries(&engine, LTE), &[5.0]);
}

#[test]
fn a_subflow_that_joins_resets_the_delay() {
    let mut sim = usual(100.0);
    sim.path(ip(LTE), Outcome::Fails(Errno::ECONNREFUSED, Duration::ZERO));
    sim.at(seconds(20.0), |sim| {
        sim.path(ip(LTE), Outcome::Joins(Duration::ZERO))
    });
    sim.at(seconds(60.0), |sim| {
        sim.subflow_closed(TOKEN, ip(LTE), Errno::ECONNREFUSED)
    });
    let times = tries(&run(sim), LTE);
    assert_delays(&[60.0, *times.last().unwrap()], &[1.0]);
}

#[test]
fn an_address_that_returns_is_not_held_back_by_old_failures() {
    let mut sim = usual(100.0);
    sim.path(ip(LTE), Outcome::Fails(Errno::ETIMEDOUT, Duration::ZERO));
    sim.at(seconds(30.0), |sim| sim.address_down(local(LTE)));
    sim.at(seconds(31.0), |sim| {
        sim.path(ip(LTE), Outcome::Joins(Duration::ZERO))
    });
    sim.at(seconds(31.0), |sim| sim.address_up(local(LTE)));
    assert_eq!(tries(&run(sim), LTE).last(), Some(&31.0));
}

#[test]
fn an_unreachable_network_is_tried_again() {
    for errno in [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EADDRNOTAVAIL,
    ] {
        let mut sim = usual(30.0);
        sim.path(ip(LTE), Outcome::Refused(errno));
        sim.at(seconds(12.0), |sim| {
            sim.path(ip(LTE), Outcome::Joins(Duration::ZERO))
        });
        let engine = run(sim);
        assert_delays(&tries(&engine, LTE), &[5.0, 10.0]);
        assert_eq!(subflows(&engine), [ip(WIFI), ip(LTE)]);
    }
}

#[test]
fn after_a_final_refusal_nothing_more_is_tried() {
    for errno in [Errno::EOPNOTSUPP, Errno::EACCES, Errno::EPERM] {
        let mut sim = usual(200.0);
        sim.path(ip(LTE), Outcome::Refused(errno));
        sim.at(seconds(5.0), |sim| sim.address_up(local("10.0.4.1")));
        assert_eq!(run(sim).kernel().commands().len(), 1, "{errno}");
    }
}

#[test]
fn a_connection_that_was_there_before_is_served() {
    let mut sim = Sim::new(seconds(10.0));
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim.created(
        connection(),
        SocketAddr::new(ip(WIFI), 43210),
        SERVER.parse().unwrap(),
    );
    sim.established(TOKEN);
    let engine = run(sim);
    assert_eq!(tries(&engine, LTE), [0.0]);
    assert_eq!(subflows(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn a_connection_that_is_not_established_yet_is_served_once_it_is() {
    let mut sim = Sim::new(seconds(10.0));
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim.created(
        connection(),
        SocketAddr::new(ip(WIFI), 43210),
        SERVER.parse().unwrap(),
    );
    sim.at(seconds(0.3), |sim| sim.established(TOKEN));
    let engine = run(sim);
    assert!(tries(&engine, LTE).contains(&0.3));
    assert_eq!(subflows(&engine), [ip(WIFI), ip(LTE)]);
}

#[test]
fn a_closed_connection_is_forgotten() {
    let mut sim = usual(100.0);
    sim.path(ip(LTE), Outcome::Fails(Errno::ECONNREFUSED, Duration::ZERO));
    sim.at(seconds(0.5), |sim| sim.closed(TOKEN));
    sim.at(seconds(5.0), |sim| sim.address_up(local("10.0.4.1")));
    assert_eq!(tries(&run(sim), LTE), [0.1]);
}

#[test]
fn connections_do_not_wait_for_each_other() {
    let mut sim = usual(10.0);
    for i in 1..50 {
        let token = Token(i);
        let client = SocketAddr::new(ip(WIFI), i as u16);
        let connection = {
            let mut connection = Connection::default();
            connection.token = token;
            connection
        };
        sim.at(seconds(1.0), move |sim| {
            sim.created(connection, client, SERVER.parse().unwrap());
            sim.established(token);
        });
    }
    let engine = run(sim);
    assert!(engine.kernel().live().all(|c| c.subflows.len() == 2));
    assert_eq!(engine.kernel().live().count(), 50);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let commands = || {
        let mut sim = usual(300.0);
        sim.path(ip(LTE), Outcome::Fails(Errno::ETIMEDOUT, seconds(2.0)));
        run(sim).kernel().commands().to_vec()
    };
    assert_eq!(commands(), commands());
}

/// The world in which the peer announces an address at 1 s.
fn announcing(id: u8, address: &str) -> Sim {
    let address = Address {
        id: AddressId(id),
        address: ip(address),
        port: None,
    };
    let mut sim = usual(20.0);
    sim.at(seconds(1.0), move |sim| {
        sim.address_announced(TOKEN, address)
    });
    sim
}

#[test]
fn an_announced_address_gets_a_subflow_from_each_address() {
    let mut sim = announcing(3, "10.0.5.1");
    let before: Vec<_> = run(announcing(3, "10.0.5.1"))
        .kernel()
        .live()
        .flat_map(|c| c.subflows.clone())
        .filter(|s| s.remote_id == AddressId(3))
        .map(|s| (s.local_address, s.remote()))
        .collect();
    let there: SocketAddr = "10.0.5.1:80".parse().unwrap();
    assert_eq!(before, [(ip(WIFI), there), (ip(LTE), there)]);
    sim.at(seconds(5.0), |sim| {
        sim.addresses_withdrawn(TOKEN, AddressIds::from_iter([AddressId(3)]))
    });
    assert_eq!(
        subflows(&run(sim)),
        [ip(WIFI), ip(LTE)],
        "once withdrawn, none"
    );
}

#[test]
fn some_addresses_are_not_contacted_whoever_announces_them() {
    for address in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.0.1", "::1"] {
        assert_eq!(run(announcing(3, address)).kernel().commands().len(), 1);
    }
}

#[test]
fn a_peer_cannot_have_any_number_of_subflows() {
    let mut sim = usual(300.0);
    for n in 1..=200 {
        let address = Address {
            id: AddressId(n),
            address: [10, 9, 0, n].into(),
            port: None,
        };
        sim.at(seconds(1.0), move |sim| {
            sim.address_announced(TOKEN, address)
        });
    }
    let engine = run(sim);
    assert_eq!(subflows(&engine).len(), 16);
    assert_eq!(engine.kernel().commands().len(), 15);
}

#[test]
fn interfaces_are_allowed_denied_and_metered() {
    let patterns = |words: &[&str]| words.iter().map(|w| w.parse().unwrap()).collect();
    for (interfaces, except, expected) in [
        (&["eth*"][..], &[][..], 1),
        (&[], &["eth?"], 0),
        (&["wlan*"], &[], 0),
        (&["eth0"], &["eth0"], 0),
    ] {
        let options = Options {
            interfaces: patterns(interfaces),
            except: patterns(except),
            metered: patterns(&["eth0"]),
            ..Options::default()
        };
        let engine = run_with(usual(10.0), options);
        let opened = engine.kernel().live().next().unwrap();
        let opened: Vec<_> = opened.subflows.iter().filter(|s| !s.initial).collect();
        assert_eq!(opened.len(), expected, "{interfaces:?} {except:?}");
        assert!(opened.iter().all(|s| s.backup));
    }
}

#[test]
fn what_the_peer_prohibits_is_not_tried_until_an_address_comes() {
    let mut sim = usual(1000.0);
    sim.at(seconds(4.0), |sim| {
        sim.subflow_reset(TOKEN, ip(LTE), 3, false)
    });
    sim.at(seconds(900.0), |sim| sim.address_up(local("10.0.4.1")));
    assert_eq!(tries(&run(sim), LTE), [0.1, 900.0]);
}

#[test]
fn a_reason_that_may_pass_waits_longest() {
    let mut sim = usual(100.0);
    sim.at(seconds(4.0), |sim| {
        sim.subflow_reset(TOKEN, ip(LTE), 2, true)
    });
    assert_delays(&[4.0, tries(&run(sim), LTE)[1]], &[60.0]);
}

#[test]
fn a_new_address_ends_the_wait_for_a_route() {
    let mut sim = usual(30.0);
    sim.path(ip(LTE), Outcome::Refused(Errno::ENETUNREACH));
    sim.at(seconds(1.0), |sim| {
        sim.path(ip(LTE), Outcome::Joins(Duration::ZERO));
        sim.address_up(local("10.0.4.1"));
    });
    assert_eq!(tries(&run(sim), LTE), [0.1, 1.0]);
}

#[test]
fn an_idle_connection_survives_a_nat_that_forgets() {
    // After three silent hours the NAT knows no subflow any more, and says so.
    let hours = 3.0 * 3600.0;
    let mut sim = usual(hours + 60.0);
    sim.at(seconds(hours - 1.0), |sim| {
        sim.forget(ip(WIFI));
        sim.forget(ip(LTE));
    });
    sim.at(seconds(hours), |sim| sim.write(TOKEN, 5_000_000));
    let engine = run(sim);
    assert_eq!(engine.kernel().acked(TOKEN), 5_000_000);
    assert_eq!(subflows(&engine).len(), 2);
    assert_delays(&[hours, tries(&engine, WIFI)[0]], &[1.0]);
}

#[test]
fn an_idle_connection_survives_a_nat_that_forgets_in_silence() {
    let mut sim = usual(600.0);
    sim.at(seconds(99.0), |sim| {
        sim.address_down(local(LTE));
        sim.forget_silently(ip(WIFI));
    });
    sim.at(seconds(100.0), |sim| sim.write(TOKEN, 50_000));
    let engine = run(sim);
    // A new subflow carries the data long before the old one would have given up.
    assert_eq!(engine.kernel().acked(TOKEN), 50_000);
    let tries = tries(&engine, WIFI);
    assert!(tries.len() == 1 && tries[0] < 130.0, "{tries:?}");
    assert_eq!(subflows(&engine), [ip(WIFI)], "the old one is closed");
}
