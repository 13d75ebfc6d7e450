// SPDX-License-Identifier: GPL-2.0
//! The policy `limit` (section 3 of the paper) as a process on the server.

use anyhow::{Result, ensure};
use smapp::{Errno, EventKind, EventSet, SubflowCreate, Token};
use smapp_tests::{Connection, Family, Path, PathManager, Topology};

use super::{connect, policy};

/// A subflow from the client's address on a path to the server.
fn from(connection: &Connection, family: Family, path: Path) -> Result<SubflowCreate> {
    Ok(SubflowCreate::to(connection.server_address()?).local_address(path.client(family)))
}

/// Open a subflow, which the server must close.
fn is_closed(client: &mut PathManager, token: Token, create: SubflowCreate) -> Result<()> {
    let id = client.create(token, create)?.id;
    let closed = client.expect_subflow(EventKind::SubflowClosed, id)?;
    assert_eq!(closed.errno, Some(Errno::ECONNRESET));
    Ok(())
}

#[test]
fn a_connection_has_no_more_subflows_than_it_may() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _limit = policy(&topology.server, "limit --subflows 2 --per-address 9")?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let second = client.create(token, from(&connection, family, Path::Second)?)?;
        client.joined(second.id)?;
        is_closed(&mut client, token, from(&connection, family, Path::First)?)?;
        is_closed(&mut client, token, from(&connection, family, Path::Second)?)?;
        client.wait_for_subflows(token, 2)?;
        // One that ends makes room for another.
        client.destroy(token, second.id)?;
        client.expect_subflow(EventKind::SubflowClosed, second.id)?;
        let third = client.create(token, from(&connection, family, Path::First)?)?;
        client.joined(third.id)?;
        connection.exchange(1000)?;
        client.wait_for_subflows(token, 2)?;
    }
    Ok(())
}

#[test]
fn an_address_has_no_more_subflows_than_it_may() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _limit = policy(&topology.server, "limit --subflows 9 --per-address 1")?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        is_closed(&mut client, token, from(&connection, family, Path::First)?)?;
        let second = client.create(token, from(&connection, family, Path::Second)?)?;
        client.joined(second.id)?;
        is_closed(&mut client, token, from(&connection, family, Path::Second)?)?;
        connection.exchange(1000)?;
        client.wait_for_subflows(token, 2)?;
    }
    Ok(())
}

#[test]
fn what_was_there_before_is_cut_down_too() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    for path in [Path::Second, Path::First, Path::Second] {
        let created = client.create(token, from(&connection, Family::V4, path)?)?;
        client.joined(created.id)?;
    }
    let mut server = PathManager::with_events(&topology.server, EventSet::default())?;
    let peer = server.connections()?[0].token;
    server.wait_for_subflows(peer, 4)?;
    let limit = policy(&topology.server, "limit --subflows 2 --per-address 2")?;
    server.wait_for_subflows(peer, 2)?;
    // Who reads its log learns which option closed the others.
    let seen = limit.seen();
    ensure!(
        seen.iter().any(|line| line.contains("(subflows)")),
        "{seen:#?}"
    );
    connection.exchange(1000)?;
    assert!(client.wait_for_subflows(token, 2)?.subflows[0].initial);
    Ok(())
}
