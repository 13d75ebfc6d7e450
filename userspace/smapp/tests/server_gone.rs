// SPDX-License-Identifier: GPL-2.0
//! A server that is gone for good: it was rebooted and knows nothing of the connection, so it
//! answers whatever comes with a RST. No policy keeps the connection alive by trying.

mod world;

use std::time::Duration;

use smapp::policy::PolicyOptions;
use smapp::sim::{Outcome, Sim};
use smapp::{Engine, Errno, Policy};
use world::*;

/// When the server is gone, and by when the application must know: twice the time that the
/// kernel takes by itself.
const GONE: f64 = 10.0;
const KNOWN: f64 = GONE + 120.0;

/// Every policy that opens subflows, by itself and with the most impatient options.
fn policies() -> Vec<PolicyOptions> {
    let words = ["fullmesh", "backup", "streaming", "refresh", "ndiffports"];
    let mut all = Vec::new();
    for word in words {
        let plain = PolicyOptions::by_word(word).unwrap();
        let mut impatient = plain.clone();
        let table = PolicyOptions::table();
        let info = table.iter().find(|info| info.word == word).unwrap();
        for option in &info.options {
            if option.name == "retry" || option.name.ends_with("delay") {
                impatient.set(&option.name, &["100ms"]).unwrap();
            }
        }
        all.extend([plain, impatient]);
    }
    all
}

fn paths(sim: &mut Sim, outcome: Outcome) {
    for local in [WIFI, LTE] {
        sim.path(ip(local), outcome);
    }
}

/// The server forgets the connection, and refuses joins after `rtt`.
fn forget(sim: &mut Sim, rtt: Duration) {
    paths(sim, Outcome::Fails(Errno::ECONNREFUSED, rtt));
    for local in [WIFI, LTE] {
        // As many as any policy has there.
        (0..8).for_each(|_| sim.subflow_closed(TOKEN, ip(local), Errno::ECONNRESET));
    }
}

fn run(mut sim: Sim, options: &PolicyOptions) -> Engine<Sim, Box<dyn Policy>> {
    sim.at(seconds(1.0), |sim| sim.write(TOKEN, 1000));
    let mut engine = Engine::new(sim, options.policy(1));
    engine.run().unwrap();
    engine
}

#[test]
fn the_application_is_told_in_twice_the_time_at_most() {
    for options in policies() {
        for rtt in [0.0, 0.05, 2.0] {
            let mut sim = world(KNOWN);
            sim.at(seconds(GONE), move |sim| forget(sim, seconds(rtt)));
            let engine = run(sim, &options);
            let left: Vec<_> = engine.kernel().live().collect();
            assert!(left.is_empty(), "{options:?}, {rtt} s: {left:?}");
            assert_eq!(engine.timers(), 0);
        }
    }
}

#[test]
fn a_server_that_refuses_for_a_while_only_is_joined_again() {
    for options in policies() {
        let mut sim = world(KNOWN + 100.0);
        sim.at(seconds(GONE), |sim| forget(sim, seconds(0.05)));
        sim.at(seconds(GONE + 12.0), |sim| {
            paths(sim, Outcome::Joins(seconds(0.05)));
        });
        let engine = run(sim, &options);
        assert!(!joined(&engine).is_empty(), "{options:?}");
    }
}

#[test]
fn a_path_that_refuses_joins_does_not_harm_one_that_works() {
    for options in policies() {
        let mut sim = world(1000.0);
        let refuses = Outcome::Fails(Errno::ECONNREFUSED, seconds(0.05));
        sim.path(ip(LTE), refuses);
        // Long after the first refusals the other one is lost for a moment.
        sim.at(seconds(500.0), |sim| {
            (0..8).for_each(|_| sim.subflow_closed(TOKEN, ip(WIFI), Errno::ECONNRESET));
        });
        let engine = run(sim, &options);
        assert!(joined(&engine).contains(&ip(WIFI)), "{options:?}");
    }
}

#[test]
fn without_a_policy_it_is_told_after_the_time_of_the_kernel() {
    struct Nothing;
    impl Policy for Nothing {}
    for (end, live) in [(GONE + 59.0, 1), (GONE + 61.0, 0)] {
        let mut sim = world(end);
        sim.at(seconds(GONE), |sim| forget(sim, seconds(0.05)));
        let mut engine = Engine::new(sim, Nothing);
        engine.run().unwrap();
        assert_eq!(engine.kernel().live().count(), live);
    }
}
