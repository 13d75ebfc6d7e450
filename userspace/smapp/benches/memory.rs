// SPDX-License-Identifier: GPL-2.0
//! What the engine and its policies keep for a connection and for a subflow: the growth
//! of the process at 10,000 connections.
//!
//! `cargo bench -p smapp --bench memory`

mod kernel;

use std::fs;

use kernel::{Writes, cases, decode, established, subflow_established};
use smapp::rules::{Dispatch, Rule};
use smapp::{Engine, EventSet, Input, Policy, Token};

const CONNECTIONS: u32 = 10_000;

/// Bytes of this process that are in memory.
fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok());
    pages.expect("a number of pages") * PAGE
}

struct Nothing;

impl Policy for Nothing {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }
}

/// Bytes by which `work` makes the process grow, for each of `count` things.
fn growth(count: u32, work: impl FnOnce()) -> usize {
    let before = resident();
    work();
    (resident() - before) / count as usize
}

/// Has an engine with a policy know of many connections; it stays, so that no memory
/// is used a second time.
fn measure(name: &str, policy: Box<dyn Policy>) {
    let mut engine = Engine::new(Writes::default(), policy);
    engine.attach().expect("no connections");
    let mut tell = |bytes: &[u8]| {
        engine
            .handle(Input::Event(decode(bytes)))
            .expect("no listing");
    };
    let connection = growth(CONNECTIONS, || {
        (0..CONNECTIONS).for_each(|token| tell(&established(Token(token))));
    });
    print!("  {name:<24}{connection:>10}");
    if name == "no policy" {
        // From one subflow to eight, so that vectors which double do not deceive.
        let subflow = growth(7 * CONNECTIONS, || {
            for id in 2..=8 {
                (0..CONNECTIONS).for_each(|t| tell(&subflow_established(Token(t), id)));
            }
        });
        print!("{subflow:>10}");
    }
    println!();
    std::mem::forget(engine);
}

fn main() {
    println!("bytes, at {CONNECTIONS} connections of one subflow and those that a policy opens");
    println!("  {:<24}{:>10}{:>10}", "", "connection", "subflow");
    measure("no policy", Box::new(Nothing));
    for case in cases() {
        measure(case.name, case.policy.policy(1));
    }
    let fullmesh = cases().remove(0).policy;
    let rules = vec![Rule::every("all", fullmesh)];
    measure("fullmesh behind a rule", Box::new(Dispatch::new(rules, 1)));
}
