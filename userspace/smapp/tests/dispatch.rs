// SPDX-License-Identifier: GPL-2.0
//! Several policies at once, in a simulated world.
//!
//! A client with the addresses WIFI and LTE opens connections to ports of a
//! server, one of each port, from WIFI at 0.1 s. Times are virtual.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use smapp::rules::{Config, Dispatch, Rule};
use smapp::sim::{Outcome, Sim};
use smapp::{
    Command, Connection, Engine, Errno, IfIndex, InterfaceName, LocalAddress, Owner, Token,
};

const WIFI: &str = "10.0.1.1";
const LTE: &str = "10.0.2.1";

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

fn rules(text: &str) -> Vec<Rule> {
    Config::parse(Path::new("test.toml"), text).unwrap().rules
}

/// A connection to `port`, whose token is the port too.
fn open(sim: &mut Sim, port: u16, owner: Owner) {
    let token = Token(port.into());
    let connection = {
        let mut connection = Connection::default();
        connection.token = token;
        connection.owner = owner;
        connection
    };
    let server = SocketAddr::new(ip("10.0.3.1"), port);
    sim.at(seconds(0.1), move |sim| {
        sim.created(connection, SocketAddr::new(ip(WIFI), port), server);
        sim.established(token);
    });
}

/// The world with connections to these ports, under the rules of a text.
fn world(ports: &[u16], text: &str) -> Engine<Sim, Dispatch> {
    let mut sim = Sim::new(seconds(1000.0));
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    for &port in ports {
        open(&mut sim, port, Owner::default());
    }
    start(sim, text)
}

fn start(sim: Sim, text: &str) -> Engine<Sim, Dispatch> {
    let mut engine = Engine::new(sim, Dispatch::new(rules(text), 1));
    engine.attach().unwrap();
    engine
}

fn run_to(engine: &mut Engine<Sim, Dispatch>, time: f64) {
    use smapp::Kernel;
    while engine.kernel().now() < seconds(time) {
        assert!(engine.step(Some(seconds(time))).unwrap());
    }
}

fn reload(engine: &mut Engine<Sim, Dispatch>, text: &str) {
    let rules = rules(text);
    engine
        .control(|dispatch, context| dispatch.reload(context, rules))
        .unwrap();
}

fn subflows(engine: &Engine<Sim, Dispatch>, port: u16) -> usize {
    let mut live = engine.kernel().live();
    let connection = live.find(|c| c.token == Token(port.into()));
    connection.unwrap().subflows.len()
}

/// When subflows of a connection were asked for.
fn creations(engine: &Engine<Sim, Dispatch>, port: u16) -> Vec<Duration> {
    let ours = |command: &Command| matches!(command, Command::SubflowCreate(token, _) if *token == Token(port.into()));
    let commands = engine.kernel().commands().iter();
    commands.filter(|c| ours(&c.1)).map(|c| c.0).collect()
}

fn why(engine: &Engine<Sim, Dispatch>, port: u16) -> Vec<(&str, Option<&str>, &str)> {
    let decisions = engine.decisions(Token(port.into()));
    decisions
        .map(|d| (d.event, d.rule.as_deref(), d.text.as_str()))
        .collect()
}

const MIXED: &str = "
[[rule]]
name = \"one\"
remote-port = 81
policy.fullmesh.max-subflows = 1
[[rule]]
name = \"mesh\"
remote-port = \"80-89\"
policy = \"fullmesh\"
[[rule]]
name = \"alone\"
remote-port = \"90-99\"
policy = \"none\"
";

#[test]
fn each_connection_has_the_policy_of_its_rule() {
    let mut engine = world(&[80, 81, 90, 100], MIXED);
    run_to(&mut engine, 1.0);
    let counts = [80, 81, 90, 100].map(|port| subflows(&engine, port));
    assert_eq!(counts, [2, 1, 1, 1]);
    assert_eq!(
        why(&engine, 80)[0],
        ("estab", Some("mesh"), "estab: by rule mesh: fullmesh")
    );
    assert_eq!(
        why(&engine, 90),
        [("estab", Some("alone"), "estab: by rule alone: left alone")]
    );
    assert_eq!(
        why(&engine, 100),
        [("estab", None, "estab: no rule matches: left alone")]
    );
}

#[test]
fn a_rule_asks_whose_a_connection_is() {
    let mut sim = Sim::new(seconds(10.0));
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    for (port, uid) in [(80, 1000), (81, 1001)] {
        let owner = {
            let mut owner = Owner::default();
            owner.uid = Some(uid);
            owner
        };
        open(&mut sim, port, owner);
    }
    let mut engine = start(sim, "[[rule]]\nuid = 1000\npolicy = \"fullmesh\"");
    run_to(&mut engine, 1.0);
    assert_eq!([80, 81].map(|port| subflows(&engine, port)), [2, 1]);
}

#[test]
fn a_new_address_matters_to_those_it_concerns() {
    let mut sim = Sim::new(seconds(1000.0));
    sim.address_up(local(WIFI));
    for port in [80, 81, 90] {
        open(&mut sim, port, Owner::default());
    }
    sim.at(seconds(1.0), |sim| sim.address_up(local(LTE)));
    let mut engine = start(sim, MIXED);
    run_to(&mut engine, 0.9);
    assert_eq!([80, 81, 90].map(|port| subflows(&engine, port)), [1, 1, 1]);
    run_to(&mut engine, 2.0);
    assert_eq!([80, 81, 90].map(|port| subflows(&engine, port)), [2, 1, 1]);
}

#[test]
fn a_reload_keeps_what_an_equal_policy_knows() {
    let failing = || {
        let mut sim = Sim::new(seconds(1000.0));
        sim.address_up(local(WIFI));
        sim.address_up(local(LTE));
        sim.path(ip(LTE), Outcome::Fails(Errno::ETIMEDOUT, seconds(1.0)));
        open(&mut sim, 80, Owner::default());
        start(sim, MIXED)
    };
    let mut undisturbed = failing();
    run_to(&mut undisturbed, 100.0);
    let tries = creations(&undisturbed, 80);
    assert!(tries.len() > 3, "{tries:?}");
    // The same policy by another rule: its delays go on as if nothing had been.
    let mut engine = failing();
    run_to(&mut engine, 10.0);
    reload(
        &mut engine,
        "[[rule]]\nname = \"all\"\npolicy = \"fullmesh\"",
    );
    run_to(&mut engine, 100.0);
    assert_eq!(creations(&engine, 80), tries);
    assert_eq!(why(&engine, 80).last().unwrap().1, Some("all"));
    // Other options are another policy: it starts afresh, at once.
    let mut engine = failing();
    run_to(&mut engine, 10.0);
    reload(&mut engine, "[[rule]]\npolicy.fullmesh.max-subflows = 5");
    run_to(&mut engine, 100.0);
    assert!(creations(&engine, 80).contains(&seconds(10.0)));
}

#[test]
fn a_reload_hands_over_and_closes_nothing() {
    let mut engine = world(&[80, 90], MIXED);
    run_to(&mut engine, 1.0);
    reload(
        &mut engine,
        "[[rule]]\nname = \"swapped\"\nremote-port = 90\npolicy = \"fullmesh\"",
    );
    run_to(&mut engine, 2.0);
    assert_eq!([80, 90].map(|port| subflows(&engine, port)), [2, 2]);
    assert_eq!(
        *why(&engine, 80).last().unwrap(),
        ("reload", None, "reload: now left alone")
    );
    assert!(why(&engine, 90).contains(&("reload", Some("swapped"), "reload: now fullmesh")));
}

#[test]
fn a_policy_that_lost_a_connection_does_nothing_for_it() {
    let mut sim = Sim::new(seconds(1000.0));
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim.path(ip(LTE), Outcome::Fails(Errno::ETIMEDOUT, seconds(1.0)));
    open(&mut sim, 80, Owner::default());
    open(&mut sim, 81, Owner::default());
    sim.at(seconds(20.0), |sim| {
        sim.subflow_closed(Token(80), ip(WIFI), Errno::ECONNRESET);
        sim.address_down(local(LTE));
        sim.address_up(local(LTE));
    });
    // The policy goes on to run, for another connection.
    let mut engine = start(sim, "[[rule]]\npolicy = \"fullmesh\"");
    run_to(&mut engine, 10.0);
    let before = creations(&engine, 80).len();
    reload(
        &mut engine,
        "[[rule]]\nremote-port = 81\npolicy = \"fullmesh\"",
    );
    run_to(&mut engine, 200.0);
    assert_eq!(creations(&engine, 80).len(), before);
    assert!(creations(&engine, 81).len() > before);
}
