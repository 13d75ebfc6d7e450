// SPDX-License-Identifier: GPL-2.0
//! The address of the path in use goes, and another is there: the connection survives.

use anyhow::{Result, ensure};
use smapp_tests::{Family, Path, PathManager, Process, Topology, wait_for};

use super::{LONG, connect, is_on, policy};

/// The address of the first path goes; the data go on over the second.
fn the_connection_survives(words: &str) -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let _policy = policy(&topology.client, words)?;
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.transfer(100_000)?;
        topology.remove_address(Path::First)?;
        connection.be_patient(LONG)?;
        connection.exchange(1000)?;
        let there = wait_for("the subflows on the second path", LONG, || {
            let subflows = client.connection(token)?.subflows;
            let elsewhere = |s: &smapp::Subflow| !is_on(Path::Second, s.local_address);
            ensure!(!subflows.iter().any(elsewhere), "{subflows:#?}");
            Ok(subflows.len())
        })?;
        ensure!(there > 0, "no subflow is left");
    }
    Ok(())
}

#[test]
fn a_connection_under_ndiffports_survives() -> Result<()> {
    the_connection_survives("ndiffports")
}

#[test]
fn a_connection_under_refresh_survives() -> Result<()> {
    the_connection_survives("refresh --subflows 3")
}

#[test]
fn a_connection_under_backup_survives() -> Result<()> {
    the_connection_survives("backup")
}

#[test]
fn a_connection_under_fullmesh_survives() -> Result<()> {
    the_connection_survives("fullmesh")
}

#[test]
fn an_initial_address_that_comes_and_goes_is_no_reason_to_warn() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut fullmesh = policy(&topology.client, "fullmesh")?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        connection.be_patient(LONG)?;
        for _ in 0..3 {
            client.wait_for_subflows(token, 2)?;
            topology.remove_address(Path::First)?;
            topology.add_address(Path::First)?;
            topology.remove_address(Path::First)?;
            client.wait_for_subflows(token, 1)?;
            let mut list = Process::start(&topology.client, "smapp", &["connection", "list"])?;
            ensure!(list.wait()?.success(), "{:?}", list.seen());
            let line = format!("{token}");
            let shown = list.seen().iter().find(|l| l.starts_with(&line));
            ensure!(
                shown.is_some_and(|l| !l.contains("no subflow")),
                "{:?}",
                list.seen()
            );
            topology.add_address(Path::First)?;
        }
        client.wait_for_subflows(token, 2)?;
        connection.exchange(1000)?;
    }
    fullmesh.interrupt()?;
    let warned = fullmesh.seen().iter().find(|line| line.contains("ESRCH"));
    ensure!(warned.is_none(), "{warned:?}");
    Ok(())
}
