// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading the module.

use std::ffi::CStr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::io::Errno;
use smapp::{EventKind, EventSet, Kernel, SubflowCreate};
use smapp_tests::module::{self, LoadAgain};
use smapp_tests::traffic::listen;
use smapp_tests::{
    DEADLINE, Family, KernelLog, Path, PathManager, Process, Topology, topology, wait_for,
};
use socket2::Protocol;

use super::{connect, join, over_second_path};

/// Connections that are closed linger for a minute or so.
const LINGER: Duration = Duration::from_secs(150);

/// Wait until nobody uses the module, and unload it.
pub(super) fn remove() -> Result<()> {
    wait_for("rmmod", LINGER, || {
        module::remove().map_err(|errno| anyhow!("rmmod: {errno}"))
    })
}

/// Load the module anew, with its parameters and its counters.
pub(super) fn reload(parameters: &CStr) -> Result<()> {
    remove()?;
    module::insert_with(parameters)
}

#[test]
fn a_parameter_limits_the_subflows_of_a_peer() -> Result<()> {
    let _again = LoadAgain;
    reload(c"peer_subflows=1")?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    join(&mut client, &connection, token)?;
    client.wait_for_subflows(token, 2)?;
    let second = client.create(token, over_second_path(&connection)?)?;
    client.expect_subflow(EventKind::SubflowClosed, second.id)?;
    client.wait_for_subflows(token, 2)?;
    connection.exchange(1000)?;
    drop((connection, client));
    drop(topology);
    reload(c"")
}

#[test]
fn a_parameter_limits_the_subflows_from_one_address() -> Result<()> {
    let _again = LoadAgain;
    reload(c"peer_address_subflows=2")?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let from = |path: Path| -> Result<SubflowCreate> {
            let remote = connection.server_address()?;
            Ok(SubflowCreate::to(remote).local_address(path.client(family)))
        };
        let wanted = [from(Path::First)?, from(Path::Second)?, from(Path::Second)?];
        for subflow in wanted {
            let subflow = client.create(token, subflow)?;
            client.joined(subflow.id)?;
        }
        client.wait_for_subflows(token, 4)?;
        // The initial subflow counts as one from its address.
        for path in [Path::First, Path::Second] {
            let third = client.create(token, from(path)?)?;
            client.expect_subflow(EventKind::SubflowClosed, third.id)?;
            client.wait_for_subflows(token, 4)?;
        }
        connection.exchange(1000)?;
    }
    drop(client);
    drop(topology);
    reload(c"")
}

#[test]
fn a_parameter_decides_on_echoes_without_a_listener() -> Result<()> {
    let _again = LoadAgain;
    for (parameters, echoed) in [(c"echo_add_addr=0", false), (c"", true)] {
        reload(parameters)?;
        let topology = Topology::new()?;
        // Nobody listens to add_addr.
        let events = EventSet::of(&[EventKind::Created]);
        let mut client =
            PathManager::with_events(&topology.client, events.with(EventKind::Established))?;
        let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
        let second = Path::Second.client(Family::V4);
        client.client().announce(token, second, None)?;
        sleep(Duration::from_secs(1));
        // What is not confirmed is announced again.
        let received = topology.server.counter("AddAddr")?;
        ensure!((received == 1) == echoed, "{received} announcements");
        assert_eq!(topology.client.counter("EchoAdd")?, u64::from(echoed));
    }
    Ok(())
}

#[test]
fn a_listener_elsewhere_does_not_decide_on_echoes() -> Result<()> {
    let _again = LoadAgain;
    for (parameters, echoed) in [(c"echo_add_addr=0", false), (c"", true)] {
        reload(parameters)?;
        let topology = Topology::new()?;
        let _elsewhere = PathManager::of(&topology.router)?;
        let mut client = PathManager::of(&topology.client)?;
        let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
        let second = Path::Second.client(Family::V4);
        client.client().announce(token, second, None)?;
        sleep(Duration::from_secs(1));
        // What is not confirmed is announced again.
        let received = topology.server.counter("AddAddr")?;
        ensure!((received == 1) == echoed, "{received} announcements");
        assert_eq!(topology.client.counter("EchoAdd")?, u64::from(echoed));
    }
    Ok(())
}

#[test]
fn joins_of_this_host_do_not_count_against_the_peer() -> Result<()> {
    let _again = LoadAgain;
    reload(c"peer_subflows=1")?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let theirs = server.created()?;
    server.established(theirs)?;
    // The server opens one to a port of the client.
    let second = Path::Second.client(Family::V4);
    let listener = listen(&topology.client, second, Protocol::MPTCP)?;
    let there = listener.local_addr()?;
    client
        .client()
        .announce(token, second, Some(there.port()))?;
    server.announced(theirs)?;
    let own = server.create(theirs, SubflowCreate::to(there))?;
    server.joined(own.id)?;
    server.wait_for_subflows(theirs, 2)?;
    // The client may still open its one, and no more.
    join(&mut client, &connection, token)?;
    server.wait_for_subflows(theirs, 3)?;
    let refused = client.create(token, over_second_path(&connection)?)?;
    client.expect_subflow(EventKind::SubflowClosed, refused.id)?;
    // What is over does not count.
    let theirs_to_go = client.connection(token)?;
    let gone = theirs_to_go
        .subflows
        .iter()
        .find(|subflow| subflow.active && !subflow.initial)
        .context("no subflow of the client")?;
    client.destroy(token, gone.id)?;
    server.wait_for_subflows(theirs, 2)?;
    join(&mut client, &connection, token)?;
    server.wait_for_subflows(theirs, 3)?;
    connection.exchange(1000)?;
    drop((connection, listener, client, server));
    drop(topology);
    reload(c"")
}

#[test]
fn rmmod_refuses_while_a_connection_is_open() -> Result<()> {
    let _again = LoadAgain;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    assert_eq!(module::remove(), Err(Errno::AGAIN));
    join(&mut client, &connection, token)?;
    connection.exchange(1000)?;
    drop(connection);
    client.expect(EventKind::Closed, |event| event.token == token)?;
    remove()?;
    assert!(!module::is_loaded());
    Ok(())
}

#[test]
fn rmmod_refuses_while_a_socket_listens() -> Result<()> {
    let _again = LoadAgain;
    let topology = Topology::new()?;
    remove()?;
    module::insert()?;
    topology.server.manage_by_smapp()?;
    let listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    assert_eq!(module::remove(), Err(Errno::AGAIN));
    drop(listener);
    remove()
}

#[test]
fn what_was_attached_is_released_before_rmmod() -> Result<()> {
    let _again = LoadAgain;
    remove()?;
    module::insert()?;
    let mut log = KernelLog::from_now()?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        join(&mut client, &connection, token)?;
        connection.abort()?;
    }
    drop(client);
    remove()?;
    let line = log
        .lines()?
        .iter()
        .find(|line| line.contains("smapp_pm: unloaded"))
        .cloned();
    let line = line.with_context(|| format!("no audit in the kernel's log: {:?}", log.lines()))?;
    let numbers: Vec<u32> = line
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let [attached, released] = numbers[..] else {
        return Err(anyhow!("not an audit: {line}"));
    };
    assert_eq!(attached, released);
    // Two connections, each with a socket of the client, a listener and a socket of the server.
    assert_eq!(attached, 6);
    Ok(())
}

#[test]
fn the_module_works_after_rmmod_and_insmod() -> Result<()> {
    let _again = LoadAgain;
    let topology = Topology::new()?;
    for _ in 0..3 {
        remove()?;
        let unknown = topology.client.manage_by_smapp();
        let available = topology.client.sysctl("mptcp/available_path_managers")?;
        ensure!(
            !available.contains("smapp"),
            "without the module: {available} ({unknown:?})"
        );
        module::insert()?;
        let available = topology.client.sysctl("mptcp/available_path_managers")?;
        ensure!(
            available.split(' ').any(|name| name == "smapp"),
            "with the module: {available}"
        );
        topology.client.manage_by_smapp()?;
        let mut client = PathManager::of(&topology.client)?;
        let (connection, token) = connect(&topology, Family::V6, &mut client)?;
        join(&mut client, &connection, token)?;
    }
    Ok(())
}

#[test]
fn a_listener_does_not_hold_the_module_and_is_told() -> Result<()> {
    let _again = LoadAgain;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    daemon.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    remove()?;
    let told = client
        .next(DEADLINE)
        .err()
        .context("an event without the module")?;
    ensure!(told.to_string().contains("unloaded"), "{told:#}");
    let error = client
        .connections()
        .err()
        .context("a command without the module works")?;
    assert_eq!(error.errno(), Some(smapp::Errno::ENOENT), "{error}");
    assert_eq!(daemon.wait()?.code(), Some(1));
    let said = daemon.seen().join("\n");
    ensure!(said.contains("unloaded"), "{said}");
    Ok(())
}
