// SPDX-License-Identifier: GPL-2.0
//! The policy `backup` (section 4.2 of the paper) as a process beside the connections.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use smapp::{Event, EventKind, SubflowId, Token};
use smapp_tests::{Connection, Family, Fault, Path, PathManager, Topology};

use super::{LONG, connect, initial, joined_on, policy};

/// A threshold that the RTO of a path without a carrier does not reach.
const RTO: Duration = Duration::from_secs(5);

/// Write to a path that may be dead: this fits into the socket buffers.
fn write(connection: &mut Connection) -> Result<()> {
    let written = connection.client.write_all(&[7; 1000]);
    written.context("cannot write")
}

/// What was written has come to the server, and more can follow.
fn is_through(connection: &mut Connection) -> Result<()> {
    let mut received = [0; 1000];
    let read = connection.server.read_exact(&mut received);
    read.context("what was written has not come")?;
    ensure!(received == [7; 1000], "other bytes came");
    connection.exchange(1000)
}

/// Cut the first path and write until the connection has moved to the second; the
/// number of the subflow there.
fn move_away(
    topology: &Topology,
    client: &mut PathManager,
    connection: &mut Connection,
    token: Token,
) -> Result<SubflowId> {
    let first = initial(client, token)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    write(connection)?;
    let second = joined_on(client, token, Path::Second, LONG)?;
    client.expect_subflow(EventKind::SubflowClosed, first)?;
    Ok(second.id)
}

#[test]
fn the_backup_is_opened_when_the_rto_exceeds_the_threshold() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let _backup = policy(&topology.client, "backup")?;
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.transfer(100_000)?;
        connection.be_patient(LONG)?;
        move_away(&topology, &mut client, &mut connection, token)?;
        is_through(&mut connection)?;
        // Nothing but the RTO has opened it.
        let seen = client.seen();
        let joins = seen.iter().filter(|event| is_join(event)).count();
        assert_eq!(joins, 1, "{seen:#?}");
        let before = seen.iter().take_while(|event| !is_join(event));
        let longest = before.filter_map(|event| event.subflow()?.rto).max();
        ensure!(longest.is_some_and(|rto| rto > 1_000_000), "{seen:#?}");
        client.wait_for_subflows(token, 1)?;
    }
    Ok(())
}

fn is_join(event: &Event) -> bool {
    event.kind() == EventKind::SubflowEstablished
}

#[test]
fn a_path_without_a_carrier_is_left_though_its_rto_stays_below_the_threshold() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let _backup = policy(&topology.client, "backup --rto 5s")?;
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.transfer(100_000)?;
        connection.be_patient(LONG)?;
        topology.router.ip("link set c0 down\n")?;
        write(&mut connection)?;
        // The threshold, and a try of at most as long.
        joined_on(&mut client, token, Path::Second, 2 * RTO)?;
        is_through(&mut connection)?;
    }
    Ok(())
}

#[test]
fn the_connection_goes_back_when_the_primary_works_again() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _backup = policy(&topology.client, "backup --fail-back 5s")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    connection.be_patient(LONG)?;
    let second = move_away(&topology, &mut client, &mut connection, token)?;
    topology.repair_path(Path::First, Fault::Blackhole)?;
    joined_on(&mut client, token, Path::First, LONG)?;
    client.expect_subflow(EventKind::SubflowClosed, second)?;
    is_through(&mut connection)?;
    client.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn a_primary_that_is_still_dead_is_given_up_soon() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut backup = policy(&topology.client, "backup --fail-back 5s")?;
    let (mut connection, token) = connect(&topology, Family::V6, &mut client)?;
    connection.be_patient(LONG)?;
    let second = move_away(&topology, &mut client, &mut connection, token)?;
    // The kernel would go on with the SYN for more than a minute.
    backup.expect("to stay", LONG, |line| line.contains("staying for a while"))?;
    is_through(&mut connection)?;
    let connection = client.wait_for_subflows(token, 1)?;
    assert_eq!(connection.subflows[0].id, second);
    Ok(())
}

#[test]
fn two_dead_paths_do_not_end_the_connection() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut backup = policy(&topology.client, "backup")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    connection.be_patient(LONG)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    write(&mut connection)?;
    backup.expect("to try", LONG, |line| line.contains("opening subflow"))?;
    backup.expect("to give up", LONG, |line| line.contains("no other path"))?;
    topology.repair_path(Path::First, Fault::Blackhole)?;
    is_through(&mut connection)?;
    let known = client.connection(token)?;
    ensure!(known.subflows.iter().any(|s| s.initial), "{known:#?}");
    Ok(())
}

#[test]
fn a_primary_that_was_reset_is_opened_again() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _backup = policy(&topology.client, "backup")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let first = initial(&mut client, token)?;
    topology.break_path(Path::First, Fault::Reset)?;
    write(&mut connection)?;
    client.expect_subflow(EventKind::SubflowClosed, first)?;
    topology.repair_path(Path::First, Fault::Reset)?;
    client.expect_within(LONG, EventKind::SubflowEstablished, |_| true)?;
    connection.be_patient(LONG)?;
    is_through(&mut connection)
}
