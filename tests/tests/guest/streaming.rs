// SPDX-License-Identifier: GPL-2.0
//! The policy `streaming` (section 4.3 of the paper) as a process beside the connections.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use smapp::EventKind;
use smapp_tests::{Connection, Family, Fault, Path, PathManager, Process, Topology};

use super::{LONG, connect, initial, joined_on, policy};

const PERIOD: Duration = Duration::from_secs(1);
const BLOCK: usize = 65536;

fn streaming(topology: &Topology) -> Result<Process> {
    policy(&topology.client, "streaming")
}

/// Send a block every period, read them at the server, and do something meanwhile.
fn stream<T>(
    connection: &mut Connection,
    blocks: usize,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Connection { client, server, .. } = connection;
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            for block in 0..blocks {
                if block > 0 {
                    thread::sleep(PERIOD);
                }
                client.write_all(&[7; BLOCK]).context("cannot write")?;
            }
            Ok(())
        });
        let reader = scope.spawn(|| -> Result<()> {
            let mut received = vec![0; blocks * BLOCK];
            let read = server.read_exact(&mut received);
            read.context("the blocks at the server")?;
            ensure!(received.iter().all(|&byte| byte == 7), "other bytes came");
            Ok(())
        });
        let done = meanwhile()?;
        for thread in [writer, reader] {
            thread.join().expect("it does not panic")?;
        }
        Ok(done)
    })
}

#[test]
fn a_block_that_is_late_gets_the_second_path() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let _streaming = streaming(&topology)?;
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.be_patient(LONG)?;
        // These are in time.
        stream(&mut connection, 3, || Ok(()))?;
        thread::sleep(PERIOD);
        let early = client.connection(token)?.subflows.len();
        assert_eq!(early, 1, "blocks in time need one path");
        topology.break_path(Path::First, Fault::Blackhole)?;
        stream(&mut connection, 1, || {
            joined_on(&mut client, token, Path::Second, LONG)
        })?;
    }
    Ok(())
}

#[test]
fn a_subflow_whose_rto_exceeds_a_second_is_closed() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut streaming = streaming(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    connection.be_patient(LONG)?;
    let first = initial(&mut client, token)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    let closed = stream(&mut connection, 4, || {
        client.expect_subflow_within(LONG, EventKind::SubflowClosed, first)
    })?;
    ensure!(closed.initial, "{closed:?}");
    streaming.expect("a reason", LONG, |line| line.contains("closing subflow"))?;
    client.wait_for_subflows(token, 1)?;
    connection.exchange(1000)
}

#[test]
fn the_last_path_is_kept_however_bad_it_is() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _streaming = streaming(&topology)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    connection.be_patient(LONG)?;
    let first = initial(&mut client, token)?;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    stream(&mut connection, 2, || {
        let wanted = |event: &smapp::Event| {
            event
                .subflow()
                .is_some_and(|s| s.id == first && s.rto > Some(3_000_000))
        };
        client.expect_within(LONG, EventKind::Timeout, wanted)?;
        topology.repair_path(Path::First, Fault::Blackhole)
    })?;
    connection.exchange(1000)
}
