// SPDX-License-Identifier: GPL-2.0
//! What a user, a peer and the daemon itself cannot do: docs/security.md.

use std::fs;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use smapp::{Errno, EventKind, Kernel, Token};
use smapp_tests::{
    Capture, DEADLINE, Family, Fault, Netns, Path, PathManager, Process, Topology, topology,
    wait_for,
};

use super::connect;

const NOBODY: u32 = 65534;

/// Runs a line of shell as a user without any privilege; its status and what it said.
fn as_nobody(host: &Netns, line: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("sh");
    command.args(["-c", line]).uid(NOBODY).gid(NOBODY);
    let mut process = Process::start_command(host, command)?;
    let status = process.wait()?;
    Ok((status.code(), process.seen().join("\n")))
}

#[test]
fn a_user_namespace_gives_no_power_over_the_network_of_the_host() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    for line in [
        "connection list",
        "monitor",
        "stats",
        "run fullmesh",
        &format!("subflow add {token} from 10.0.2.2"),
    ] {
        let (status, said) = as_nobody(&topology.client, &format!("unshare -r smapp {line}"))?;
        assert_eq!(status, Some(1), "{line}: {said}");
        ensure!(said.contains("CAP_NET_ADMIN"), "{line}: {said}");
    }
    client.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn a_user_namespace_with_its_own_network_sees_only_that() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    let own = |line: &str| as_nobody(&topology.client, &format!("unshare -r -n smapp {line}"));
    let (status, said) = own("--json connection list")?;
    assert_eq!((status, said.as_str()), (Some(0), ""));
    for line in [
        format!("connection show {token}"),
        format!("subflow add {token} from 10.0.2.2 to 10.0.3.2:80"),
        format!("address announce {token} 10.0.2.2"),
    ] {
        let (status, said) = own(&line)?;
        assert_eq!(status, Some(1), "{line}: {said}");
        ensure!(said.contains("no such connection"), "{line}: {said}");
    }
    client.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn the_counters_of_the_host_are_for_its_root() -> Result<()> {
    let topology = Topology::new()?;
    // Root over a network of its own, in a user namespace: the counters are not of that network.
    let (status, said) = as_nobody(&topology.client, "unshare -r -n smapp stats")?;
    assert_eq!(status, Some(1), "{said}");
    ensure!(said.contains("CAP_NET_ADMIN"), "{said}");
    // Root of the host has them in whichever network namespace.
    PathManager::of(&topology.server)?.client().statistics()?;
    Ok(())
}

#[test]
fn the_daemon_keeps_one_capability() -> Result<()> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    daemon.expect("running", DEADLINE, |line| line.contains("is running"))?;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value
            .map(str::trim)
            .with_context(|| format!("no {name} in {status}"))
    };
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(
            u64::from_str_radix(field(set)?, 16)?,
            CAP_NET_ADMIN,
            "{set}"
        );
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(set)?, 16)?, 0, "{set}");
    }
    assert_eq!(field("NoNewPrivs:")?, "1");
    // It is enough.
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let text = smapp_tests::netns::tool(
        "ip",
        &[
            "netns",
            "exec",
            topology.client.name(),
            "smapp",
            "why",
            &token.to_string(),
        ],
        "",
    )?;
    ensure!(text.contains("opening subflow"), "{text}");
    daemon.interrupt()
}

/// Has the server announce an address, as soon as the one before is out.
fn announce(server: &mut PathManager, token: Token, address: IpAddr) -> Result<()> {
    wait_for(&format!("{address} announced"), DEADLINE, || {
        server.client().announce(token, address, None)?;
        Ok(())
    })
}

#[test]
fn no_address_of_no_host_is_contacted() -> Result<()> {
    const NOWHERE: [&str; 8] = [
        "127.0.0.1",
        "127.1.2.3",
        "169.254.1.1",
        "240.0.0.1",
        "0.1.2.3",
        "::1",
        "fe80::1",
        // The client's own.
        "10.0.2.2",
    ];
    let topology = Topology::new()?;
    // Another address of the server, the one that may be contacted.
    topology.server.ip("address add 10.0.3.3/24 dev eth0\n")?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut daemon = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    daemon.expect("running", DEADLINE, |line| line.contains("is running"))?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let theirs = server.created()?;
    server.established(theirs)?;
    client.wait_for_subflows(token, 2)?;
    for address in NOWHERE.iter().chain(&["10.0.3.3"]) {
        announce(&mut server, theirs, address.parse()?)?;
        let announced = client.announced(token)?;
        assert_eq!(announced.address.to_string(), *address);
    }
    // The last one is contacted, though nobody listens there; those before it are not.
    let there: IpAddr = "10.0.3.3".parse()?;
    client.expect(EventKind::SubflowClosed, |event| {
        event.subflow().is_some_and(|s| s.remote_address == there)
    })?;
    let contacted = [topology::server(Family::V4), there];
    for subflow in client.seen().iter().filter_map(|event| event.subflow()) {
        ensure!(contacted.contains(&subflow.remote_address), "{subflow:?}");
    }
    for subflow in client.connection(token)?.subflows {
        ensure!(contacted.contains(&subflow.remote_address), "{subflow:?}");
    }
    connection.exchange(1000)?;
    daemon.interrupt()
}

#[test]
fn a_storm_of_resets_is_answered_slower_and_slower() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    topology.break_path(Path::Second, Fault::Reset)?;
    let capture = Capture::start(&topology.client)?;
    let _daemon = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    // After 1, 2, 4, 8, 16 and 32 s: the seventh try is refused a minute after the first.
    for _ in 0..7 {
        let closed =
            client.expect_within(Duration::from_secs(100), EventKind::SubflowClosed, |e| {
                e.token == token
            })?;
        let errno = closed.subflow().and_then(|s| s.errno);
        assert_eq!(errno, Some(Errno::ECONNREFUSED));
    }
    connection.exchange(1000)?;
    let syns = capture.stop()?;
    assert_eq!(syns.len(), 1 + 7, "{syns:?}");
    Ok(())
}
