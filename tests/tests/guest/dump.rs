// SPDX-License-Identifier: GPL-2.0
//! Listings of very many connections.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use smapp::{EventKind, EventSet};
use smapp_tests::traffic::Crowd;
use smapp_tests::{Netns, PathManager};

#[test]
fn ten_thousand_connections_are_listed_once_each() -> Result<()> {
    const COUNT: usize = 10_000;
    let host = Netns::loopback("many")?;
    host.manage_by_smapp()?;
    let mut manager = PathManager::with_events(&host, EventSet::of(&[EventKind::Created]))?;
    let mut crowd = Crowd::new(&host, Ipv4Addr::LOCALHOST)?;
    let mut created = BTreeSet::new();
    // Both ends of a connection are in the one namespace: two for one.
    while created.len() < COUNT {
        crowd.grow(1)?;
        for _ in 0..2 {
            created.insert(manager.created()?);
        }
    }
    let listed = manager.connections()?;
    assert_eq!(listed.len(), COUNT);
    let tokens: BTreeSet<_> = listed.iter().map(|connection| connection.token).collect();
    assert_eq!(tokens, created);
    for connection in listed {
        let [subflow] = connection.subflows[..] else {
            anyhow::bail!("{connection:?}");
        };
        subflow.tcp_info.context("conn-get without tcp_info")?;
    }
    Ok(())
}
