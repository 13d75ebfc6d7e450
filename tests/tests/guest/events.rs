// SPDX-License-Identifier: GPL-2.0
//! Events of connections and of subflows, in the order of a life.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Uid, fchown};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::socket_cookie;
use smapp::{Event, EventKind, EventSet, IfIndex, Kernel, Owner, SubflowCreate};
use smapp_tests::traffic::{listen, socket as new_socket};
use smapp_tests::{Connection, Family, Fault, Path, PathManager, SmallQueues, Topology, topology};
use socket2::Protocol;

use super::{ControlGroup, LONG, connect, flood, initial, join, join_fully, over_second_path};

#[test]
fn created_names_the_connection_on_the_client() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let connection = Connection::open(&topology, family)?;
        let event = client.expect(EventKind::Created, |_| true)?;
        let subflow = event.subflow().context("created has a subflow")?;
        assert!(!event.server_side);
        assert_eq!(subflow.local(), connection.client_address()?);
        assert_eq!(subflow.remote(), connection.server_address()?);
        assert!(subflow.initial && subflow.active);
        assert_eq!(client.connection(event.token)?.token, event.token);
    }
    Ok(())
}

#[test]
fn created_names_the_connection_on_the_server() -> Result<()> {
    let topology = Topology::new()?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let connection = Connection::establish(&topology, family)?;
        let event = server.expect(EventKind::Created, |_| true)?;
        let subflow = event.subflow().context("created has a subflow")?;
        assert!(event.server_side);
        assert_eq!(subflow.local(), connection.server_address()?);
        assert_eq!(subflow.remote(), connection.client_address()?);
        assert!(subflow.initial && !subflow.active);
    }
    Ok(())
}

#[test]
fn created_tells_whose_socket_it_is() -> Result<()> {
    const USER: u32 = 1234;
    const MARK: u32 = 7;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let listener = listen(&topology.server, topology::server(family), Protocol::MPTCP)?;
        let group = ControlGroup::enter("created")?;
        let socket = topology.client.enter(|| -> Result<_> {
            let socket = new_socket(family, Protocol::MPTCP)?;
            socket.set_mark(MARK)?;
            socket.bind_device(Some(Path::First.interface().as_bytes()))?;
            fchown(&socket, Some(Uid::from_raw(USER)), None)?;
            socket.connect(&listener.local_addr()?.into())?;
            Ok(socket)
        })?;
        let event = client.expect(EventKind::Created, |_| true)?;
        let owner = event.start().context("created tells of the start")?.owner;
        let ifindex = name_to_index(&socket, Path::First.interface())?;
        let mut ours = Owner::default();
        ours.uid = Some(USER);
        ours.mark = Some(MARK);
        ours.ifindex = Some(IfIndex(ifindex));
        ours.cookie = Some(socket_cookie(&socket)?);
        ours.cgroup = Some(group.number()?);
        drop(group);
        assert_eq!(owner, ours);
        assert_eq!(client.connection(event.token)?.owner, ours);
        let (accepted, _) = listener.accept()?;
        let event = server.expect(EventKind::Created, |_| true)?;
        let owner = event.start().context("created tells of the start")?.owner;
        let theirs = {
            let mut owner = Owner::default();
            owner.uid = Some(0);
            owner.cookie = Some(socket_cookie(&accepted)?);
            owner.cgroup = Some(fs::metadata(ControlGroup::ROOT)?.ino());
            owner
        };
        assert_eq!(owner, theirs);
    }
    Ok(())
}

#[test]
fn sub_closed_tells_what_the_subflow_was() -> Result<()> {
    const BYTES: u64 = 3000;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.exchange(BYTES as usize)?;
        let id = initial(&mut client, token)?;
        join(&mut client, &connection, token)?;
        client.destroy(token, id)?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, id)?;
        assert_eq!(closed.established, Some(true));
        // One byte was exchanged before; SYN and FIN may count.
        for bytes in [closed.bytes_acked, closed.bytes_received] {
            let bytes = bytes.context("sub_closed without bytes")?;
            ensure!((BYTES + 1..=BYTES + 3).contains(&bytes), "{bytes} bytes");
        }
        // And one that never was.
        let mut remote = connection.server_address()?;
        remote.set_port(9);
        let refused = client.create(token, SubflowCreate::to(remote))?;
        let closed = client.expect_subflow(EventKind::SubflowClosed, refused.id)?;
        assert_eq!(closed.established, Some(false));
        assert_eq!(
            (closed.bytes_acked, closed.bytes_received),
            (Some(0), Some(0))
        );
    }
    Ok(())
}

#[test]
fn a_changed_priority_is_told_to_the_peer() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let ours = join_fully(&mut client, &connection, token)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        let theirs = *event.subflow().context("sub_estab has a subflow")?;
        for backup in [true, false] {
            client.client().subflow_set_backup(token, ours.id, backup)?;
            let told = server.expect_subflow(EventKind::SubflowPriority, theirs.id)?;
            assert_eq!((told.backup_peer, told.backup), (backup, false));
            let known = client.connection(token)?;
            let known = known.subflow(ours.id).context("the subflow is gone")?;
            assert_eq!((known.backup, known.backup_peer), (backup, false));
            let known = server.connection(event.token)?;
            let known = known.subflow(theirs.id).context("the subflow is gone")?;
            assert_eq!(known.backup_peer, backup);
        }
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn estab_follows_created_on_both_hosts() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let _connection = Connection::establish(&topology, family)?;
        for host in [&mut client, &mut server] {
            let token = host.expect(EventKind::Established, |_| true)?.token;
            let ours = host.seen().iter().filter(|event| event.token == token);
            let kinds: Vec<_> = ours.map(Event::kind).collect();
            assert_eq!(kinds, [EventKind::Created, EventKind::Established]);
        }
    }
    Ok(())
}

#[test]
fn estab_waits_for_the_first_data_on_the_client() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut silent = Connection::open(&topology, Family::V4)?;
    let first = client.created()?;
    let (_talking, second) = connect(&topology, Family::V4, &mut client)?;
    let early = client
        .seen()
        .iter()
        .filter(|event| event.kind() == EventKind::Established);
    assert_eq!(early.map(|event| event.token).collect::<Vec<_>>(), [second]);
    silent.exchange(1)?;
    client.established(first)
}

#[test]
fn closed_comes_last_on_both_hosts() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let connection = Connection::establish(&topology, family)?;
        let tokens = [client.created()?, server.created()?];
        drop(connection);
        for (host, token) in [&mut client, &mut server].into_iter().zip(tokens) {
            let event = host.expect(EventKind::Closed, |_| true)?;
            assert_eq!(event.token, token);
        }
    }
    Ok(())
}

#[test]
fn closed_follows_a_fastclose_of_the_peer() -> Result<()> {
    let topology = Topology::new()?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut server)?;
        let _server = connection.abort()?;
        server.expect(EventKind::Closed, |event| event.token == token)?;
    }
    Ok(())
}

#[test]
fn closed_follows_a_disconnect() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    rustix::net::connect_unspec(&connection.client)?;
    client.expect(EventKind::Closed, |event| event.token == token)?;
    // The socket is as new: it can be used for another connection.
    let address = connection.server_address()?;
    topology
        .client
        .enter(|| rustix::net::connect(&connection.client, &address))?;
    let again = client.created()?;
    drop(connection);
    client
        .expect(EventKind::Closed, |event| event.token == again)
        .map(drop)
}

#[test]
fn every_connection_created_is_closed() -> Result<()> {
    const COUNT: usize = 100;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    for _ in 0..COUNT {
        let connection = Connection::open_to(&topology, listener)?;
        listener = connection.listener;
    }
    for host in [&mut client, &mut server] {
        for _ in 0..COUNT {
            host.expect(EventKind::Closed, |_| true)?;
        }
        let tokens = |kind| {
            let of_kind = host.seen().iter().filter(move |event| event.kind() == kind);
            let mut tokens: Vec<_> = of_kind.map(|event| event.token).collect();
            tokens.sort();
            tokens
        };
        let created = tokens(EventKind::Created);
        assert_eq!(created.len(), COUNT);
        assert_eq!(created, tokens(EventKind::Closed));
    }
    Ok(())
}

#[test]
fn a_fallback_to_tcp_is_never_established() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::TCP,
    )?;
    let mut fallback = Connection::open_to(&topology, listener)?;
    fallback.exchange(100)?;
    drop(fallback);
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    let established = client
        .seen()
        .iter()
        .filter(|event| event.kind() == EventKind::Established);
    assert_eq!(
        established.map(|event| event.token).collect::<Vec<_>>(),
        [token]
    );
    Ok(())
}

#[test]
fn the_flag_of_a_peer_that_denies_joins_to_its_address_is_told() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for deny in [false, true] {
        let allow = if deny { "0" } else { "1" };
        topology
            .server
            .set_sysctl("mptcp/allow_join_initial_addr_port", allow)?;
        let _connection = Connection::establish(&topology, Family::V4)?;
        let event = client.expect(EventKind::Established, |_| true)?;
        let start = event.start().context("estab tells of the start")?;
        assert_eq!(start.deny_join_id0, deny);
    }
    Ok(())
}

#[test]
fn sub_estab_comes_on_both_hosts() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let created = client.create(token, over_second_path(&connection)?)?;
        let ours = client.joined(created.id)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        let theirs = event.subflow().context("sub_estab has a subflow")?;
        assert!(event.server_side);
        assert!(ours.active && !ours.initial);
        assert!(!theirs.active && !theirs.initial);
        assert_eq!(ours.local_address, Path::Second.client(family));
        assert_eq!(
            (ours.local(), ours.remote()),
            (theirs.remote(), theirs.local())
        );
        assert_eq!(ours.local_id, theirs.remote_id);
        let opened = server
            .seen()
            .iter()
            .find(|event| event.kind() == EventKind::Created);
        let initial = opened
            .and_then(Event::subflow)
            .context("no created on the server")?;
        assert_ne!(theirs.id, initial.id);
    }
    Ok(())
}

#[test]
fn sub_closed_comes_on_both_hosts() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let subflow = join(&mut client, &connection, token)?;
        client.destroy(token, subflow.id)?;
        let ours = client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
        assert_eq!(ours.errno.map(|errno| errno.0), Some(0));
        assert_eq!(
            (ours.local(), ours.remote()),
            (subflow.local(), subflow.remote())
        );
        let from_second = |event: &Event| {
            event
                .subflow()
                .is_some_and(|theirs| theirs.remote() == subflow.local())
        };
        let event = server.expect(EventKind::SubflowClosed, from_second)?;
        let errno = event.subflow().and_then(|theirs| theirs.errno);
        assert_eq!(errno.map(|errno| errno.0), Some(0));
    }
    Ok(())
}

#[test]
fn timeout_tells_the_doubled_rto() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let id = initial(&mut client, token)?;
        let calm = client.connection(token)?.subflows[0]
            .rto
            .context("conn-get without rto")?;
        topology.break_path(Path::First, Fault::Blackhole)?;
        connection.client.write_all(b"lost")?;
        let mut last = calm;
        for count in 1..=4 {
            let is_it = |event: &Event| event.token == token;
            let event = client.expect(EventKind::Timeout, is_it)?;
            let subflow = event.subflow().context("timeout has a subflow")?;
            assert_eq!(subflow.id, id);
            assert_eq!(
                (subflow.backoff, subflow.retransmits),
                (Some(count), Some(count))
            );
            let rto = subflow.rto.context("timeout without rto")?;
            // The first one starts from what was measured meanwhile.
            if count > 1 {
                assert_eq!(rto, 2 * last, "timeout {count}");
            } else {
                ensure!(rto > calm, "rto {rto} us is not more than {calm} us");
            }
            last = rto;
        }
        topology.repair_path(Path::First, Fault::Blackhole)?;
    }
    Ok(())
}

/// Nothing is in flight: the segment stays on this host, and TCP tries again from its persist timer.
#[test]
fn timeout_tells_that_this_host_cannot_send() -> Result<()> {
    type Refuse = fn(&Topology, Family) -> Result<()>;
    let no_route: Refuse = |topology, family| {
        // By the main table the connection was made, by the other one it would go on.
        topology.client.ip_of(
            family,
            "route delete default dev eth0\nroute flush table 1\n\
             route add unreachable default table 1\n",
        )
    };
    let firewall: Refuse = |topology, _| {
        topology.client.nft(
            "table inet shut {
                chain out {
                    type filter hook output priority 0
                    meta l4proto tcp drop
                }
            }\n",
        )
    };
    for family in Family::BOTH {
        for refuse in [no_route, firewall] {
            let topology = Topology::new()?;
            let mut client = PathManager::of(&topology.client)?;
            let (mut connection, token) = connect(&topology, family, &mut client)?;
            connection.exchange(1000)?;
            // Until all is acknowledged: what the peer sends again would be an answer.
            sleep(Duration::from_secs(1));
            refuse(&topology, family)?;
            connection.client.write_all(b"stays")?;
            let mut last = 0;
            for count in 1..=4 {
                let is_it = |event: &Event| event.token == token;
                let event = client.expect(EventKind::Timeout, is_it)?;
                let subflow = event.subflow().context("timeout has a subflow")?;
                assert_eq!(subflow.unacked, Some(0), "nothing is in flight");
                assert_eq!(subflow.backoff, Some(count));
                let rto = subflow.rto.context("timeout without rto")?;
                // As if it were retransmitted: doubled for each try.
                if count > 1 {
                    assert_eq!(rto, 2 * last, "try {count}");
                }
                last = rto;
            }
        }
    }
    Ok(())
}

#[test]
fn timeout_tells_that_the_queue_of_this_host_is_full() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    connection.exchange(1000)?;
    sleep(Duration::from_secs(1));
    topology
        .client
        .tc("qdisc replace dev eth0 root pfifo limit 0\n")?;
    connection.client.write_all(b"stays")?;
    for _ in 0..4 {
        client.expect(EventKind::Timeout, |event| event.token == token)?;
    }
    Ok(())
}

/// A peer that does not read answers the probes: its path is not dead, and does not look so.
#[test]
fn timeout_tells_a_closed_window_from_a_dead_path() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection
            .client
            .set_write_timeout(Some(Duration::from_secs(5)))?;
        // Until nothing fits any more.
        while connection.client.write(&[7; 10_000]).is_ok() {}
        let is_it = |event: &Event| event.token == token;
        let rto = |event: Event| {
            let subflow = event.subflow().context("timeout has a subflow")?;
            subflow.rto.context("timeout without rto")
        };
        let mut last = 0;
        for _ in 0..8 {
            let event = client.expect_within(LONG, EventKind::Timeout, is_it)?;
            last = rto(event)?;
            ensure!(last < 1_000_000, "{last} us, though the peer answers");
        }
        topology.break_path(Path::First, Fault::Blackhole)?;
        for _ in 0..4 {
            let event = client.expect_within(LONG, EventKind::Timeout, is_it)?;
            last = rto(event)?;
        }
        ensure!(last > 2_000_000, "{last} us, though nobody answers");
        topology.repair_path(Path::First, Fault::Blackhole)?;
    }
    Ok(())
}

#[test]
fn timeout_comes_for_the_syn_of_a_join() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        topology.break_path(Path::Second, Fault::Blackhole)?;
        let subflow = client.create(token, over_second_path(&connection)?)?;
        for count in 1..=2 {
            let timeout = client.expect_subflow(EventKind::Timeout, subflow.id)?;
            assert_eq!(timeout.retransmits, Some(count));
            assert_eq!(timeout.local(), subflow.local());
        }
        topology.repair_path(Path::Second, Fault::Blackhole)?;
        client.joined(subflow.id)?;
    }
    Ok(())
}

#[test]
fn a_listener_gets_only_the_events_it_registered_for() -> Result<()> {
    let topology = Topology::new()?;
    for kind in [
        EventKind::Created,
        EventKind::SubflowEstablished,
        EventKind::Closed,
    ] {
        let mut all = PathManager::of(&topology.client)?;
        let mut one = PathManager::with_events(&topology.client, EventSet::of(&[kind]))?;
        let (connection, token) = connect(&topology, Family::V4, &mut all)?;
        join(&mut all, &connection, token)?;
        drop(connection);
        all.expect(EventKind::Closed, |_| true)?;
        let event = one.next(Duration::from_secs(1))?;
        assert_eq!((event.kind(), event.token), (kind, token));
        // Its only one: all that was to come had come before the last of all events.
        ensure!(
            one.next(Duration::ZERO).is_err(),
            "more than one event: {:?}",
            one.seen()
        );
    }
    Ok(())
}

#[test]
fn each_event_of_a_life_comes_once() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let initial = initial(&mut client, token)?;
        let joined = join(&mut client, &connection, token)?.id;
        client.destroy(token, joined)?;
        drop(connection);
        client.expect(EventKind::Closed, |event| event.token == token)?;
        // What would come late has come before another connection is over.
        let (other, later) = connect(&topology, family, &mut client)?;
        drop(other);
        client.expect(EventKind::Closed, |event| event.token == later)?;
        let ours = client.seen().iter().filter(|event| event.token == token);
        let seen: Vec<_> = ours
            .map(|event| (event.kind(), event.subflow().map(|subflow| subflow.id)))
            .collect();
        let expected = [
            (EventKind::Created, Some(initial)),
            (EventKind::Established, Some(initial)),
            (EventKind::SubflowEstablished, Some(joined)),
            (EventKind::SubflowClosed, Some(joined)),
            (EventKind::Closed, None),
        ];
        assert_eq!(seen, expected);
    }
    Ok(())
}

#[test]
fn a_listener_that_is_too_slow_is_told() -> Result<()> {
    let topology = Topology::new()?;
    let _small = SmallQueues::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut commands = PathManager::with_events(&topology.client, EventSet::default())?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    flood(&mut commands, &connection, token)?;
    // Nothing was read meanwhile: what fitted comes first, then the word of the loss.
    let told = loop {
        if let Err(error) = client.next(Duration::from_secs(1)) {
            break error.to_string();
        }
    };
    ensure!(
        told.contains("Lost"),
        "{told} after {} events",
        client.seen().len()
    );
    // And it goes on from there.
    topology.repair_path(Path::Second, Fault::Blackhole)?;
    join(&mut client, &connection, token).map(drop)
}
