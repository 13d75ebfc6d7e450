// SPDX-License-Identifier: GPL-2.0
//! The policy `refresh` (section 4.4 of the paper) as a process beside the connections.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use smapp::{Event, EventKind};
use smapp_tests::{Connection, Family, PathManager, Shape, Topology, wait_for};

use super::{LONG, connect, policy};

/// Send as much as goes through while `work` runs.
fn while_busy<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (mut from, mut to) = (&connection.client, &connection.server);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<u64> {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                from.write_all(&[7; 8192]).context("cannot write")?;
                sent += 8192;
            }
            from.shutdown(std::net::Shutdown::Write)?;
            Ok(sent)
        });
        let reader = scope.spawn(|| -> Result<u64> {
            let (mut buffer, mut received) = ([0; 65536], 0);
            loop {
                match to.read(&mut buffer).context("cannot read")? {
                    0 => return Ok(received),
                    length => received += length as u64,
                }
            }
        });
        let result = work();
        stop.store(true, Ordering::Relaxed);
        let sent = writer.join().expect("writing does not panic")?;
        let received = reader.join().expect("reading does not panic")?;
        ensure!(sent == received, "{received} of {sent} bytes came");
        result
    })
}

/// Paths of 4 Mbit/s: enough to tell rates apart, and not much to emulate.
fn slow_paths() -> Result<Topology> {
    let shape = Shape {
        rate: 4,
        ..Shape::default()
    };
    let topology = Topology::with_shapes([shape; 2])?;
    for host in [&topology.client, &topology.server] {
        host.manage_by_smapp()?;
    }
    Ok(topology)
}

#[test]
fn the_slowest_is_replaced_from_another_port() -> Result<()> {
    for family in Family::BOTH {
        let topology = slow_paths()?;
        let mut client = PathManager::of(&topology.client)?;
        let options = "refresh --subflows 3 --interval 1s --tolerance 0.001";
        let _refresh = policy(&topology.client, options)?;
        let (connection, token) = connect(&topology, family, &mut client)?;
        connection.be_patient(LONG)?;
        client.wait_for_subflows(token, 3)?;
        while_busy(&connection, || {
            for _ in 0..3 {
                let about = |event: &Event| event.token == token;
                let closed = client.expect_within(LONG, EventKind::SubflowClosed, about)?;
                let joined = client.expect_within(LONG, EventKind::SubflowEstablished, about)?;
                let closed = closed.subflow().context("sub_closed has a subflow")?;
                let joined = joined.subflow().context("sub_estab has a subflow")?;
                assert_ne!(closed.local_port, joined.local_port);
                assert_eq!(closed.local_address, joined.local_address);
                assert_eq!(closed.remote(), joined.remote());
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn ports_that_lead_over_a_slow_path_are_left() -> Result<()> {
    for family in Family::BOTH {
        let topology = slow_paths()?;
        // As if another path began behind the router, for odd ports.
        topology.router.nft(
            "table inet odd {\n\
               chain forward {\n\
                 type filter hook forward priority 0;\n\
                 iifname c0 tcp sport & 1 == 1 limit rate over 20 kbytes/second drop\n\
               }\n\
             }\n",
        )?;
        let mut client = PathManager::of(&topology.client)?;
        let options = "refresh --subflows 4 --interval 1s --tolerance 0.7";
        let _refresh = policy(&topology.client, options)?;
        let (connection, token) = connect(&topology, family, &mut client)?;
        connection.be_patient(LONG)?;
        client.wait_for_subflows(token, 4)?;
        while_busy(&connection, || {
            wait_for("subflows from even ports", LONG, || {
                let subflows = client.connection(token)?.subflows;
                let ports: Vec<_> = subflows.iter().map(|s| s.local_port).collect();
                ensure!(
                    ports.len() == 4 && ports.iter().all(|port| port % 2 == 0),
                    "ports {ports:?}"
                );
                Ok(())
            })
        })?;
    }
    Ok(())
}
