// SPDX-License-Identifier: GPL-2.0
//! Every policy with the smallest values that its options can have, in a world in which
//! nothing works: time goes on.

mod world;

use smapp::policy::PolicyOptions;
use smapp::sim::{Outcome, Sim};
use smapp::{Engine, Errno, Kernel, Policy};
use world::*;

const END: f64 = 1.0;
/// More inputs than that in one moment, and in a millisecond on average, are turning in
/// circles. A connection has 256 subflows at most.
const IN_A_MOMENT: usize = 1024;
const IN_A_MILLISECOND: usize = 8;

/// Each policy with all of its times at a millisecond and all of its parts at next to
/// nothing, with as few and with as many subflows as there can be.
fn policies() -> Vec<PolicyOptions> {
    let mut all = Vec::new();
    for info in PolicyOptions::table() {
        for count in ["1", "256"] {
            let mut policy = PolicyOptions::by_word(info.word).unwrap();
            for option in &info.options {
                let value = match option.value_name {
                    "TIME" => "1ms",
                    "PART" => "1e-300",
                    "BYTES" => "1",
                    "N" => count,
                    _ => continue,
                };
                policy.set(&option.name, &[value]).unwrap();
            }
            all.push(policy);
        }
    }
    all
}

/// What subflows come to.
fn outcomes() -> [Outcome; 7] {
    [
        Outcome::Joins(seconds(0.0)),
        Outcome::Joins(seconds(0.01)),
        Outcome::Fails(Errno(0), seconds(0.0)),
        Outcome::Fails(Errno::ECONNRESET, seconds(0.0)),
        Outcome::Fails(Errno::ETIMEDOUT, seconds(0.002)),
        Outcome::Refused(Errno::EADDRINUSE),
        Outcome::Refused(Errno::ENOTCONN),
    ]
}

/// Runs to the end, and counts what is done in each moment.
fn run(sim: Sim, policy: Box<dyn Policy>, what: &str) {
    let mut engine = Engine::new(sim, policy);
    engine.attach().unwrap();
    let (mut steps, mut moment, mut now) = (0, 0, engine.kernel().now());
    while engine.step(None).unwrap() {
        steps += 1;
        moment = if engine.kernel().now() == now {
            moment + 1
        } else {
            0
        };
        now = engine.kernel().now();
        assert!(moment < IN_A_MOMENT, "at {now:?}: {what}");
        let most = IN_A_MILLISECOND * (now.as_millis() as usize + IN_A_MOMENT);
        assert!(steps < most, "{steps} by {now:?}: {what}");
    }
}

#[test]
fn the_most_impatient_policy_lets_time_go_on() {
    for policy in policies() {
        for outcome in outcomes() {
            for lossy in [false, true] {
                let mut sim = world(END);
                sim.path(ip(WIFI), outcome);
                sim.path(ip(LTE), outcome);
                // A byte at a time is late for ever, and so is what a path loses.
                (1..20).for_each(|step| {
                    let time = seconds(f64::from(step) * 0.05);
                    sim.at(time, |sim| sim.write(TOKEN, 100_000));
                });
                sim.at(seconds(0.3), move |sim| {
                    sim.loss(ip(WIFI), if lossy { 0.5 } else { 0.0 });
                    sim.subflow_closed(TOKEN, ip(WIFI), Errno::ECONNRESET);
                });
                sim.at(seconds(0.5), |sim| sim.address_down(local(WIFI)));
                sim.at(seconds(0.7), |sim| sim.address_up(local(WIFI)));
                let what = format!("{outcome:?}, lossy {lossy}, {policy:?}");
                run(sim, policy.policy(1), &what);
            }
        }
    }
}
