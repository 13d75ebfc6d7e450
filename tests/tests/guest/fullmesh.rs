// SPDX-License-Identifier: GPL-2.0
//! The daemon `smapp run fullmesh` as a process beside the connections.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use smapp::{Errno, EventKind, EventSet};
use smapp_tests::{
    Connection, DEADLINE, Family, Fault, Path, PathManager, Process, SmallQueues, Topology,
    wait_for,
};

use super::{LONG, connect, flood, initial, joined_on, policy, subflow_on};

fn fullmesh(topology: &Topology) -> Result<Process> {
    policy(&topology.client, "fullmesh")
}

#[test]
fn a_connection_gets_a_subflow_from_each_address() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        let connection = client.wait_for_subflows(token, 2)?;
        let mut from: Vec<_> = connection
            .subflows
            .iter()
            .map(|subflow| subflow.local_address)
            .collect();
        from.sort();
        assert_eq!(
            from,
            [Path::First.client(family), Path::Second.client(family)]
        );
    }
    Ok(())
}

#[test]
fn data_flows_on_both_paths() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    connection.transfer(300_000)?;
    for subflow in client.connection(token)?.subflows {
        let info = subflow.tcp_info.context("conn-get without tcp_info")?;
        ensure!(
            info.bytes_acked > 30_000,
            "{} of 300000 bytes: {subflow:?}",
            info.bytes_acked
        );
    }
    Ok(())
}

#[test]
fn each_connection_gets_its_own_subflows() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    let connections: Vec<_> = (0..5)
        .map(|_| connect(&topology, Family::V4, &mut client))
        .collect::<Result<_>>()?;
    for (_, token) in &connections {
        client.wait_for_subflows(*token, 2)?;
    }
    Ok(())
}

#[test]
fn a_daemon_that_starts_late_catches_up() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 1)?;
    let _fullmesh = fullmesh(&topology)?;
    client.wait_for_subflows(token, 2).map(drop)
}

#[test]
fn an_address_that_appears_gets_a_subflow() -> Result<()> {
    let topology = Topology::new()?;
    topology.remove_address(Path::Second)?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        client.wait_for_subflows(token, 1)?;
        topology.add_address(Path::Second)?;
        client.wait_for_subflows(token, 2)?;
        topology.remove_address(Path::Second)?;
    }
    Ok(())
}

#[test]
fn the_subflow_of_an_address_that_goes_is_closed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let second = subflow_on(&mut client, token, Path::Second)?;
    topology.remove_address(Path::Second)?;
    client.expect_subflow(EventKind::SubflowClosed, second)?;
    connection.exchange(1000)?;
    topology.add_address(Path::Second)?;
    joined_on(&mut client, token, Path::Second, DEADLINE).map(drop)
}

#[test]
fn a_subflow_that_was_reset_comes_back() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        client.wait_for_subflows(token, 2)?;
        let first = initial(&mut client, token)?;
        topology.break_path(Path::First, Fault::Reset)?;
        connection.exchange(1000)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, first)?;
        assert_eq!(closed.errno, Some(Errno::ECONNRESET));
        topology.repair_path(Path::First, Fault::Reset)?;
        joined_on(&mut client, token, Path::First, LONG)?;
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn a_path_that_was_dead_comes_back() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.set_sysctl("ipv4/tcp_retries2", "3")?;
    topology.client.set_sysctl("ipv4/tcp_syn_retries", "1")?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = fullmesh(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let first = initial(&mut client, token)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    connection.exchange(1000)?;
    client.expect_subflow_within(LONG, EventKind::Timeout, first)?;
    let closed = client.expect_subflow_within(LONG, EventKind::SubflowClosed, first)?;
    assert_eq!(closed.errno, Some(Errno::ETIMEDOUT));
    // At least one attempt fails as well, before the path is there again.
    client.expect_within(LONG, EventKind::SubflowClosed, |event| event.token == token)?;
    topology.repair_path(Path::First, Fault::Blackhole)?;
    joined_on(&mut client, token, Path::First, LONG)?;
    connection.exchange(1000)
}

#[test]
fn the_death_of_the_daemon_breaks_nothing() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = fullmesh(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    daemon.signal(Signal::KILL)?;
    daemon.wait()?;
    connection.transfer(100_000)?;
    client.wait_for_subflows(token, 2)?;
    // The next one finds everything as it should be, and adds what came meanwhile.
    let (_other, later) = connect(&topology, Family::V4, &mut client)?;
    let _fullmesh = fullmesh(&topology)?;
    client.wait_for_subflows(later, 2)?;
    client.wait_for_subflows(token, 2)?;
    connection.exchange(1000)
}

#[test]
fn ctrl_c_ends_the_daemon_and_keeps_the_subflows() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = fullmesh(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V6, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    daemon.interrupt()?;
    client.wait_for_subflows(token, 2)?;
    connection.exchange(1000)
}

#[test]
fn a_closed_connection_is_left_alone() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = fullmesh(&topology)?;
    let connection = Connection::establish(&topology, Family::V4)?;
    let token = client.created()?;
    client.wait_for_subflows(token, 2)?;
    connection.abort()?;
    client.expect(EventKind::Closed, |event| event.token == token)?;
    wait_for("an empty list", DEADLINE, || {
        ensure!(client.connections()?.is_empty(), "a connection is left");
        Ok(())
    })?;
    // It goes on to work for others.
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    ensure!(!daemon.ended()?, "the daemon has ended");
    Ok(())
}

#[test]
fn a_daemon_that_lost_events_catches_up() -> Result<()> {
    let topology = Topology::new()?;
    let _small = SmallQueues::new()?;
    topology.remove_address(Path::Second)?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = fullmesh(&topology)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    drop(client);
    daemon.signal(Signal::STOP)?;
    // What the daemon does not hear of: a new connection, behind a flood.
    topology.add_address(Path::Second)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    let mut commands = PathManager::with_events(&topology.client, EventSet::default())?;
    flood(&mut commands, &connection, token)?;
    topology.repair_path(Path::Second, Fault::Blackhole)?;
    let _other = Connection::establish(&topology, Family::V4)?;
    let listed = commands.connections()?;
    let other = listed
        .iter()
        .map(|listed| listed.token)
        .find(|&listed| listed != token);
    let other = other.context("the new connection is not listed")?;
    commands.wait_for_subflows(other, 1)?;
    daemon.signal(Signal::CONT)?;
    commands.wait_for_subflows(other, 2)?;
    ensure!(!daemon.ended()?, "the daemon has ended");
    Ok(())
}
