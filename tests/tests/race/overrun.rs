// SPDX-License-Identifier: GPL-2.0
//! A daemon that sleeps while its queue runs over.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use smapp::{EventKind, EventSet};
use smapp_tests::{
    Connection, DEADLINE, Family, PathManager, Process, SmallQueues, Topology, wait_for,
};

use super::abort;
use super::race::{Race, topology};

/// Connections of which a daemon is not told while it is stopped.
const MISSED: usize = 40;

/// Stops a daemon, lets more happen than its queue holds, and wakes it.
fn oversleep(
    topology: &Topology,
    daemon: &mut Process,
    manager: &mut PathManager<'_>,
) -> Result<()> {
    daemon.signal(Signal::STOP)?;
    let mut kept = Vec::new();
    for number in 0..MISSED {
        let connection = Connection::establish(topology, Family::V4)?;
        if number % 4 == 0 {
            kept.push(connection);
        } else {
            abort(connection.client)?;
        }
    }
    daemon.signal(Signal::CONT)?;
    daemon.expect("to notice", DEADLINE, |line| {
        line.contains("events were lost")
    })?;
    let mut seen = 0;
    wait_for("a second subflow for each connection", DEADLINE, || {
        let connections = manager.connections()?;
        seen = connections.len();
        ensure!(
            connections.len() == kept.len(),
            "{} connections",
            connections.len()
        );
        for connection in connections {
            ensure!(connection.subflows.len() == 2, "{connection:#?}");
        }
        Ok(())
    })
    .with_context(|| format!("{seen} connections, {} kept", kept.len()))?;
    for connection in &mut kept {
        connection.exchange(1000).context("a connection broke")?;
    }
    kept.into_iter()
        .try_for_each(|connection| abort(connection.client))?;
    wait_for("the end of all", DEADLINE, || {
        let left = manager.connections()?.len();
        ensure!(left == 0, "{left} connections");
        Ok(())
    })
}

#[test]
fn a_daemon_that_slept_while_its_queue_ran_over_is_right_again() -> Result<()> {
    let race = Race::start()?;
    let topology = topology()?;
    let mut manager = PathManager::with_events(&topology.client, EventSet::default())?;
    let small = SmallQueues::new()?;
    let mut daemon = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    daemon.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    drop(small);
    while race.goes_on() {
        oversleep(&topology, &mut daemon, &mut manager)?;
        race.cycle();
    }
    // It has not lost count of anything either.
    let mut events = PathManager::of(&topology.client)?;
    let _last = Connection::establish(&topology, Family::V4)?;
    events.expect(EventKind::SubflowEstablished, |_| true)?;
    daemon.interrupt()?;
    drop((_last, events, manager));
    drop(topology);
    race.end("times overslept")
}
