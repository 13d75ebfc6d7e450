// SPDX-License-Identifier: GPL-2.0
//! Runs a policy in a world, and asserts at each step what holds then.

use std::collections::BTreeMap;

use proptest::prelude::*;
use smapp::sim::Sim;
use smapp::{Connection, Context, Engine, Kernel, Policy, Subflow};

use crate::promise::{Calm, Promise, is_calm, keeps, limits};
use crate::schedule::{KEPT, LOCALS};
use crate::world::{local, seconds};

/// More than any good run takes: a policy that turns in circles ends here.
const STEPS: usize = 50_000;

/// Runs a policy in a world, of which `promise` says what it does for each connection.
pub fn run<P: Policy>(
    sim: Sim,
    policy: P,
    promise: impl Fn(&Connection) -> Promise,
) -> Result<Engine<Sim, P>, TestCaseError> {
    let mut engine = Engine::new(sim, policy);
    engine.attach().unwrap();
    let mut kept = false;
    for _ in 0..STEPS {
        let goes_on = engine.step((!kept).then_some(seconds(KEPT))).unwrap();
        let sim = engine.kernel();
        for connection in sim.live() {
            keeps(connection, promise(connection))?;
        }
        prop_assert_eq!(sim.cut_off(), 0, "the last subflow that works was closed");
        if sim.is_quiet() {
            equals(&mut engine)?;
            let sim = engine.kernel();
            let accepted = sim.live().filter(|c| c.server_side);
            for connection in accepted.filter(|c| sim.is_established(c.token)) {
                let most = promise(connection).accepted;
                most.map_or(Ok(()), |most| limits(connection, most))?;
            }
        }
        if !kept && engine.kernel().now() >= seconds(KEPT) {
            kept = true;
            for connection in engine.kernel().live().cloned().collect::<Vec<_>>() {
                let announced = |_: &mut P, context: &mut Context<'_>| {
                    let announced = context.remote_addresses(connection.token);
                    announced.map(|a| a.address).collect::<Vec<_>>()
                };
                let announced = engine.control(announced);
                let calm = match connection.server_side {
                    true => Calm::Nothing,
                    false => promise(&connection).calm,
                };
                is_calm(&connection, calm, &announced, engine.kernel())?;
            }
        }
        if !goes_on {
            return Ok(engine);
        }
    }
    let commands = engine.kernel().commands().len();
    Err(TestCaseError::fail(format!("no end: {commands} commands")))
}

/// Asserts that the engine knows what is true. Of a connection that is not established it
/// may know a part: few policies register for `created`, and a peer may announce or join
/// before.
fn equals<P: Policy>(engine: &mut Engine<Sim, P>) -> Result<(), TestCaseError> {
    let addresses = engine.control(|_, context| context.addresses().to_vec());
    let sim = engine.kernel();
    for address in LOCALS.map(local) {
        let known = addresses.contains(&address);
        prop_assert_eq!(known, sim.has_address(address), "{}", address.address);
    }
    let bare = |c: &Connection| (c.token, bare(c));
    let known: BTreeMap<_, _> = engine.connections().map(bare).collect();
    let live: BTreeMap<_, _> = sim.live().map(bare).collect();
    for (token, whole) in live.iter().filter(|(token, _)| sim.is_established(**token)) {
        prop_assert_eq!(known.get(token), Some(whole));
    }
    for (token, (server_side, subflows)) in &known {
        let whole = live.get(token).filter(|whole| whole.0 == *server_side);
        let true_of = |whole: &(bool, Vec<_>)| subflows.iter().all(|s| whole.1.contains(s));
        prop_assert!(
            whole.is_some_and(true_of),
            "{token}: {subflows:?}, not {whole:?}"
        );
    }
    Ok(())
}

/// A connection without what changes unheard, its subflows by ID.
fn bare(connection: &Connection) -> (bool, Vec<Subflow>) {
    let plain = |s: &Subflow| {
        let mut subflow = *s;
        subflow.rto = None;
        subflow.backoff = None;
        subflow.retransmits = None;
        subflow.reset_reason = None;
        subflow.reset_transient = false;
        // Of what was asked for instead of told.
        subflow.tcp_info = None;
        // No policy registers for it.
        subflow.backup_peer = false;
        subflow
    };
    let mut subflows: Vec<_> = connection.subflows.iter().map(plain).collect();
    subflows.sort_by_key(|s| s.id);
    (connection.server_side, subflows)
}
