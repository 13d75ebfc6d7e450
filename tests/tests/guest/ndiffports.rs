// SPDX-License-Identifier: GPL-2.0
//! The policy `ndiffports` (section 4.5 of the paper) as a process beside the connections.

use std::collections::BTreeSet;

use anyhow::Result;
use smapp::{EventKind, SubflowDestroy};
use smapp_tests::{Family, PathManager, Topology};

use super::{LONG, connect, policy};

#[test]
fn a_connection_gets_several_subflows_on_one_pair_of_addresses() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _ndiffports = policy(&topology.client, "ndiffports --subflows 4")?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        let subflows = client.wait_for_subflows(token, 4)?.subflows;
        let pair = |s: &smapp::Subflow| (s.local_address, s.remote());
        assert!(subflows.iter().all(|s| pair(s) == pair(&subflows[0])));
        let ports: BTreeSet<_> = subflows.iter().map(|s| s.local_port).collect();
        assert_eq!(ports.len(), 4);
        connection.transfer(100_000)?;
    }
    Ok(())
}

#[test]
fn a_subflow_that_was_lost_is_opened_again() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let _ndiffports = policy(&topology.client, "ndiffports --subflows 3")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 3)?;
    let peer = server.created()?;
    let theirs = server.wait_for_subflows(peer, 3)?.subflows;
    // The initial one among them: it is a subflow like the others.
    for subflow in theirs {
        server.destroy(peer, SubflowDestroy::id(subflow.id).reset(true))?;
        client.expect(EventKind::SubflowClosed, |_| true)?;
        client.expect_within(LONG, EventKind::SubflowEstablished, |_| true)?;
        client.wait_for_subflows(token, 3)?;
    }
    connection.exchange(1000)
}
