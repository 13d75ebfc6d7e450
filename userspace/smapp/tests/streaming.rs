// SPDX-License-Identifier: GPL-2.0
//! The policy `streaming` in the simulated world of `world/mod.rs`, one behaviour a test.

mod world;

use smapp::policy::streaming::{Options, Streaming};
use smapp::sim::Sim;
use smapp::{Engine, Errno};
use world::*;

/// The size of a block of the policy.
const BLOCK: u64 = 65536;

fn run(sim: Sim) -> Engine<Sim, Streaming> {
    world::run(sim, Streaming::new(Options::default(), 1))
}

#[test]
fn blocks_in_time_need_one_path() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, BLOCK, 59);
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn a_block_that_is_late_gets_a_second_path() {
    let mut sim = world(20.0);
    sim.rate(|s| match s.local_address == ip(WIFI) {
        true => 50_000,
        false => 1_000_000,
    });
    write_every_second(&mut sim, BLOCK, 19);
    let engine = run(sim);
    let opened = opened(&engine, LTE);
    // 25 of 64 kB half-way; a sixteenth of a period to see the start.
    assert!(opened[0] > 1.5 && opened[0] < 1.65, "{opened:?}");
    assert_eq!(opened.len(), 1);
    assert_eq!(joined(&engine), [ip(WIFI), ip(LTE)]);
    assert_eq!(engine.kernel().acked(TOKEN), 18 * BLOCK);
    assert_decision(&engine, "of 65536 bytes acknowledged: opening subflow");
}

#[test]
fn a_pause_is_not_late() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, BLOCK, 10);
    for second in 30..40 {
        sim.at(seconds(second.into()), |sim| sim.write(TOKEN, BLOCK));
    }
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn a_subflow_whose_rto_exceeds_a_second_is_closed_when_another_works() {
    let mut sim = world(20.0);
    write_every_second(&mut sim, BLOCK, 19);
    sim.at(seconds(5.9), |sim| sim.loss(ip(WIFI), 1.0));
    let engine = run(sim);
    assert!(opened(&engine, LTE)[0] < 7.0);
    assert!(closed(&engine, None)[0] < 8.5);
    assert_eq!(joined(&engine), [ip(LTE)]);
    assert_eq!(engine.kernel().acked(TOKEN), 18 * BLOCK);
}

#[test]
fn a_subflow_that_makes_no_progress_is_closed_whatever_its_rto() {
    let mut sim = world(20.0);
    write_every_second(&mut sim, BLOCK, 19);
    sim.at(seconds(5.9), |sim| sim.carrier(ip(WIFI), false));
    let engine = run(sim);
    let closed = closed(&engine, None);
    assert!(closed[0] > 7.0 && closed[0] < 7.6, "{closed:?}");
    assert_eq!(joined(&engine), [ip(LTE)]);
}

#[test]
fn the_last_subflow_is_never_closed() {
    let mut sim = world(40.0);
    write_every_second(&mut sim, BLOCK, 30);
    sim.at(seconds(5.9), |sim| {
        sim.loss(ip(WIFI), 1.0);
        sim.loss(ip(LTE), 1.0);
    });
    sim.at(seconds(20.0), |sim| sim.loss(ip(WIFI), 0.0));
    let engine = run(sim);
    assert!(closed(&engine, None).is_empty());
    assert_eq!(engine.kernel().acked(TOKEN), 29 * BLOCK);
}

#[test]
fn a_lost_connection_to_the_last_path_is_opened_again() {
    let mut sim = world(20.0);
    sim.at(seconds(5.0), |sim| {
        sim.subflow_closed(TOKEN, ip(WIFI), Errno::ECONNRESET)
    });
    assert_eq!(joined(&run(sim)), [ip(LTE)]);
}

#[test]
fn an_application_tells_when_its_blocks_begin() {
    let mut sim = world(20.0);
    sim.rate(|s| match s.local_address == ip(WIFI) {
        true => 100_000,
        false => 1_000_000,
    });
    sim.at(seconds(4.0), |sim| sim.write(TOKEN, 200_000));
    let mut engine = Engine::new(sim, Streaming::new(Options::default(), 1));
    engine.attach().unwrap();
    while engine.control(|_, context| context.now()) < seconds(4.0) {
        engine.step(Some(seconds(4.0))).unwrap();
    }
    // Larger than the option says: half-way there are 50 kB, enough for a block
    // of that size, too little for this one.
    engine.control(|streaming, context| streaming.block(context, TOKEN, 200_000));
    engine.serve().unwrap();
    assert_eq!(opened(&engine, LTE), [4.5]);
}

#[test]
fn a_server_keeps_out_of_it() {
    let mut sim = Sim::new(seconds(20.0));
    connect(&mut sim, 0.05, connection(TOKEN, true), WIFI, SERVER);
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    sim.rate(|_| 1000);
    write_every_second(&mut sim, BLOCK, 19);
    assert!(run(sim).kernel().commands().is_empty());
}
