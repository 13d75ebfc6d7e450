// SPDX-License-Identifier: GPL-2.0
//! All policies in the simulated kernel, under schedules that proptest makes up: whatever
//! happens, these hold.
//!
//! - The engine's table equals the kernel's whenever no event is under way.
//! - No two subflows on one pair of addresses, unless the policy is for that.
//! - The limits of the options are kept, by clients and by servers.
//! - A policy never closes the last subflow of a connection that works.
//! - A path that fails is tried ever more seldom.
//! - Once everything is calm a policy has brought each connection to where it promises to:
//!   `fullmesh` has a subflow on every usable pair of addresses, `backup` exactly one, on the
//!   best path, `refresh` and `ndiffports` have their number, `streaming` one that works.
//!   A policy that does nothing fails.
//! - When the connections are over no timer is left.

mod promise;
mod run;
mod schedule;
#[path = "../world/mod.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use smapp::policy::PolicyOptions;
use smapp::rules::{Dispatch, Rule};
use smapp::sim::Sim;
use smapp::{Command, Connection, Errno, Policy};

use promise::{Calm, Promise, policies};
use run::run;
use schedule::{Happening, LOCALS, build, ends_of, open, outcome, schedule, set_path, visits};
use world::{ip, local, seconds};

fn any_policy() -> impl Strategy<Value = (PolicyOptions, Promise)> {
    prop::sample::select(policies())
}

/// The most subflows that were asked for on one pair within `window`.
fn busiest(sim: &Sim, window: Duration) -> usize {
    let mut asked = BTreeMap::<_, Vec<Duration>>::new();
    for (time, command) in sim.commands() {
        if let Command::SubflowCreate(token, create) = command {
            let pair = (*token, create.local_address, create.remote);
            asked.entry(pair).or_default().push(*time);
        }
    }
    let most = |times: Vec<Duration>| {
        let within = |i: usize| {
            times[i..]
                .iter()
                .take_while(|t| **t < times[i] + window)
                .count()
        };
        (0..times.len()).map(within).max().unwrap_or(0)
    };
    asked.into_values().map(most).max().unwrap_or(0)
}

/// As many cases as `PROPTEST_CASES` says. A failure is to be told in full, it becomes a test
/// of its own.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_promises_are_kept((policy, promise) in any_policy(), schedule in schedule()) {
        let engine = run(build(&schedule), policy.policy(1), |_| promise)?;
        prop_assert_eq!(engine.timers(), 0);
        prop_assert_eq!(engine.connections().count(), 0);
    }

    #[test]
    fn they_are_kept_behind_rules(each in prop::collection::vec(any_policy(), 1..4), schedule in schedule()) {
        let last = each.len() - 1;
        // Each is for one address of the server, the last one is for the rest.
        let rules = each.iter().enumerate().map(|(i, (policy, _))| {
            let all = Rule::every(&i.to_string(), policy.clone());
            let only = format!(r#"{{"remote-address": "{}", "policy": "none"}}"#,
                ["10.0.3.1", "fd00:3::1"][i % 2]);
            let only: Rule = serde_json::from_str(&only).unwrap();
            if i == last { all } else { Rule { policy: all.policy, ..only } }
        });
        let dispatch = Dispatch::new(rules.collect(), 1);
        let promise = |connection: &Connection| {
            let parity = usize::from(ends_of(connection).0.is_ipv6());
            let first = (0..last).find(|i| i % 2 == parity);
            each[first.unwrap_or(last)].1
        };
        let engine = run(build(&schedule), dispatch, promise)?;
        prop_assert_eq!(engine.timers(), 0);
        prop_assert_eq!(engine.connections().count(), 0);
    }

    #[test]
    fn a_server_keeps_its_limits(all in 1usize..5, address in 1usize..4, visits in visits()) {
        let json = format!(r#"{{"limit": {{"subflows": {all}, "per-address": {address}}}}}"#);
        let policy: PolicyOptions = serde_json::from_str(&json).unwrap();
        let accepted = Some([all, address]);
        let promise = Promise { pair: 0, all: 0, address: 0, accepted, calm: Calm::Nothing };
        let engine = run(build(&visits), policy.policy(1), |_| promise)?;
        prop_assert_eq!(engine.timers(), 0);
        prop_assert_eq!(engine.connections().count(), 0);
    }

    #[test]
    fn a_dead_path_is_tried_ever_more_seldom(
        (policy, _) in any_policy(),
        outcome in outcome(),
        at in 0..LOCALS.len(),
        v6 in any::<bool>(),
        lost in any::<bool>(),
    ) {
        let mut sim = Sim::new(seconds(600.0));
        LOCALS.iter().for_each(|text| sim.address_up(local(text)));
        sim.at(seconds(0.1), move |sim| open(sim, 0, false, v6));
        for second in 1..500 {
            sim.at(seconds(f64::from(second)), |sim| sim.write(smapp::Token(0), 1000));
        }
        sim.at(seconds(5.0), move |sim| {
            set_path(sim, at, outcome);
            if lost {
                sim.loss(ip(LOCALS[at]), 1.0);
            }
            // Whatever was there is gone.
            (0..10).for_each(|_| sim.subflow_closed(smapp::Token(0), ip(LOCALS[at]), Errno::ETIMEDOUT));
        });
        let promise = Promise { pair: 16, all: 64, address: 64, accepted: None, calm: Calm::Nothing };
        let engine = run(sim, policy.policy(1), |_| promise)?;
        // As many at once as a policy has on a pair, and again 1, 2, 4 .. seconds later.
        let busiest = busiest(engine.kernel(), Duration::from_secs(60));
        prop_assert!(busiest <= 24, "{busiest} attempts in a minute");
    }
}

/// What a world full of trouble has against a policy that does nothing.
fn against_nothing<S: Strategy<Value = Vec<(f64, Happening)>>>(
    schedules: S,
    promise: Promise,
) -> Result<(), TestError<S::Value>> {
    struct Nothing;
    impl Policy for Nothing {}
    let config = ProptestConfig {
        max_shrink_iters: 0,
        ..config()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, seed).run(&schedules, |schedule| {
        run(build(&schedule), Nothing, |_| promise).map(drop)
    })
}

#[test]
fn a_policy_that_does_nothing_keeps_no_promise() {
    for (policy, promise) in policies() {
        let found = against_nothing(schedule(), promise);
        let promised = !matches!(promise.calm, Calm::Nothing);
        assert_eq!(found.is_err(), promised, "{}: {found:?}", policy.word());
    }
    let promise = Promise {
        pair: 0,
        all: 0,
        address: 0,
        accepted: Some([3, 2]),
        calm: Calm::Nothing,
    };
    assert!(against_nothing(visits(), promise).is_err());
}
