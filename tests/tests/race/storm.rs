// SPDX-License-Identifier: GPL-2.0
//! Subflows that come and go as fast as they can.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;

use anyhow::{Context, Result, ensure};
use smapp::{Client, Errno, Kernel, SubflowDestroy, Token};
use smapp_tests::{Attached, Connection, Family, Netns, Observer, PathManager, Topology};

use super::over_second_path;
use super::race::{Race, Random, quiet, topology};

/// Opens subflows until it is told to stop.
fn create(topology: &Topology, connection: &Connection, token: Token, race: &Race) -> Result<u64> {
    let mut client = topology.client.enter(Client::connect)?;
    let wanted = over_second_path(connection)?;
    let mut created = 0;
    while race.goes_on() {
        match client.subflow_create(token, &wanted) {
            Ok(_) => created += 1,
            Err(error) if error.errno() == Some(Errno::ENOSPC) => {}
            Err(error) => return Err(error).context("create"),
        }
        race.cycle();
    }
    Ok(created)
}

/// Closes whatever is not the initial subflow, some of them twice, until told to stop.
fn destroy(host: &Netns, token: Token, seed: u64, stop: &AtomicBool) -> Result<u64> {
    let mut client = host.enter(Client::connect)?;
    let mut random = Random::new(seed);
    let mut destroyed = 0;
    while !stop.load(Relaxed) {
        let connection = client.connection(token).context("the connection is gone")?;
        for subflow in connection.subflows.iter().filter(|s| !s.initial) {
            let wanted = SubflowDestroy::id(subflow.id).reset(random.below(2) == 0);
            match client.subflow_destroy(token, &wanted) {
                Ok(()) => destroyed += 1,
                Err(error) if error.errno() == Some(Errno::ESRCH) => {}
                Err(error) => return Err(error).context("destroy"),
            }
        }
    }
    Ok(destroyed)
}

#[test]
fn subflows_are_created_and_destroyed_in_a_storm() -> Result<()> {
    let race = Race::start()?;
    let topology = topology()?;
    let tables = [
        Attached::to(&topology.client, Observer)?,
        Attached::to(&topology.server, Observer)?,
    ];
    let mut here = PathManager::of(&topology.client)?;
    let mut there = PathManager::of(&topology.server)?;
    let mut connection = Connection::establish(&topology, Family::V4)?;
    let mut traffic = Connection {
        client: connection.client.try_clone()?,
        server: connection.server.try_clone()?,
        listener: connection.listener.try_clone()?,
    };
    let token = here.created()?;
    let peer = there.created()?;
    drop((here, there));
    let stop = AtomicBool::new(false);
    let (created, destroyed) = scope(|scope| -> Result<_> {
        let destroyers = [
            (&topology.client, token, 1),
            (&topology.client, token, 2),
            (&topology.server, peer, 3),
        ];
        let stop = &stop;
        let destroyers = destroyers
            .map(|(host, token, seed)| scope.spawn(move || destroy(host, token, seed, stop)));
        let creator = scope.spawn(|| create(&topology, &connection, token, &race));
        let mut exchanged = Ok(());
        while race.goes_on() && exchanged.is_ok() {
            exchanged = traffic.exchange(5000);
        }
        let created = creator.join().expect("no panic");
        stop.store(true, Relaxed);
        let mut destroyed = 0;
        for destroyer in destroyers {
            destroyed += destroyer.join().expect("no panic")?;
        }
        exchanged.context("the connection broke")?;
        Ok((created?, destroyed))
    })?;
    ensure!(
        created > 0 && destroyed > 0,
        "{created} created, {destroyed} destroyed"
    );
    println!("{created} subflows created, {destroyed} destroyed by one of three");
    connection.exchange(10_000).context("after the storm")?;
    for (host, table) in [&topology.client, &topology.server].into_iter().zip(tables) {
        quiet(host, 1)?;
        table.compare(host)?;
    }
    drop((connection, traffic));
    drop(topology);
    race.end("orders to create a subflow")
}
