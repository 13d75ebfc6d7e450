// SPDX-License-Identifier: GPL-2.0
//! Who sees what: network namespaces, other path managers, users without privilege.

use anyhow::{Result, ensure};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use smapp::{Address, AddressId, Client, Errno, Error, EventKind, EventSet, Kernel};
use smapp_tests::{Capture, Connection, DEADLINE, Family, Path, PathManager, Topology, wait_for};

use super::{connect, join, over_second_path};

#[test]
fn events_stay_in_their_namespace() -> Result<()> {
    let ours = Topology::new()?;
    let theirs = Topology::new()?;
    let mut here = PathManager::of(&ours.client)?;
    let mut there = PathManager::of(&theirs.client)?;
    // The same addresses in both: only the namespace tells them apart.
    let (connection, foreign) = connect(&theirs, Family::V4, &mut there)?;
    join(&mut there, &connection, foreign)?;
    drop(connection);
    there.expect(EventKind::Closed, |event| event.token == foreign)?;
    let (_connection, token) = connect(&ours, Family::V4, &mut here)?;
    ensure!(
        here.seen().iter().all(|event| event.token == token),
        "{:#?}",
        here.seen()
    );
    Ok(())
}

#[test]
fn connections_stay_in_their_namespace() -> Result<()> {
    let ours = Topology::new()?;
    let theirs = Topology::new()?;
    let mut here = PathManager::of(&ours.client)?;
    let mut there = PathManager::of(&theirs.client)?;
    let (_connection, token) = connect(&ours, Family::V4, &mut here)?;
    let (connection, foreign) = connect(&theirs, Family::V4, &mut there)?;
    let listed: Vec<_> = here
        .connections()?
        .iter()
        .map(|connection| connection.token)
        .collect();
    assert_eq!(listed, [token]);
    let errno = |error: Error| error.errno();
    assert_eq!(
        here.connection(foreign).map_err(errno).err(),
        Some(Some(Errno::ESRCH))
    );
    let wanted = over_second_path(&connection)?;
    assert_eq!(
        here.create(foreign, wanted).map_err(errno).err(),
        Some(Some(Errno::ESRCH))
    );
    let initial = super::initial(&mut there, foreign)?;
    assert_eq!(
        here.destroy(foreign, initial).map_err(errno).err(),
        Some(Some(Errno::ESRCH))
    );
    there.wait_for_subflows(foreign, 1).map(drop)
}

#[test]
fn the_kernels_path_manager_works_beside_smapp() -> Result<()> {
    let topology = Topology::new()?;
    let client = &topology.client;
    client.manage_by_kernel()?;
    let second = Path::Second.client(Family::V4);
    client.ip(&format!(
        "mptcp limits set subflows 2\n\
         mptcp endpoint add {second} dev eth1 subflow fullmesh\n"
    ))?;
    let mut smapp = PathManager::of(client)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut managed_by_kernel = Connection::establish(&topology, Family::V4)?;
    let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
    let joined = event.subflow().map(|subflow| subflow.remote_address);
    assert_eq!(joined, Some(second));
    managed_by_kernel.exchange(1000)?;
    ensure!(
        smapp.connections()?.is_empty(),
        "smapp lists a connection of the kernel's"
    );
    drop(managed_by_kernel);
    server.expect(EventKind::Closed, |_| true)?;
    // The first thing that smapp hears of is a connection of its own.
    client.manage_by_smapp()?;
    let (_connection, token) = connect(&topology, Family::V4, &mut smapp)?;
    assert!(
        smapp.seen().iter().all(|event| event.token == token),
        "{:#?}",
        smapp.seen()
    );
    // And the endpoints are none of its business: no join but those of a daemon.
    smapp.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn the_path_manager_of_a_connection_does_not_change() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    topology.client.manage_by_kernel()?;
    join(&mut client, &connection, token)?;
    drop(connection);
    client
        .expect(EventKind::Closed, |event| event.token == token)
        .map(drop)
}

#[test]
fn without_privilege_nothing_can_be_seen_or_done() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let wanted = over_second_path(&connection)?;
    let initial = super::initial(&mut client, token)?;
    let address = Path::Second.client(Family::V4);
    let refusals = topology.client.enter(|| -> Result<_> {
        // Of this thread only.
        let none = CapabilitySet::empty();
        set_capabilities(
            None,
            CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            },
        )?;
        let mut client = Client::connect()?;
        let mut refusals = vec![
            ("list", client.connections().err()),
            ("show", client.connection(token).err()),
            ("create", client.subflow_create(token, &wanted).err()),
            ("set", client.subflow_set_backup(token, initial, true).err()),
            ("announce", client.announce(token, address, None).err()),
            (
                "withdraw",
                client
                    .withdraw(
                        token,
                        &Address {
                            id: AddressId(1),
                            address,
                            port: None,
                        },
                    )
                    .err(),
            ),
            ("stats", client.statistics().err()),
            (
                "destroy",
                client.subflow_destroy(token, &initial.into()).err(),
            ),
        ];
        for kind in EventKind::ALL {
            let mut client = Client::connect()?;
            refusals.push((kind.word(), client.listen(EventSet::of(&[kind])).err()));
        }
        Ok(refusals)
    })?;
    for (what, refusal) in refusals {
        let errno = refusal.as_ref().and_then(Error::errno);
        assert_eq!(errno, Some(Errno::EPERM), "{what}: {refusal:?}");
    }
    client.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn a_namespace_can_go_with_open_connections_and_listeners() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    join(&mut client, &connection, token)?;
    let name = topology.client.name();
    smapp_tests::netns::tool("ip", &["netns", "delete", name], "")?;
    // It has lost its name only: the sockets keep it alive.
    connection.exchange(1000)?;
    drop(connection);
    client
        .expect(EventKind::Closed, |event| event.token == token)
        .map(drop)
}

#[test]
fn smapp_opens_no_subflow_without_a_daemon() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let capture = Capture::start(&topology.client)?;
    let (mut connection, _) = connect(&topology, Family::V4, &mut client)?;
    connection.transfer(100_000)?;
    drop(connection);
    wait_for("an empty list", DEADLINE, || {
        ensure!(client.connections()?.is_empty(), "a connection is left");
        Ok(())
    })?;
    let syns = capture.stop()?;
    assert_eq!(syns.len(), 1, "{syns:?}");
    Ok(())
}
