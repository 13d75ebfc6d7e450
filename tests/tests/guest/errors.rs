// SPDX-License-Identifier: GPL-2.0
//! Why a subflow ended: the errno of sub_closed tells one cause from another.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use smapp::{Errno, EventKind, SubflowCreate, TcpState};
use smapp_tests::{Family, Fault, Path, PathManager, Topology};

use super::{connect, initial, join, over_second_path};

/// Longer than any of the retransmissions configured here. Time is virtual.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_join_that_is_refused_before_the_answer_is_answered() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    // An address of its own: the RST is there before the SYN is let go of.
    let nobody = (Path::Second.client(Family::V4), 9).into();
    let subflow = client.create(token, SubflowCreate::to(nobody))?;
    assert_eq!(subflow.state, Some(TcpState::CLOSE));
    let closed = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
    assert_eq!(closed.errno, Some(Errno::ECONNREFUSED));
    Ok(())
}

#[test]
fn a_join_to_a_closed_port_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let mut remote = connection.server_address()?;
        remote.set_port(9);
        let wanted = SubflowCreate::to(remote).local_address(Path::Second.client(family));
        let subflow = client.create(token, wanted)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
        assert_eq!(closed.errno, Some(Errno::ECONNREFUSED));
        assert_eq!(client.connection(token)?.extra_subflows, 0);
    }
    Ok(())
}

#[test]
fn a_join_without_an_answer_times_out() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.set_sysctl("ipv4/tcp_syn_retries", "2")?;
    topology
        .client
        .set_sysctl("ipv4/tcp_syn_linear_timeouts", "0")?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        topology.break_path(Path::Second, Fault::Blackhole)?;
        let subflow = client.create(token, over_second_path(&connection)?)?;
        let closed = client.expect_subflow_within(LONG, EventKind::SubflowClosed, subflow.id)?;
        assert_eq!(closed.errno, Some(Errno::ETIMEDOUT));
        let is_it = |subflow_of: &&smapp::Event| {
            subflow_of.kind() == EventKind::Timeout && subflow_of.token == token
        };
        assert_eq!(
            client.seen().iter().filter(is_it).count(),
            2,
            "one a retransmission"
        );
        topology.repair_path(Path::Second, Fault::Blackhole)?;
    }
    Ok(())
}

#[test]
fn a_join_tells_what_icmp_said() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for (family, errno) in [
        (Family::V4, Errno::EHOSTUNREACH),
        (Family::V6, Errno::ENETUNREACH),
    ] {
        let (connection, token) = connect(&topology, family, &mut client)?;
        topology.break_path(Path::Second, Fault::Unreachable)?;
        let subflow = client.create(token, over_second_path(&connection)?)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
        assert_eq!(closed.errno, Some(errno), "{family:?}");
        topology.repair_path(Path::Second, Fault::Unreachable)?;
    }
    Ok(())
}

#[test]
fn exhausted_retransmissions_time_out() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.set_sysctl("ipv4/tcp_retries2", "3")?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let id = initial(&mut client, token)?;
        topology.break_path(Path::First, Fault::Blackhole)?;
        connection.client.write_all(b"lost")?;
        let closed = client.expect_subflow_within(LONG, EventKind::SubflowClosed, id)?;
        assert_eq!(closed.errno, Some(Errno::ETIMEDOUT));
        topology.repair_path(Path::First, Fault::Blackhole)?;
    }
    Ok(())
}

#[test]
fn exhausted_retransmissions_tell_what_icmp_said() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.set_sysctl("ipv4/tcp_retries2", "3")?;
    let mut client = PathManager::of(&topology.client)?;
    for (family, errno) in [
        (Family::V4, Errno::EHOSTUNREACH),
        (Family::V6, Errno::ENETUNREACH),
    ] {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let id = initial(&mut client, token)?;
        topology.break_path(Path::First, Fault::Unreachable)?;
        connection.client.write_all(b"lost")?;
        client.expect_subflow(EventKind::Timeout, id)?;
        let soft = client
            .connection(token)?
            .subflow(id)
            .and_then(|subflow| subflow.errno_soft);
        assert_eq!(soft, Some(errno), "{family:?}");
        let closed = client.expect_subflow_within(LONG, EventKind::SubflowClosed, id)?;
        assert_eq!(closed.errno, Some(errno), "{family:?}");
        topology.repair_path(Path::First, Fault::Unreachable)?;
    }
    Ok(())
}

#[test]
fn a_reset_of_an_established_subflow_is_told() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let id = initial(&mut client, token)?;
        let second = join(&mut client, &connection, token)?;
        topology.break_path(Path::First, Fault::Reset)?;
        connection.exchange(1000)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, id)?;
        assert_eq!(closed.errno, Some(Errno::ECONNRESET));
        assert!(client.connection(token)?.subflow(second.id).is_some());
        topology.repair_path(Path::First, Fault::Reset)?;
    }
    Ok(())
}

#[test]
fn a_reset_tells_the_reason_of_the_peer() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let second = join(&mut client, &connection, token)?;
        // Data without options is of no use to the server: it resets the subflow,
        // with an MP_TCPRST that says why.
        topology.break_path(Path::Second, Fault::Strip)?;
        connection.transfer(100_000)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, second.id)?;
        assert_eq!(closed.errno, Some(Errno::ECONNRESET));
        assert_eq!(
            closed.reset_reason,
            Some(6),
            "6 is: a middlebox interferes (RFC 8684)"
        );
        topology.repair_path(Path::Second, Fault::Strip)?;
    }
    Ok(())
}

#[test]
fn a_join_that_the_peer_refuses_is_closed() -> Result<()> {
    let topology = Topology::new()?;
    topology.server.manage_by_kernel()?;
    topology.server.ip("mptcp limits set subflows 0\n")?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let subflow = client.create(token, over_second_path(&connection)?)?;
    // The server refuses with the third packet of the handshake: at first all is well.
    client.joined(subflow.id)?;
    let closed = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
    // Linux 7.3 does not look into this RST: it resets the subflow itself, in
    // check_fully_established(), before it would read the reason.
    assert_eq!((closed.errno, closed.reset_reason), (Some(Errno(0)), None));
    connection.exchange(1000)
}

#[test]
fn a_join_of_the_server_to_a_client_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut server = PathManager::of(&topology.server)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut server)?;
    let mut remote = connection.client_address()?;
    remote.set_ip(Path::Second.client(Family::V4));
    // Nobody listens there: a client's port belongs to its connection.
    let subflow = server.create(token, SubflowCreate::to(remote))?;
    let closed = server.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
    assert_eq!(closed.errno, Some(Errno::ECONNREFUSED));
    assert!(closed.active);
    connection.exchange(1000)
}

#[test]
fn the_ninth_subflow_of_a_peer_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    for _ in 0..8 {
        join(&mut client, &connection, token)?;
    }
    client.wait_for_subflows(token, 9)?;
    let ninth = client.create(token, over_second_path(&connection)?)?;
    client.expect_subflow(EventKind::SubflowClosed, ninth.id)?;
    client.wait_for_subflows(token, 9)?;
    connection.exchange(1000)
}
