// SPDX-License-Identifier: GPL-2.0
//! The long-lived connections of section 4.1 of the paper: idle ones behind a NAT that
//! forgets them.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use smapp::Subflow;
use smapp_tests::{Family, PathManager, Topology, wait_for};

use super::{LONG, connect, policy};

/// How long the NAT remembers a connection that is idle.
const MEMORY: Duration = Duration::from_secs(120);

/// What a NAT does to segments of a connection that it does not know.
#[derive(Clone, Copy, Debug)]
enum Unknown {
    Reset,
    Drop,
}

/// Have the router translate the client's addresses.
fn translate(topology: &Topology, unknown: Unknown) -> Result<()> {
    let action = match unknown {
        Unknown::Reset => "reject with tcp reset",
        Unknown::Drop => "drop",
    };
    topology.router.nft(&format!(
        "table inet nat {{\n\
           chain forward {{\n\
             type filter hook forward priority 0;\n\
             meta l4proto tcp ct state invalid {action}\n\
           }}\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat;\n\
             oifname s0 masquerade\n\
           }}\n\
         }}\n"
    ))?;
    // It takes no connection in whose SYN it has not seen.
    topology
        .router
        .set_sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    let memory = MEMORY.as_secs().to_string();
    let name = "netfilter/nf_conntrack_tcp_timeout_established";
    topology.router.set_sysctl(name, memory)
}

/// A connection is idle for longer than the NAT remembers it, and goes on.
fn outlives(family: Family, unknown: Unknown) -> Result<()> {
    let topology = Topology::new()?;
    translate(&topology, unknown)?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let _fullmesh = policy(&topology.client, "fullmesh")?;
    let (mut connection, token) = connect(&topology, family, &mut client)?;
    let before = client.wait_for_subflows(token, 2)?;
    let peer = server.created()?;
    connection.exchange(1000)?;
    let shown = server.wait_for_subflows(peer, 2)?;
    ensure!(
        shown
            .subflows
            .iter()
            .all(|s| s.remote_address == shown.subflows[0].remote_address),
        "no NAT is in the way: {shown:#?}"
    );
    sleep(2 * MEMORY);
    connection.be_patient(LONG)?;
    let sent = connection.exchange(1000);
    sent.with_context(|| format!("{family:?}, {unknown:?}: the first bytes after the pause"))?;
    // On subflows that are new, both of them.
    wait_for("two new subflows", LONG, || {
        let now = client.wait_for_subflows(token, 2)?;
        let old = |s: &Subflow| before.subflow(s.id).is_some();
        ensure!(!now.subflows.iter().any(old), "{now:#?}");
        Ok(())
    })?;
    connection.exchange(1000)
}

#[test]
fn a_connection_outlives_a_nat_that_resets_what_it_forgot() -> Result<()> {
    Family::BOTH
        .iter()
        .try_for_each(|&family| outlives(family, Unknown::Reset))
}

#[test]
fn a_connection_outlives_a_nat_that_drops_what_it_forgot() -> Result<()> {
    Family::BOTH
        .iter()
        .try_for_each(|&family| outlives(family, Unknown::Drop))
}
