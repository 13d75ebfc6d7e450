// SPDX-License-Identifier: GPL-2.0
//! Which paths `smapp run fullmesh` uses when addresses, interfaces and routes come, go and
//! move, as they do on machines with several networks.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use smapp::{EventKind, Kernel, Subflow, Token};
use smapp_tests::traffic::{listen, socket};
use smapp_tests::{
    Connection, DEADLINE, Family, Netns, Path, PathManager, Process, Topology, wait_for,
};
use socket2::Protocol;

use super::{LONG, connect, joined_on, policy, subflow_on};

/// Longer than any reaction, and shorter than any delay after a failure.
const SOON: Duration = Duration::from_secs(3);

/// Lines of `ip -batch` that give the client another address on its second path.
fn another(family: Family, host: u32, flags: &str) -> String {
    match family {
        Family::V4 => format!(
            "address add 10.0.2.{host}/24 dev eth1 {flags}\nrule add from 10.0.2.{host} table 2\n"
        ),
        Family::V6 => format!(
            "address add fd00:2::{host}/64 dev eth1 nodad {flags}\n\
             rule add from fd00:2::{host} table 2\n"
        ),
    }
}

/// Local addresses of the subflows of a connection.
fn from(client: &mut PathManager, token: Token, count: usize) -> Result<Vec<String>> {
    let subflows = client.wait_for_subflows(token, count)?.subflows;
    let mut from: Vec<_> = subflows
        .iter()
        .map(|s| s.local_address.to_string())
        .collect();
    from.sort();
    Ok(from)
}

#[test]
fn deprecated_addresses_get_no_subflows() -> Result<()> {
    let topology = Topology::new()?;
    let lines = another(Family::V6, 8, "preferred_lft 0") + &another(Family::V6, 9, "");
    topology.client.ip_of(Family::V6, &lines)?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = policy(&topology.client, "fullmesh")?;
    let (_connection, token) = connect(&topology, Family::V6, &mut client)?;
    let expected = ["fd00:1::2", "fd00:2::2", "fd00:2::9"];
    assert_eq!(from(&mut client, token, 3)?, expected);
    // One that becomes so keeps its subflow and gets no other.
    topology.client.ip_of(
        Family::V6,
        "address change fd00:2::9/64 dev eth1 preferred_lft 0\n",
    )?;
    topology
        .client
        .ip_of(Family::V6, &another(Family::V6, 7, ""))?;
    let expected = ["fd00:1::2", "fd00:2::2", "fd00:2::7", "fd00:2::9"];
    assert_eq!(from(&mut client, token, 4)?, expected);
    let known = client.connection(token)?.subflows;
    let old = known
        .iter()
        .find(|s| s.local_address.to_string() == "fd00:2::9");
    client.destroy(token, old.context("it is gone")?.id)?;
    topology
        .client
        .ip_of(Family::V6, &another(Family::V6, 6, ""))?;
    let expected = ["fd00:1::2", "fd00:2::2", "fd00:2::6", "fd00:2::7"];
    assert_eq!(from(&mut client, token, 4)?, expected);
    Ok(())
}

#[test]
fn each_interface_comes_before_a_second_address_of_one() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let lines = match family {
            Family::V4 => "address add 10.0.1.7/24 dev eth0\nrule add from 10.0.1.7 table 1\n",
            Family::V6 => {
                "address add fd00:1::7/64 dev eth0 nodad\nrule add from fd00:1::7 table 1\n"
            }
        };
        topology.client.ip_of(family, lines)?;
        let mut client = PathManager::of(&topology.client)?;
        let _fullmesh = policy(&topology.client, "fullmesh --max-subflows 2")?;
        let (_connection, token) = connect(&topology, family, &mut client)?;
        client.wait_for_subflows(token, 2)?;
        subflow_on(&mut client, token, Path::Second)?;
    }
    Ok(())
}

/// The address of the second path changes, as with DHCP, while the server, which has the
/// kernel's own path manager and its limits, must take each of them.
#[test]
fn two_paths_remain_however_often_an_address_changes() -> Result<()> {
    let topology = Topology::new()?;
    topology.server.manage_by_kernel()?;
    topology.server.ip("mptcp limits set subflows 1\n")?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = policy(&topology.client, "fullmesh")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let mut old = "10.0.2.2".to_owned();
    for host in 10..20 {
        topology.client.ip_of(
            Family::V4,
            &format!(
                "address delete {old}/24 dev eth1\n{}\
                 route replace default via 10.0.2.1 dev eth1 table 2\n\
                 route replace default via 10.0.2.1 dev eth1 metric 2\n",
                another(Family::V4, host, "")
            ),
        )?;
        old = format!("10.0.2.{host}");
        let expected = ["10.0.1.2".to_owned(), old.clone()];
        wait_for("the new address", DEADLINE, || {
            let subflows = client.connection(token)?.subflows;
            let joined = subflows.iter().filter(|s| s.has_joined());
            let from: Vec<_> = joined.map(|s| s.local_address.to_string()).collect();
            ensure!(expected.iter().all(|e| from.contains(e)), "{from:?}");
            ensure!(subflows.len() == 2, "{subflows:#?}");
            Ok(())
        })?;
        connection.exchange(1000)?;
    }
    assert_eq!(topology.client.counter("RmAddrTx")?, 10);
    Ok(())
}

/// Answers to the second address come in over the first interface.
#[test]
fn a_subflow_takes_what_comes_in_by_another_interface() -> Result<()> {
    let topology = Topology::new()?;
    topology
        .router
        .ip_of(Family::V4, "route add 10.0.2.2/32 via 10.0.1.2 dev c0\n")?;
    topology
        .router
        .ip_of(Family::V6, "route add fd00:2::2/128 via fd00:1::2 dev c0\n")?;
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = policy(&topology.client, "fullmesh")?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let subflows = client.wait_for_subflows(token, 2)?.subflows;
        ensure!(
            subflows.iter().all(|s| s.ifindex.is_none()),
            "{subflows:#?}"
        );
        connection.exchange(1000)?;
    }
    Ok(())
}

/// Without rules for its address the second path is used by those who are bound to it.
#[test]
fn a_subflow_is_bound_if_it_would_leave_by_another_interface() -> Result<()> {
    let topology = Topology::new()?;
    for family in Family::BOTH {
        let local = Path::Second.client(family);
        topology
            .client
            .ip_of(family, &format!("rule delete from {local} table 2\n"))?;
    }
    let mut client = PathManager::of(&topology.client)?;
    let _fullmesh = policy(&topology.client, "fullmesh")?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        let subflows = client.wait_for_subflows(token, 2)?.subflows;
        let second = subflows
            .iter()
            .find(|s| s.local_address == Path::Second.client(family));
        let second = second.context("no subflow there")?;
        ensure!(second.ifindex.is_some(), "{second:#?}");
    }
    Ok(())
}

#[test]
fn a_route_that_comes_late_is_used_at_once() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let local = Path::Second.client(family);
        let router = match family {
            Family::V4 => "10.0.2.1",
            Family::V6 => "fd00:2::1",
        };
        topology.client.ip_of(
            family,
            "route delete default dev eth1 table 2\nroute delete default dev eth1 metric 2\n",
        )?;
        let mut client = PathManager::of(&topology.client)?;
        let mut fullmesh = policy(&topology.client, "fullmesh")?;
        let (_connection, token) = connect(&topology, family, &mut client)?;
        fullmesh.expect("to wait", DEADLINE, |line| {
            line.contains(&local.to_string()) && line.contains("when routes")
        })?;
        // The next look without a reason would be much later.
        std::thread::sleep(Duration::from_secs(40));
        topology.client.ip_of(
            family,
            &format!("route add default via {router} dev eth1 table 2\n"),
        )?;
        joined_on(&mut client, token, Path::Second, SOON)?;
    }
    Ok(())
}

/// As a bridge of containers: an interface that is up, with addresses and without a way out.
#[test]
fn a_network_that_leads_nowhere_is_not_tried() -> Result<()> {
    let topology = Topology::new()?;
    topology
        .client
        .ip("link add docker0 type dummy\nlink set docker0 up\n\
         address add 172.17.0.1/16 dev docker0\naddress add fd00:17::1/64 dev docker0 nodad\n")?;
    let mut client = PathManager::of(&topology.client)?;
    let mut fullmesh = policy(&topology.client, "fullmesh")?;
    for (family, nowhere) in [(Family::V4, "172.17.0.1"), (Family::V6, "fd00:17::1")] {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        fullmesh.expect("to say so", DEADLINE, |line| {
            line.contains(nowhere) && line.contains("when routes")
        })?;
        std::thread::sleep(Duration::from_secs(200));
        client.wait_for_subflows(token, 2)?;
    }
    let lines = fullmesh.seen().iter();
    let opened: Vec<_> = lines
        .filter(|line| line.contains("opening subflow"))
        .filter(|line| line.contains("172.17") || line.contains("fd00:17"))
        .collect();
    ensure!(opened.is_empty(), "{opened:#?}");
    // ARP requests are what a SYN would have come to.
    assert_eq!(sent_arp(&topology.client)?, 0);
    Ok(())
}

/// IPv4 packets and ARP requests that the client has sent over its bridge.
fn sent_arp(host: &Netns) -> Result<u64> {
    let name = "/proc/thread-self/net/arp";
    let text = host.enter(|| fs::read_to_string(name))?;
    Ok(text.lines().filter(|line| line.contains("docker0")).count() as u64)
}

#[test]
fn a_family_that_the_socket_does_not_take_is_left() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut fullmesh = policy(&topology.client, "fullmesh")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let theirs = server.created()?;
    let v6 = "fd00:3::2".parse()?;
    server.client().announce(theirs, v6, None)?;
    fullmesh.expect("to leave it", DEADLINE, |line| {
        line.contains("takes the family of the server only")
    })?;
    std::thread::sleep(Duration::from_secs(200));
    client.wait_for_subflows(token, 2)?;
    connection.exchange(1000)?;
    while fullmesh.line(Duration::ZERO).is_some() {}
    let lines = fullmesh.seen().iter();
    let about: Vec<_> = lines.filter(|line| line.contains("fd00:3::2")).collect();
    assert_eq!(about.len(), 1, "{about:#?}");
    Ok(())
}

/// Whether the initial subflow of a connection is backup.
fn is_backup(client: &mut PathManager, token: Token, wanted: bool) -> Result<()> {
    wait_for("the priority", DEADLINE, || {
        let subflows = client.connection(token)?.subflows;
        let initial = subflows.iter().find(|s| s.initial).context("it is gone")?;
        ensure!(initial.backup == wanted, "{initial:#?}");
        Ok(())
    })
}

#[test]
fn a_metered_path_that_a_connection_began_on_is_backup() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let _fullmesh = policy(&topology.client, "fullmesh --metered eth0")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    is_backup(&mut client, token, true)?;
    // The peer has heard of it, and most data takes the other path in both directions.
    server.expect(EventKind::SubflowPriority, |event| {
        event.subflow().is_some_and(|s| s.initial && s.backup_peer)
    })?;
    let before = topology.client.sent("eth0")?;
    connection.transfer(300_000)?;
    let metered = topology.client.sent("eth0")? - before;
    ensure!(metered < 100_000, "{metered} bytes over the metered path");
    topology.remove_address(Path::Second)?;
    is_backup(&mut client, token, false)?;
    topology.add_address(Path::Second)?;
    is_backup(&mut client, token, true)
}

/// Open a connection whose program has bound its socket to the first interface.
fn connect_bound(topology: &Topology, client: &mut PathManager) -> Result<(Connection, Token)> {
    let listener = listen(&topology.server, "10.0.3.2".parse()?, Protocol::MPTCP)?;
    let to: SocketAddr = listener.local_addr()?;
    let near = topology.client.enter(|| -> Result<std::net::TcpStream> {
        let socket = socket(Family::V4, Protocol::MPTCP)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.connect(&to.into())?;
        Ok(OwnedFd::from(socket).into())
    })?;
    let (far, _) = listener.accept()?;
    far.set_read_timeout(Some(DEADLINE))?;
    far.set_write_timeout(Some(DEADLINE))?;
    let mut connection = Connection {
        client: near,
        server: far,
        listener,
    };
    connection.exchange(1)?;
    let token = client.created()?;
    client.established(token)?;
    Ok((connection, token))
}

/// `smapp run --config` with these rules.
fn daemon(topology: &Topology, rules: &str) -> Result<Process> {
    let mut file = tempfile()?;
    file.0.write_all(rules.as_bytes())?;
    policy(&topology.client, &format!("--config {}", file.1))
}

fn tempfile() -> Result<(fs::File, String)> {
    let path = format!("/tmp/smapp-paths-{}.toml", std::process::id());
    Ok((fs::File::create(&path)?, path))
}

#[test]
fn a_program_that_is_bound_to_a_device_stays_there_unless_a_rule_lets_it_leave() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.ip_of(
        Family::V4,
        "address add 10.0.1.7/24 dev eth0\nrule add from 10.0.1.7 table 1\n",
    )?;
    let mut client = PathManager::of(&topology.client)?;
    {
        let _fullmesh = policy(&topology.client, "fullmesh")?;
        let (_connection, token) = connect_bound(&topology, &mut client)?;
        let subflows = client.wait_for_subflows(token, 2)?.subflows;
        let bound =
            |s: &Subflow| s.ifindex.is_some() && s.local_address.to_string().starts_with("10.0.1.");
        ensure!(subflows.iter().all(bound), "{subflows:#?}");
    }
    let rules = "[[rule]]\nbound-interface = \"eth0\"\nunbind = true\npolicy = \"fullmesh\"\n\
                 [[rule]]\npolicy = \"none\"\n";
    let _daemon = daemon(&topology, rules)?;
    let (_connection, token) = connect_bound(&topology, &mut client)?;
    joined_on(&mut client, token, Path::Second, LONG)?;
    client.wait_for_subflows(token, 3)?;
    // The rule is not for those that are not bound.
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 1).map(drop)
}
