// SPDX-License-Identifier: GPL-2.0
//! Daemons that die, and more than one of them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;

use anyhow::{Context, Result, ensure};
use smapp::policy::fullmesh::{self, Fullmesh};
use smapp_tests::traffic::listen;
use smapp_tests::{
    Attached, Connection, Family, Observer, PathManager, Process, Topology, topology, wait_for,
};
use socket2::Protocol;

use super::race::{Race, Random, quiet, topology};
use super::{abort, over_second_path};

/// Connections that stay.
const KEPT: usize = 3;

fn keep(topology: &Topology) -> Result<Vec<Connection>> {
    (0..KEPT)
        .map(|_| Connection::establish(topology, Family::V4))
        .collect()
}

/// Opens connections, uses and closes them until it is told to stop.
fn churn(topology: &Topology, stop: &AtomicBool) -> Result<usize> {
    let mut listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    let mut count = 0;
    while !stop.load(Relaxed) {
        let mut connection = Connection::open_to(topology, listener)?;
        for _ in 0..3 {
            connection.exchange(2000).context("a connection broke")?;
        }
        count += 1;
        listener = connection.listener;
        match count % 3 {
            0 => abort(connection.client)?,
            1 => abort(connection.server)?,
            _ => {}
        }
    }
    Ok(count)
}

#[test]
fn daemons_die_at_any_moment() -> Result<()> {
    const POLICIES: [&[&str]; 4] = [
        &["run", "fullmesh"],
        &["run", "ndiffports"],
        &["run", "refresh"],
        &["monitor"],
    ];
    let race = Race::start()?;
    let topology = topology()?;
    let table = Attached::to(&topology.client, Observer)?;
    let mut kept = keep(&topology)?;
    let stop = AtomicBool::new(false);
    let mut random = Random::new(3);
    let opened = scope(|scope| -> Result<usize> {
        let churn = scope.spawn(|| churn(&topology, &stop));
        let raced = (|| -> Result<()> {
            while race.goes_on() && !churn.is_finished() {
                let policy = POLICIES[random.below(4) as usize];
                // Killed when it is dropped.
                let _daemon = Process::start(&topology.client, "smapp", policy)?;
                random.nap(60_000);
                race.cycle();
                for connection in &mut kept {
                    connection
                        .exchange(100)
                        .context("a kept connection broke")?;
                }
            }
            Ok(())
        })();
        stop.store(true, Relaxed);
        let opened = churn.join().expect("no panic")?;
        raced.map(|()| opened)
    })?;
    ensure!(opened > 0, "no connection came and went");
    // The next one picks up what they have left.
    let last = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    let mut manager = PathManager::of(&topology.client)?;
    quiet(&topology.client, KEPT)?;
    wait_for(
        "subflows from both addresses",
        smapp_tests::DEADLINE,
        || {
            for connection in manager.connections()? {
                let mut from: Vec<_> = connection
                    .subflows
                    .iter()
                    .map(|s| s.local_address)
                    .collect();
                from.sort();
                from.dedup();
                ensure!(from.len() == 2, "{connection:#?}");
            }
            Ok(())
        },
    )?;
    for connection in &mut kept {
        connection
            .exchange(1000)
            .context("a kept connection broke")?;
    }
    quiet(&topology.client, KEPT)?;
    table.compare(&topology.client)?;
    println!("{opened} connections opened meanwhile");
    drop((last, manager, kept));
    drop(topology);
    race.end("daemons killed")
}

#[test]
fn two_engines_manage_the_same_connections() -> Result<()> {
    let race = Race::start()?;
    let topology = topology()?;
    let of = |seed| Fullmesh::new(fullmesh::Options::default(), seed);
    let tables = [
        Attached::to(&topology.client, of(1))?,
        Attached::to(&topology.client, of(2))?,
        Attached::to(&topology.server, Observer)?,
    ];
    let mut kept = keep(&topology)?;
    let mut manager = PathManager::with_events(&topology.client, smapp::EventSet::default())?;
    let stop = AtomicBool::new(false);
    let opened = scope(|scope| -> Result<usize> {
        let churns = [(); 2].map(|()| scope.spawn(|| churn(&topology, &stop)));
        let raced = (|| -> Result<()> {
            while race.goes_on() && churns.iter().all(|churn| !churn.is_finished()) {
                for connection in &mut kept {
                    connection
                        .exchange(100)
                        .context("a kept connection broke")?;
                }
                // A third one who does what neither wants.
                for connection in manager.connections()? {
                    for subflow in connection.subflows.iter().filter(|s| !s.initial) {
                        let _ = manager.destroy(connection.token, subflow.id);
                    }
                    let _ = manager.create(connection.token, over_second_path(&kept[0])?);
                }
                race.cycle();
            }
            Ok(())
        })();
        stop.store(true, Relaxed);
        let mut opened = 0;
        for churn in churns {
            opened += churn.join().expect("no panic")?;
        }
        raced.map(|()| opened)
    })?;
    quiet(&topology.client, KEPT)?;
    quiet(&topology.server, KEPT)?;
    for connection in &mut kept {
        connection
            .exchange(1000)
            .context("a kept connection broke")?;
    }
    let [one, two, server] = tables;
    one.compare(&topology.client)?;
    two.compare(&topology.client)?;
    server.compare(&topology.server)?;
    println!("{opened} connections opened meanwhile");
    drop((manager, kept));
    drop(topology);
    race.end("rounds against two engines")
}
