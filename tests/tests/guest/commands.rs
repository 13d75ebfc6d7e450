// SPDX-License-Identifier: GPL-2.0
//! Commands that are granted.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};
use rustix::net::netdevice::name_to_index;
use smapp::{
    AddressId, Answer, Command, Errno, Error, EventKind, IfIndex, Kernel, SubflowCreate,
    SubflowDestroy, TcpState,
};
use smapp_tests::traffic::listen;
use smapp_tests::{Connection, Family, Fault, Path, PathManager, Topology, topology, wait_for};
use socket2::Protocol;

use super::{connect, initial, join, over_second_path};

#[test]
fn subflow_create_answers_with_id_and_port() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let answer = client.create(token, over_second_path(&connection)?)?;
        assert_ne!(answer.id, initial(&mut client, token)?);
        assert_ne!(answer.local_port, 0);
        assert_eq!(answer.remote(), connection.server_address()?);
        let joined = client.joined(answer.id)?;
        assert_eq!(joined.local(), answer.local());
    }
    Ok(())
}

#[test]
fn subflow_create_uses_the_given_port() -> Result<()> {
    const PORT: u16 = 4444;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let answer = client.create(token, over_second_path(&connection)?.local_port(PORT))?;
        assert_eq!(answer.local_port, PORT);
        client.joined(answer.id)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        assert_eq!(
            event.subflow().map(|subflow| subflow.remote_port),
            Some(PORT)
        );
    }
    Ok(())
}

/// Temporary addresses come and go as long as a connection lives, and each gets an ID.
#[test]
fn address_ids_do_not_run_out() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V6, &mut client)?;
    let kept = join(&mut client, &connection, token)?;
    let server = connection.server_address()?;
    for number in 1..=300_u16 {
        let address = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 1, number);
        let of_client = |verb: &str| {
            let line = format!("address {verb} {address}/64 dev eth1 nodad\n");
            topology.client.ip(&line)
        };
        of_client("add")?;
        let subflow = client
            .create(
                token,
                SubflowCreate::to(server).local_address(address.into()),
            )
            .with_context(|| format!("address {number}"))?;
        // Nobody else's: the peer knows a subflow's address by it.
        assert_ne!(
            subflow.local_id,
            AddressId(0),
            "that of the initial subflow"
        );
        assert_ne!(subflow.local_id, kept.local_id, "address {number}");
        client.destroy(token, subflow.id)?;
        of_client("delete")?;
    }
    let again = join(&mut client, &connection, token)?;
    assert_eq!(again.local_id, kept.local_id);
    connection.exchange(1000)
}

#[test]
fn two_subflows_can_share_their_addresses() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let first = join(&mut client, &connection, token)?;
        let second = join(&mut client, &connection, token)?;
        assert_ne!(first.id, second.id);
        assert_ne!(first.local_port, second.local_port);
        assert_eq!(first.local_id, second.local_id);
        client.wait_for_subflows(token, 3)?;
    }
    Ok(())
}

#[test]
fn the_kernel_chooses_the_address_that_is_left_out() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let answer = client.create(token, SubflowCreate::to(connection.server_address()?))?;
        let joined = client.joined(answer.id)?;
        assert_eq!(joined.local_address, Path::First.client(family));
        assert_eq!(answer.local(), joined.local());
    }
    Ok(())
}

#[test]
fn a_backup_subflow_is_one_for_both_hosts() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let answer = client.create(token, over_second_path(&connection)?.backup(true))?;
    let ours = client.joined(answer.id)?;
    assert!(ours.backup);
    let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
    let theirs = event.subflow().context("sub_estab has a subflow")?;
    assert!(theirs.backup_peer);
    // And a subflow that is not: the flags are not always set.
    let plain = join(&mut client, &connection, token)?;
    assert!(!plain.backup && !plain.backup_peer);
    Ok(())
}

#[test]
fn a_subflow_can_be_bound_to_an_interface() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let number = name_to_index(&connection.client, Path::Second.interface())?;
    let wanted = SubflowCreate::to(connection.server_address()?).ifindex(IfIndex(number));
    let answer = client.create(token, wanted)?;
    let joined = client.joined(answer.id)?;
    assert_eq!(joined.ifindex, Some(IfIndex(number)));
    assert_eq!(joined.local_address, Path::Second.client(Family::V4));
    Ok(())
}

#[test]
fn data_flows_on_a_created_subflow() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let subflow = join(&mut client, &connection, token)?;
        topology.break_path(Path::First, Fault::Blackhole)?;
        connection.exchange(5000)?;
        let subflow = *client
            .connection(token)?
            .subflow(subflow.id)
            .context("subflow is gone")?;
        let info = subflow.tcp_info.context("conn-get without tcp_info")?;
        ensure!(
            info.bytes_received >= 5000,
            "not on the second path: {info:?}"
        );
        topology.repair_path(Path::First, Fault::Blackhole)?;
    }
    Ok(())
}

#[test]
fn several_subflows_are_opened_by_one_send() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let good = over_second_path(&connection)?;
        // Nobody's address.
        let bad = good.local_address(topology::server(family));
        let wanted = [good, good.backup(true), bad, good];
        let commands = wanted.map(|wanted| Command::SubflowCreate(token, wanted));
        let answers = client.client().commands(&commands);
        let refused = answers.iter().map(|answer| answer.as_ref().err());
        let refused: Vec<_> = refused.map(|error| error.and_then(Error::errno)).collect();
        assert_eq!(refused, [None, None, Some(Errno::EADDRNOTAVAIL), None]);
        let opened = answers.into_iter().flatten();
        let subflow = |answer| match answer {
            Answer::Subflow(subflow) => Ok(subflow),
            other => Err(anyhow::anyhow!("{other:?}")),
        };
        let opened: Vec<_> = opened.map(subflow).collect::<Result<_>>()?;
        assert_eq!(
            opened.iter().map(|s| s.backup).collect::<Vec<_>>(),
            [false, true, false]
        );
        let known = client.wait_for_subflows(token, 4)?;
        for subflow in opened {
            let known = known.subflow(subflow.id).context("never heard of")?;
            assert_eq!(known.local(), subflow.local());
        }
        connection.exchange(1000)?;
        // The answers to what comes next are not mixed up with those.
        assert_eq!(client.connection(token)?.token, token);
    }
    Ok(())
}

#[test]
fn subflow_destroy_closes_a_subflow_of_the_peer() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let ours = join(&mut client, &connection, token)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        let theirs = event.subflow().context("sub_estab has a subflow")?;
        server.destroy(event.token, theirs.id)?;
        server.expect_subflow(EventKind::SubflowClosed, theirs.id)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, ours.id)?;
        assert_eq!(closed.errno.map(|errno| errno.0), Some(0));
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn subflow_destroy_closes_the_initial_subflow() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let first = initial(&mut client, token)?;
        let second = join(&mut client, &connection, token)?;
        client.destroy(token, first)?;
        client.expect_subflow(EventKind::SubflowClosed, first)?;
        connection.exchange(1000)?;
        let left = client.connection(token)?.subflows;
        assert_eq!(
            left.iter().map(|subflow| subflow.id).collect::<Vec<_>>(),
            [second.id]
        );
    }
    Ok(())
}

#[test]
fn subflow_destroy_stops_a_join_under_way() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    let subflow = client.create(token, over_second_path(&connection)?)?;
    client.destroy(token, subflow.id)?;
    let closed = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
    assert_eq!(
        (closed.local(), closed.remote()),
        (subflow.local(), subflow.remote())
    );
    connection.exchange(1000)?;
    assert_eq!(client.connection(token)?.extra_subflows, 0);
    Ok(())
}

#[test]
fn subflow_destroy_finds_a_subflow_by_its_ends() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let [stays, goes] = [
            join(&mut client, &connection, token)?,
            join(&mut client, &connection, token)?,
        ];
        client.destroy(token, SubflowDestroy::ends(goes.local(), goes.remote()))?;
        client.expect_subflow(EventKind::SubflowClosed, goes.id)?;
        let left = client.wait_for_subflows(token, 2)?;
        assert!(left.subflow(stays.id).is_some());
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn subflow_destroy_resets() -> Result<()> {
    /// "Administratively prohibited" (RFC 8684 section 3.6).
    const PROHIBITED: u8 = 3;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let ours = join(&mut client, &connection, token)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        let theirs = event.subflow().context("sub_estab has a subflow")?.id;
        client.destroy(token, SubflowDestroy::id(ours.id).reset(true))?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, ours.id)?;
        assert_eq!((closed.errno, closed.reset_reason), (Some(Errno(0)), None));
        let closed = server.expect_subflow(EventKind::SubflowClosed, theirs)?;
        assert_eq!(closed.errno, Some(Errno::ECONNRESET));
        assert_eq!(
            (closed.reset_reason, closed.reset_transient),
            (Some(PROHIBITED), false)
        );
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn conn_get_tells_all_of_a_connection() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let theirs = server.created()?;
        join(&mut client, &connection, token)?;
        connection.exchange(3000)?;
        let got = client.wait_for_subflows(token, 2)?;
        assert_eq!(
            (got.token, got.server_side, got.fallback),
            (token, false, false)
        );
        assert_eq!(got.extra_subflows, 1);
        let info = got.info.context("conn-get without mptcp_info")?;
        assert_eq!(info.bytes_sent, 3001);
        let first = got
            .subflows
            .iter()
            .find(|subflow| subflow.initial)
            .context("no initial")?;
        assert_eq!(first.local(), connection.client_address()?);
        assert_eq!(first.state, Some(TcpState::ESTABLISHED));
        for subflow in &got.subflows {
            let tcp = subflow.tcp_info.context("conn-get without tcp_info")?;
            assert_eq!(subflow.rto, Some(tcp.rto));
            ensure!(tcp.rtt > 0 && subflow.snd_una.is_some(), "{subflow:?}");
        }
        assert!(server.connection(theirs)?.server_side);
    }
    Ok(())
}

#[test]
fn conn_get_lists_all_connections() -> Result<()> {
    // More than fit into one part of a dump.
    const COUNT: usize = 40;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut connections = Vec::new();
    let mut tokens = BTreeSet::new();
    let mut listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    for _ in 0..COUNT {
        let Connection {
            client: near,
            server: far,
            listener: back,
        } = Connection::open_to(&topology, listener)?;
        tokens.insert(client.created()?);
        connections.push((near, far));
        listener = back;
    }
    let listed = client.connections()?;
    assert_eq!(listed.len(), COUNT);
    assert_eq!(
        listed
            .iter()
            .map(|connection| connection.token)
            .collect::<BTreeSet<_>>(),
        tokens
    );
    assert!(
        listed
            .iter()
            .all(|connection| connection.subflows.len() == 1)
    );
    drop(connections);
    wait_for("an empty list", smapp_tests::DEADLINE, || {
        let left = client.connections()?;
        ensure!(left.is_empty(), "{} connections", left.len());
        Ok(())
    })
}

#[test]
fn conn_get_lists_the_subflows_of_a_large_connection() -> Result<()> {
    const EXTRA: usize = 8;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V6, &mut client)?;
    for _ in 0..EXTRA {
        join(&mut client, &connection, token)?;
    }
    let ids = |connection: &smapp::Connection| -> BTreeSet<_> {
        connection
            .subflows
            .iter()
            .map(|subflow| subflow.id)
            .collect()
    };
    let alone = client.connection(token)?;
    assert_eq!(ids(&alone).len(), EXTRA + 1);
    let mut listed = BTreeSet::new();
    // A connection may come in several parts, each naming its token.
    for part in client.connections()? {
        assert_eq!(part.token, token);
        listed.extend(ids(&part));
    }
    assert_eq!(listed, ids(&alone));
    Ok(())
}
