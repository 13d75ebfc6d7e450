// SPDX-License-Identifier: GPL-2.0
//! The policy `backup` in the simulated world of `world/mod.rs`, one behaviour a test.

mod world;

use smapp::policy::Time;
use smapp::policy::backup::{Backup, Options};
use smapp::sim::{Outcome, Sim};
use smapp::{Engine, Errno};
use world::*;

fn backup() -> Backup {
    Backup::new(Options::default(), 1)
}

fn run(sim: Sim) -> Engine<Sim, Backup> {
    world::run(sim, backup())
}

#[test]
fn a_path_that_works_is_the_only_one() {
    let mut sim = world(100.0);
    write_every_second(&mut sim, 10_000, 90);
    let engine = run(sim);
    assert!(engine.kernel().commands().is_empty());
    assert_eq!(engine.timers(), 0);
}

#[test]
fn a_dead_path_is_left_once_its_rto_exceeds_the_threshold() {
    let mut sim = world(20.0);
    write_every_second(&mut sim, 10_000, 19);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    let engine = run(sim);
    // The RTO is 0.2 s, then doubles: the third timeout tells of 1.6 s.
    assert_eq!(opened(&engine, LTE), [7.4]);
    assert_eq!(closed(&engine, None), [7.41], "once the backup has joined");
    assert_eq!(joined(&engine), [ip(LTE)]);
    assert_eq!(engine.kernel().acked(TOKEN), 18 * 10_000);
    assert_decision(&engine, "RTO 1.6 s, no progress for 1.2 s: opening subflow");
}

#[test]
fn the_threshold_is_an_option() {
    let mut sim = world(20.0);
    write_every_second(&mut sim, 10_000, 19);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    let options = Options {
        rto: Time::ms(300),
        ..Options::default()
    };
    let engine = world::run(sim, Backup::new(options, 1));
    assert_eq!(opened(&engine, LTE), [6.2]);
}

#[test]
fn a_short_trouble_changes_nothing() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, 10_000, 59);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    sim.at(seconds(6.3), |sim| sim.loss(ip(WIFI), 0.0));
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn the_connection_goes_back_when_the_primary_works_again() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, 10_000, 59);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    sim.at(seconds(12.0), |sim| sim.loss(ip(WIFI), 0.0));
    let engine = run(sim);
    let back = opened(&engine, WIFI);
    assert_eq!(back.len(), 1);
    assert!(back[0] > 7.4 + 27.0 && back[0] < 7.4 + 30.1, "{back:?}");
    assert_eq!(joined(&engine), [ip(WIFI)]);
    assert_eq!(closed(&engine, None).len(), 2);
}

#[test]
fn a_primary_that_stays_dead_is_tried_ever_more_seldom() {
    let mut sim = world(4000.0);
    write_every_second(&mut sim, 10_000, 3990);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    let engine = run(sim);
    let tries = opened(&engine, WIFI);
    let delays: Vec<_> = tries.windows(2).map(|t| t[1] - t[0]).collect();
    assert!(delays[0] > 54.0 && delays[1] > 108.0, "{delays:?}");
    assert!(delays.iter().all(|&d| d < 610.0), "{delays:?}");
    assert_eq!(joined(&engine), [ip(LTE)]);
}

#[test]
fn addresses_that_come_and_go_do_not_keep_it_from_going_back() {
    let mut sim = world(4000.0);
    write_every_second(&mut sim, 10_000, 3990);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    sim.at(seconds(3700.0), |sim| sim.loss(ip(WIFI), 0.0));
    // A container bridge, a temporary address, the primary path itself.
    let others = ["172.17.0.1", "fd00:9::1", WIFI];
    for step in 1..360 {
        let other = local(others[step % 3]);
        let time = 10.0 * step as f64;
        sim.at(seconds(time), move |sim| sim.address_down(other));
        sim.at(seconds(time + 5.0), move |sim| sim.address_up(other));
    }
    let options = Options {
        backups: vec!["wwan*".parse().unwrap()],
        ..Options::default()
    };
    let engine = world::run(sim, Backup::new(options, 1));
    // As often as without: after 30, 60, 120, 240, 480 and each further 600 s.
    let tries = opened(&engine, WIFI);
    assert!((8..=12).contains(&tries.len()), "{tries:?}");
    assert_eq!(joined(&engine), [ip(WIFI)]);
}

#[test]
fn the_next_best_path_is_gone_back_to_if_the_best_stays_dead() {
    let options = Options {
        backups: ["eth*", "wwan*"].map(|p| p.parse().unwrap()).to_vec(),
        ..Options::default()
    };
    let mut sim = world(200.0);
    sim.address_up(local("10.0.4.1"));
    write_every_second(&mut sim, 10_000, 190);
    sim.at(seconds(5.5), |sim| {
        sim.loss(ip(WIFI), 1.0);
        sim.loss(ip("10.0.4.1"), 1.0);
    });
    sim.at(seconds(20.0), |sim| sim.loss(ip("10.0.4.1"), 0.0));
    let engine = world::run(sim, Backup::new(options, 1));
    assert_eq!(joined(&engine), [ip("10.0.4.1")]);
}

#[test]
fn a_threshold_beyond_what_the_rto_reaches_is_one_of_the_time_without_progress() {
    let mut sim = world(30.0);
    write_every_second(&mut sim, 10_000, 29);
    // The RTO stays at 0.2 s: it is this host that cannot send.
    sim.at(seconds(5.5), |sim| sim.carrier(ip(WIFI), false));
    let options = Options {
        rto: Time::ms(5000),
        ..Options::default()
    };
    let engine = world::run(sim, Backup::new(options, 1));
    let tries = opened(&engine, LTE);
    assert!(tries[0] > 11.0 && tries[0] < 11.5, "{tries:?}");
    assert_eq!(joined(&engine), [ip(LTE)]);
    assert_decision(&engine, "RTO 0.2 s, no progress for 5.");
}

#[test]
fn timeouts_with_progress_between_them_change_nothing() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, 10_000, 59);
    for second in 5..55 {
        let time = f64::from(second);
        sim.at(seconds(time - 0.1), |sim| sim.loss(ip(WIFI), 1.0));
        sim.at(seconds(time + 0.5), |sim| sim.loss(ip(WIFI), 0.0));
    }
    assert!(run(sim).kernel().commands().is_empty());
}

#[test]
fn two_dead_paths_cost_no_subflow() {
    let mut sim = world(60.0);
    write_every_second(&mut sim, 10_000, 50);
    sim.at(seconds(5.5), |sim| {
        sim.loss(ip(WIFI), 1.0);
        sim.loss(ip(LTE), 1.0);
    });
    sim.at(seconds(20.0), |sim| sim.loss(ip(WIFI), 0.0));
    let engine = run(sim);
    let kept = subflows(&engine);
    assert!(kept.len() == 1 && kept[0].initial, "{kept:?}");
    assert_eq!(engine.kernel().acked(TOKEN), 49 * 10_000);
}

#[test]
fn a_backup_that_does_not_answer_makes_room_for_the_next() {
    let mut sim = world(30.0);
    sim.address_up(local("10.0.4.1"));
    write_every_second(&mut sim, 10_000, 29);
    sim.at(seconds(5.5), |sim| {
        sim.loss(ip(WIFI), 1.0);
        sim.loss(ip(LTE), 1.0);
    });
    let engine = run(sim);
    assert_eq!(opened(&engine, LTE), [7.4]);
    // After three SYNs, a second each.
    assert_eq!(opened(&engine, "10.0.4.1"), [10.4]);
    assert_eq!(joined(&engine), [ip("10.0.4.1")]);
    assert_decision(&engine, "no answer to 3 SYNs");
}

#[test]
fn a_backup_that_is_refused_leaves_the_primary_alone() {
    let mut sim = world(12.0);
    write_every_second(&mut sim, 10_000, 11);
    sim.path(ip(LTE), Outcome::Refused(Errno::ENETUNREACH));
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    let engine = run(sim);
    assert!(opened(&engine, LTE).len() >= 2);
    assert_eq!(joined(&engine), [ip(WIFI)]);
}

#[test]
fn backups_are_taken_by_their_rank() {
    let options = || Options {
        backups: ["eth*", "wwan*"].map(|p| p.parse().unwrap()).to_vec(),
        ..Options::default()
    };
    for (ethernet_works, taken) in [(true, "10.0.4.1"), (false, LTE)] {
        let mut sim = world(20.0);
        sim.address_up(local("10.0.4.1"));
        write_every_second(&mut sim, 10_000, 19);
        if !ethernet_works {
            let refused = Outcome::Fails(Errno::ECONNREFUSED, seconds(0.1));
            sim.path(ip("10.0.4.1"), refused);
        }
        sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
        let engine = world::run(sim, Backup::new(options(), 1));
        assert_eq!(joined(&engine), [ip(taken)]);
    }
}

#[test]
fn an_interface_that_is_not_named_is_not_used() {
    let options = Options {
        backups: vec!["eth*".parse().unwrap()],
        ..Options::default()
    };
    let mut sim = world(20.0);
    write_every_second(&mut sim, 10_000, 19);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    let engine = world::run(sim, Backup::new(options, 1));
    assert!(engine.kernel().commands().is_empty());
}

#[test]
fn a_primary_that_is_reset_is_opened_again_at_once() {
    let mut sim = world(20.0);
    sim.at(seconds(5.0), |sim| {
        sim.subflow_closed(TOKEN, ip(WIFI), Errno::ECONNRESET)
    });
    let engine = run(sim);
    assert_eq!(opened(&engine, WIFI), [5.0]);
    assert_eq!(opened(&engine, LTE), [] as [f64; 0]);
}

#[test]
fn an_address_that_goes_takes_the_connection_to_the_backup() {
    let mut sim = world(20.0);
    sim.at(seconds(5.0), |sim| sim.address_down(local(WIFI)));
    let engine = run(sim);
    assert_eq!(opened(&engine, LTE), [5.0]);
    assert_eq!(joined(&engine), [ip(LTE)]);
}

#[test]
fn ipv6_has_backups_too() {
    let mut sim = Sim::new(seconds(20.0));
    connect(
        &mut sim,
        0.05,
        connection(TOKEN, false),
        "fd00:1::1",
        "[fd00:3::1]:80",
    );
    for address in ["fd00:1::1", LTE, "fd00:2::1"] {
        sim.address_up(local(address));
    }
    write_every_second(&mut sim, 10_000, 19);
    sim.at(seconds(5.5), |sim| sim.loss(ip("fd00:1::1"), 1.0));
    assert_eq!(joined(&run(sim)), [ip("fd00:2::1")]);
}

#[test]
fn a_server_keeps_out_of_it() {
    let mut sim = Sim::new(seconds(20.0));
    connect(&mut sim, 0.05, connection(TOKEN, true), WIFI, SERVER);
    sim.address_up(local(WIFI));
    sim.address_up(local(LTE));
    write_every_second(&mut sim, 10_000, 19);
    sim.at(seconds(5.5), |sim| sim.loss(ip(WIFI), 1.0));
    assert!(run(sim).kernel().commands().is_empty());
}
