// SPDX-License-Identifier: GPL-2.0
//! Addresses that one host announces and the other hears of.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use smapp::{Address, AddressId, Errno, EventKind, Kernel, SubflowDestroy, What};
use smapp_tests::{
    Connection, DEADLINE, Family, Fault, Path, PathManager, SmallQueues, Topology, wait_for,
};

use super::{connect, initial, join, join_fully, over_second_path};

#[test]
fn an_announced_address_is_told_and_echoed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for (number, family) in Family::BOTH.into_iter().enumerate() {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let theirs = server.created()?;
        let second = Path::Second.client(family);
        let announced = client.client().announce(token, second, None)?;
        assert_ne!(announced.id, AddressId(0), "0 is the initial address");
        assert_eq!((announced.address, announced.port), (second, None));
        assert_eq!(server.announced(theirs)?, announced);
        let count = number as u64 + 1;
        wait_for("the echo", DEADLINE, || {
            let echoes = topology.client.counter("EchoAdd")?;
            ensure!(echoes == count, "{echoes} echoes");
            Ok(())
        })?;
        // What was echoed is not announced again.
        sleep(Duration::from_secs(150));
        assert_eq!(topology.client.counter("AddAddrTx")?, count);
        // The address of a subflow has one ID, whatever it is said with.
        assert_eq!(
            join(&mut client, &connection, token)?.local_id,
            announced.id
        );
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn an_address_is_announced_with_a_port() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut server)?;
        let theirs = client.created()?;
        let here = connection.server_address()?.ip();
        let announced = server.client().announce(token, here, Some(8080))?;
        assert_eq!((announced.address, announced.port), (here, Some(8080)));
        assert_eq!(client.announced(theirs)?, announced);
    }
    Ok(())
}

#[test]
fn an_announcement_that_waits_is_not_replaced() -> Result<()> {
    let topology = Topology::new()?;
    topology.client.set_sysctl("mptcp/add_addr_timeout", "5")?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let theirs = server.created()?;
        // No subflow that could carry it: one that ends by a FIN still sends.
        topology.break_path(Path::Second, Fault::Blackhole)?;
        let joining = client.create(token, over_second_path(&connection)?)?;
        let first = initial(&mut client, token)?;
        client.destroy(token, SubflowDestroy::id(first).reset(true))?;
        let second = Path::Second.client(family);
        let announced = client.client().announce(token, second, None)?;
        let busy = [
            client.client().announce(token, second, Some(9)).map(drop),
            client.client().withdraw(token, &announced),
        ];
        for result in busy {
            let errno = result.err().and_then(|error| error.errno());
            assert_eq!(errno, Some(Errno::EBUSY));
        }
        topology.repair_path(Path::Second, Fault::Blackhole)?;
        client.joined(joining.id)?;
        // The next segment that has room carries it, or it is announced again.
        connection.exchange(1000)?;
        let again = Duration::from_secs(60);
        server.expect_within(again, EventKind::AddressAnnounced, |event| {
            event.what == What::AddressAnnounced(announced)
        })?;
        client.client().announce(token, second, Some(9))?;
        assert_eq!(server.announced(theirs)?.port, Some(9));
    }
    Ok(())
}

/// The peer has to say it again as long as the only listener has no room for it.
#[test]
fn an_address_that_no_listener_was_given_is_announced_again() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = {
        let _small = SmallQueues::new()?;
        PathManager::of(&topology.server)?
    };
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let subflow = join_fully(&mut client, &connection, token)?;
    for number in 0..200 {
        let backup = number % 2 == 0;
        client
            .client()
            .subflow_set_backup(token, subflow.id, backup)?;
        sleep(Duration::from_millis(5));
    }
    let address = IpAddr::from([10, 0, 2, 99]);
    let announced = client.client().announce(token, address, None)?;
    sleep(Duration::from_millis(50));
    ensure!(topology.server.counter("AddAddr")? > 0, "it never came");
    assert_eq!(topology.client.counter("EchoAdd")?, 0, "lost, and echoed");
    // What fitted, then the word of the loss.
    let mut lost = String::new();
    while !lost.contains("Lost") {
        if let Err(error) = server.next(Duration::from_millis(100)) {
            lost = error.to_string();
            ensure!(!lost.contains("no event"), "nothing was lost");
        }
    }
    let again = Duration::from_secs(60);
    server.expect_within(again, EventKind::AddressAnnounced, |event| {
        event.what == What::AddressAnnounced(announced)
    })?;
    wait_for("the echo", DEADLINE, || {
        let echoes = topology.client.counter("EchoAdd")?;
        ensure!(echoes == 1, "{echoes} echoes");
        Ok(())
    })
}

#[test]
fn a_withdrawn_address_is_told_and_its_subflow_closed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let theirs = server.created()?;
        let second = Path::Second.client(family);
        let announced = client.client().announce(token, second, None)?;
        server.announced(theirs)?;
        let ours = join(&mut client, &connection, token)?;
        let event = server.expect(EventKind::SubflowEstablished, |_| true)?;
        let joined = *event.subflow().context("sub_estab has a subflow")?;
        assert_eq!(joined.remote_id, announced.id);
        client.client().withdraw(token, &announced)?;
        let event = server.expect(EventKind::AddressesWithdrawn, |_| true)?;
        let What::AddressesWithdrawn(remote_ids) = event.what else {
            anyhow::bail!("{event:?}");
        };
        assert_eq!(event.token, theirs);
        assert_eq!(remote_ids.iter().collect::<Vec<_>>(), [announced.id]);
        server.expect_subflow(EventKind::SubflowClosed, joined.id)?;
        client.expect_subflow(EventKind::SubflowClosed, ours.id)?;
        connection.exchange(1000)?;
    }
    Ok(())
}

#[test]
fn addresses_that_are_withdrawn_together_are_told_together() -> Result<()> {
    let topology = Topology::new()?;
    let client = &topology.client;
    client.manage_by_kernel()?;
    let second = Path::Second.client(Family::V4);
    client.ip(&format!(
        "address add 10.0.2.77/24 dev eth1\n\
         mptcp endpoint add {second} dev eth1 signal\n\
         mptcp endpoint add 10.0.2.77 dev eth1 signal\n"
    ))?;
    let mut server = PathManager::of(&topology.server)?;
    let _connection = Connection::establish(&topology, Family::V4)?;
    let token = server.created()?;
    let announced = [server.announced(token)?.id, server.announced(token)?.id];
    client.ip("mptcp endpoint flush\n")?;
    let event = server.expect(EventKind::AddressesWithdrawn, |_| true)?;
    let What::AddressesWithdrawn(remote_ids) = event.what else {
        anyhow::bail!("{event:?}");
    };
    let mut withdrawn: Vec<_> = remote_ids.iter().collect();
    withdrawn.sort();
    let mut expected = announced.to_vec();
    expected.sort();
    assert_eq!(withdrawn, expected);
    Ok(())
}

#[test]
fn an_address_that_was_not_announced_can_be_withdrawn() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let ours = join(&mut client, &connection, token)?;
    let address = Address {
        id: ours.local_id,
        address: ours.local_address,
        port: None,
    };
    client.client().withdraw(token, &address)?;
    server.expect(EventKind::AddressesWithdrawn, |_| true)?;
    client.expect_subflow(EventKind::SubflowClosed, ours.id)?;
    Ok(())
}
