// SPDX-License-Identifier: GPL-2.0
//! Commands that are refused: each with its errno, and with words that name what
//! is wrong.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use smapp::{Errno, Error, EventSet, Kernel, SubflowCreate, SubflowDestroy, SubflowId, Token};
use smapp_tests::traffic::listen;
use smapp_tests::{Connection, Family, Fault, Path, PathManager, Topology, topology};
use socket2::Protocol;

use super::{connect, over_second_path};

const EAFNOSUPPORT: Errno = Errno(97);
const EADDRINUSE: Errno = Errno(98);

/// The refusal must be this one and its explanation must contain the word.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, errno: Errno, word: &str) {
    match result {
        Err(Error::Refused {
            errno: got,
            message: Some(message),
            ..
        }) => {
            assert_eq!(
                (got, message.contains(word)),
                (errno, true),
                "{message:?} has no {word:?}"
            )
        }
        other => panic!("expected {errno} with {word:?}, got {other:?}"),
    }
}

#[test]
fn an_unknown_token_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let unknown = Token(0x1234_5678);
    let remote = "10.0.3.2:80".parse()?;
    assert_refused(client.connection(unknown), Errno::ESRCH, "token");
    assert_refused(
        client.create(unknown, SubflowCreate::to(remote)),
        Errno::ESRCH,
        "token",
    );
    assert_refused(client.destroy(unknown, SubflowId(1)), Errno::ESRCH, "token");
    Ok(())
}

#[test]
fn a_closed_connection_is_unknown() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let wanted = over_second_path(&connection)?;
    drop(connection);
    client.expect(smapp::EventKind::Closed, |event| event.token == token)?;
    let result = client.create(token, wanted);
    assert_refused(result, Errno::ESRCH, "token");
    Ok(())
}

#[test]
fn the_any_address_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for (family, any) in [(Family::V4, "0.0.0.0:80"), (Family::V6, "[::]:80")] {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        // TCP would take it for the loopback.
        let result = client.create(token, SubflowCreate::to(any.parse()?));
        assert_eq!(
            result.err().and_then(|error| error.errno()),
            Some(Errno::EINVAL)
        );
        assert_eq!(client.connection(token)?.extra_subflows, 0);
    }
    Ok(())
}

#[test]
fn addresses_of_two_families_are_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let wanted = SubflowCreate::to(connection.server_address()?);
    let result = client.create(token, wanted.local_address(Path::Second.client(Family::V6)));
    assert_refused(result, EAFNOSUPPORT, "local-address");
    // An IPv4 socket cannot have a subflow over IPv6 either.
    let result = client.create(token, SubflowCreate::to("[fd00:3::2]:80".parse()?));
    assert_eq!(
        result.err().and_then(|error| error.errno()),
        Some(Errno::EINVAL)
    );
    Ok(())
}

#[test]
fn an_address_of_another_host_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let remote = connection.server_address()?;
        let result = client.create(
            token,
            SubflowCreate::to(remote).local_address(topology::server(family)),
        );
        assert_refused(result, Errno::EADDRNOTAVAIL, "local-address");
        assert_eq!(client.connection(token)?.extra_subflows, 0);
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let address = Path::Second.client(family);
        let busy = listen(&topology.client, address, Protocol::TCP)?;
        let port = busy.local_addr()?.port();
        let result = client.create(token, over_second_path(&connection)?.local_port(port));
        assert_refused(result, EADDRINUSE, "local-port");
        assert_eq!(client.connection(token)?.extra_subflows, 0);
    }
    Ok(())
}

#[test]
fn a_destination_without_a_route_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    topology.client.ip("route add unreachable 192.0.2.0/24\n")?;
    let result = client.create(token, SubflowCreate::to("192.0.2.1:80".parse()?));
    assert_refused(result, Errno::EHOSTUNREACH, "remote-address");
    Ok(())
}

#[test]
fn the_256th_extra_subflow_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::with_events(&topology.client, EventSet::default())?;
    let connection = Connection::establish(&topology, Family::V4)?;
    let token = client.connections()?.pop().context("no connection")?.token;
    // Joins without an answer: the server would not have that many.
    topology.break_path(Path::Second, Fault::Blackhole)?;
    for _ in 0..255 {
        client.create(token, over_second_path(&connection)?)?;
    }
    let result = client.create(token, over_second_path(&connection)?);
    assert_refused(result, Errno::ENOSPC, "as many subflows as it can have");
    // The largest answers that there can be.
    let ids = |connection: &smapp::Connection| -> BTreeSet<SubflowId> {
        connection
            .subflows
            .iter()
            .map(|subflow| subflow.id)
            .collect()
    };
    let alone = client.connection(token)?;
    assert_eq!((alone.extra_subflows, ids(&alone).len()), (255, 256));
    let listed: BTreeSet<_> = client.connections()?.iter().flat_map(ids).collect();
    assert_eq!(listed, ids(&alone));
    Ok(())
}

#[test]
fn a_subflow_before_estab_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let mut connection = Connection::open(&topology, family)?;
        let token = client.created()?;
        let result = client.create(token, over_second_path(&connection)?);
        assert_refused(result, Errno::ENOTCONN, "not established");
        connection.exchange(1)?;
        client.established(token)?;
        let subflow = client.create(token, over_second_path(&connection)?)?;
        client.joined(subflow.id)?;
    }
    Ok(())
}

#[test]
fn a_subflow_to_an_address_that_denies_joins_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    topology
        .server
        .set_sysctl("mptcp/allow_join_initial_addr_port", "0")?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let result = client.create(token, over_second_path(&connection)?);
    assert_refused(result, Errno::EACCES, "initial subflow");
    Ok(())
}

#[test]
fn a_fallback_cannot_have_a_subflow() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let mut connection = Connection::open(&topology, family)?;
        let token = client.created()?;
        // A middlebox lets the handshake pass, and takes the options from the data.
        topology.break_path(Path::First, Fault::Strip)?;
        connection.exchange(1)?;
        assert!(client.connection(token)?.fallback);
        let result = client.create(token, over_second_path(&connection)?);
        assert_refused(result, Errno::EOPNOTSUPP, "fell back");
        let initial = super::initial(&mut client, token)?;
        assert_refused(
            client.destroy(token, initial),
            Errno::EOPNOTSUPP,
            "fell back",
        );
        connection.exchange(1)?;
        topology.repair_path(Path::First, Fault::Strip)?;
    }
    Ok(())
}

#[test]
fn a_connection_to_a_plain_tcp_server_is_not_managed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let listener = listen(&topology.server, topology::server(family), Protocol::TCP)?;
        let mut connection = Connection::open_to(&topology, listener)?;
        connection.exchange(1)?;
        let listed = client.connections()?;
        assert!(listed.is_empty(), "{listed:?}");
    }
    Ok(())
}

#[test]
fn an_unknown_subflow_cannot_be_destroyed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let subflow = super::join(&mut client, &connection, token)?;
    let unknown = SubflowId(subflow.id.0 + 1);
    assert_refused(
        client.destroy(token, unknown),
        Errno::ESRCH,
        "no such subflow",
    );
    let ends = SubflowDestroy::ends(subflow.local(), subflow.local());
    assert_refused(client.destroy(token, ends), Errno::ESRCH, "no such subflow");
    assert_refused(
        client.client().subflow_set_backup(token, unknown, true),
        Errno::ESRCH,
        "no such subflow",
    );
    client.destroy(token, subflow.id)?;
    assert_refused(
        client.destroy(token, subflow.id),
        Errno::ESRCH,
        "no such subflow",
    );
    connection.exchange(1)
}

#[test]
fn a_subflow_that_is_joining_cannot_be_changed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    let subflow = client.create(token, over_second_path(&connection)?)?;
    let result = client.client().subflow_set_backup(token, subflow.id, true);
    assert_refused(result, Errno::ENOTCONN, "not joined");
    Ok(())
}
