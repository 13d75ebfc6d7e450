// SPDX-License-Identifier: GPL-2.0
//! Addresses of this host that come and go.

use anyhow::{Context, Result, ensure};
use smapp::AddressChange::{Down, Up};
use smapp::{AddressChange, EventKind, EventSet};
use smapp_tests::{Family, Path, PathManager, Topology};

const EVENTS: EventSet = EventSet::of(&[EventKind::NewLocalAddress, EventKind::DelLocalAddress]);

/// Another address of the client, on its second path.
fn another(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.0.2.7/24",
        Family::V6 => "fd00:2::7/64",
    }
}

/// Whether a change is about `address` on the second path.
fn is_about(change: AddressChange, address: &str) -> bool {
    let local = change.address();
    let bare = address.split('/').next().unwrap_or_default();
    local.address.to_string() == bare
        && local.interface.as_bytes() == Path::Second.interface().as_bytes()
}

#[test]
fn an_address_that_is_added_and_removed_is_told() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    for family in Family::BOTH {
        let address = another(family);
        let dev = Path::Second.interface();
        topology
            .client
            .ip(&format!("address add {address} dev {dev}\n"))?;
        let added = client.address_change()?;
        assert!(
            matches!(added, Up(_)) && is_about(added, address),
            "{added:?}"
        );
        topology
            .client
            .ip(&format!("address delete {address} dev {dev}\n"))?;
        let removed = client.address_change()?;
        assert_eq!(removed, Down(*added.address()));
    }
    Ok(())
}

/// A topology whose client looks for duplicates of its IPv6 addresses.
fn topology_with_dad() -> Result<Topology> {
    let topology = Topology::new()?;
    topology
        .client
        .set_sysctl("ipv6/conf/eth1/accept_dad", "1")?;
    Ok(topology)
}

#[test]
fn an_ipv6_address_is_told_once_it_is_no_longer_tentative() -> Result<()> {
    let topology = topology_with_dad()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    let is_tentative = || -> Result<bool> {
        let args = ["-6", "-oneline", "address", "show", "dev", "eth1"];
        let shown = String::from_utf8(topology.client.run("ip", &args)?.stdout)?;
        let line = shown.lines().find(|line| line.contains("fd00:2::7/64"));
        Ok(line
            .context("the address is not there")?
            .contains("tentative"))
    };
    topology.client.ip("address add fd00:2::7/64 dev eth1\n")?;
    ensure!(is_tentative()?, "it never was");
    let change = client.address_change()?;
    assert!(matches!(change, Up(_)) && is_about(change, "fd00:2::7"));
    ensure!(!is_tentative()?, "told too early");
    Ok(())
}

#[test]
fn an_ipv6_address_that_another_host_has_is_never_told() -> Result<()> {
    let topology = topology_with_dad()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    // The first is the router's.
    topology
        .client
        .ip("address add fd00:2::1/64 dev eth1\naddress add fd00:2::7/64 dev eth1\n")?;
    let change = client.address_change()?;
    assert!(
        matches!(change, Up(_)) && is_about(change, "fd00:2::7"),
        "{change:?}"
    );
    topology
        .client
        .ip("address delete fd00:2::1/64 dev eth1\naddress delete fd00:2::7/64 dev eth1\n")?;
    let change = client.address_change()?;
    assert!(
        matches!(change, Down(_)) && is_about(change, "fd00:2::7"),
        "{change:?}"
    );
    Ok(())
}

#[test]
fn an_interface_that_goes_takes_its_addresses_and_brings_them_back() -> Result<()> {
    let topology = Topology::new()?;
    // Or the IPv6 address would be lost.
    topology
        .client
        .set_sysctl("ipv6/conf/eth1/keep_addr_on_down", "1")?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    let both = Family::BOTH.map(|family| Path::Second.client(family).to_string());
    for (state, up) in [("down", false), ("up", true)] {
        topology.client.ip(&format!("link set eth1 {state}\n"))?;
        let mut told = Vec::new();
        for _ in &both {
            let change = client.address_change()?;
            assert_eq!(matches!(change, Up(_)), up, "{change:?}");
            told.push(change.address().address.to_string());
        }
        told.sort();
        assert_eq!(told, both);
    }
    Ok(())
}

#[test]
fn the_loopback_interface_is_not_told() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    topology
        .client
        .ip("address add 10.9.9.9/32 dev lo\naddress add 10.0.2.7/24 dev eth1\n")?;
    let change = client.address_change()?;
    assert!(is_about(change, "10.0.2.7"), "{change:?}");
    Ok(())
}

#[test]
fn local_addresses_stay_in_their_namespace() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    topology.server.ip("address add 10.0.3.7/24 dev eth0\n")?;
    topology.client.ip("address add 10.0.2.7/24 dev eth1\n")?;
    let change = client.address_change()?;
    assert!(is_about(change, "10.0.2.7"), "{change:?}");
    Ok(())
}

#[test]
fn an_interface_that_is_renamed_while_up_is_told_by_its_new_name() -> Result<()> {
    const NEW: &str = "wan1";
    let topology = Topology::new()?;
    let mut client = PathManager::with_events(&topology.client, EVENTS)?;
    topology.client.ip(&format!("link set eth1 name {NEW}\n"))?;
    let mut told = Vec::new();
    for _ in Family::BOTH {
        let change = client.address_change()?;
        let local = change.address();
        ensure!(matches!(change, Up(_)), "{change:?}");
        assert_eq!(local.interface.to_string(), NEW);
        told.push(local.address);
    }
    told.sort();
    let mut both = Family::BOTH.map(|family| Path::Second.client(family));
    both.sort();
    assert_eq!(told, both);
    // When they go it is by that name.
    topology.client.ip(&format!("link set {NEW} down\n"))?;
    for _ in Family::BOTH {
        let change = client.address_change()?;
        ensure!(matches!(change, Down(_)), "{change:?}");
        assert_eq!(change.address().interface.to_string(), NEW);
    }
    Ok(())
}

#[test]
fn an_interface_that_moves_to_another_namespace_leaves_no_address_behind() -> Result<()> {
    let topology = Topology::new()?;
    let mut here = PathManager::with_events(&topology.client, EVENTS)?;
    let mut there = PathManager::with_events(&topology.server, EVENTS)?;
    let name = topology.server.name();
    topology
        .client
        .ip(&format!("link set eth1 netns {name}\n"))?;
    let mut gone = Vec::new();
    for _ in Family::BOTH {
        let change = here.address_change()?;
        ensure!(matches!(change, Down(_)), "{change:?}");
        assert_eq!(change.address().interface.to_string(), "eth1");
        gone.push(change.address().address);
    }
    gone.sort();
    let mut both = Family::BOTH.map(|family| Path::Second.client(family));
    both.sort();
    assert_eq!(gone, both);
    // It has none where it comes to, until it gets one.
    topology
        .server
        .ip("link set eth1 up\naddress add 10.0.2.9/24 dev eth1\n")?;
    let change = there.address_change()?;
    assert!(
        matches!(change, Up(_)) && is_about(change, "10.0.2.9"),
        "{change:?}"
    );
    Ok(())
}
