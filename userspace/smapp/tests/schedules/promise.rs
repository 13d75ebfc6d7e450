// SPDX-License-Identifier: GPL-2.0
//! What the policies promise: at any time, and once everything is calm.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use smapp::policy::PolicyOptions;
use smapp::sim::Sim;
use smapp::{Connection, Subflow};

use crate::schedule::{LOCALS, ends_of};
use crate::world::ip;

/// What a policy promises about the subflows of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Of a client, on one pair of addresses.
    pub pair: usize,
    /// Of a client, in all and from one address.
    pub all: usize,
    pub address: usize,
    /// Of a server, in all and with one address of the peer, once the policy knows of them.
    pub accepted: Option<[usize; 2]>,
    /// Of a client, once everything is calm.
    pub calm: Calm,
}

/// What a policy brings a connection to once everything is calm.
#[derive(Clone, Copy, Debug)]
pub enum Calm {
    /// A subflow on every usable pair of addresses, as far as there may be so many in all
    /// and from one address.
    Mesh(usize, usize),
    /// One subflow, on the best path.
    Best,
    /// So many on one pair of addresses, and no others.
    Number(usize),
    /// One that works.
    Works,
    /// Nothing.
    Nothing,
}

/// A policy from JSON, with what it promises.
pub fn policies() -> Vec<(PolicyOptions, Promise)> {
    let promise = |pair, all, address, calm| Promise {
        pair,
        all,
        address,
        accepted: None,
        calm,
    };
    let each = [
        // Replacing is the one case in which fullmesh is asked for a second on a pair.
        (
            r#"{"fullmesh": {"replace-after": "1h"}}"#,
            promise(1, 16, 8, Calm::Mesh(16, 8)),
        ),
        (
            r#"{"fullmesh": {"max-subflows": 3, "max-per-address": 2, "replace-after": "1h"}}"#,
            promise(1, 3, 2, Calm::Mesh(3, 2)),
        ),
        (
            r#"{"fullmesh": {"replace-after": "1s"}}"#,
            promise(2, 32, 16, Calm::Mesh(16, 8)),
        ),
        (
            r#"{"backup": {"longest-fail-back": "60s"}}"#,
            promise(1, 5, 1, Calm::Best),
        ),
        (
            r#"{"backup": {"backups": ["eth*", "wwan*"], "fail-back": "2s", "longest-fail-back": "20s"}}"#,
            promise(1, 5, 1, Calm::Best),
        ),
        (r#"{"streaming": {}}"#, promise(1, 5, 1, Calm::Works)),
        // Twice as many while they go from one address to another.
        (
            r#"{"refresh": {"subflows": 4, "tolerance": 0.001}}"#,
            promise(4, 8, 4, Calm::Number(4)),
        ),
        (
            r#"{"ndiffports": {"subflows": 3}}"#,
            promise(3, 6, 3, Calm::Number(3)),
        ),
        (
            r#"{"limit": {"subflows": 3, "per-address": 2}}"#,
            promise(1, 1, 1, Calm::Nothing),
        ),
    ];
    let read = |(json, promise): (&str, Promise)| {
        let policy: PolicyOptions = serde_json::from_str(json).expect("a policy");
        (policy, promise)
    };
    each.map(read).to_vec()
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> usize {
    let mut counts = BTreeMap::<K, usize>::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts.into_values().max().unwrap_or(0)
}

/// Asserts what a policy promises about a connection.
pub fn keeps(connection: &Connection, promise: Promise) -> Result<(), TestCaseError> {
    if connection.server_side {
        return Ok(());
    }
    let subflows = &connection.subflows;
    let pair = count(subflows.iter().map(|s| (s.local_address, s.remote())));
    let address = count(subflows.iter().map(|s| s.local_address));
    prop_assert!(pair <= promise.pair, "{pair} on one pair: {connection:#?}");
    prop_assert!(
        address <= promise.address,
        "{address} from one address: {connection:#?}"
    );
    prop_assert!(
        subflows.len() <= promise.all,
        "too many subflows: {connection:#?}"
    );
    Ok(())
}

/// Asserts what a policy promises about a connection that this host has accepted.
pub fn limits(connection: &Connection, [all, address]: [usize; 2]) -> Result<(), TestCaseError> {
    let subflows = &connection.subflows;
    let most = count(subflows.iter().map(|s| s.remote_address));
    prop_assert!(
        subflows.len() <= all && most <= address,
        "{} subflows, {most} with one address: {connection:#?}",
        subflows.len()
    );
    Ok(())
}

/// Asserts what a policy promises about a connection once everything is calm.
pub fn is_calm(
    connection: &Connection,
    calm: Calm,
    announced: &[IpAddr],
    sim: &Sim,
) -> Result<(), TestCaseError> {
    let (origin, server) = ends_of(connection);
    let subflows = &connection.subflows;
    let joined = subflows.iter().all(Subflow::has_joined);
    let waiting = sim.waiting(connection.token);
    match calm {
        Calm::Mesh(all, most) => {
            let announced = announced.iter().map(|&a| SocketAddr::new(a, server.port()));
            let remotes: BTreeSet<_> = announced.chain([server]).collect();
            let locals: Vec<_> = LOCALS.iter().map(|text| ip(text)).collect();
            for (&local, remote) in locals
                .iter()
                .flat_map(|l| remotes.iter().map(move |r| (l, r)))
            {
                let from_there = subflows.iter().filter(|s| s.local_address == local);
                let held = from_there.clone().any(|s| s.remote() == *remote);
                let full = subflows.len() >= all || from_there.count() >= most;
                let other_family = local.is_ipv4() != remote.is_ipv4();
                prop_assert!(
                    held || full || other_family,
                    "{local} -> {remote} is missing: {connection:#?}"
                );
            }
            prop_assert!(joined, "{connection:#?}");
        }
        Calm::Best => {
            let locals: Vec<_> = subflows.iter().map(|s| s.local_address).collect();
            prop_assert_eq!(locals, vec![origin], "{:#?}", connection);
            prop_assert!(joined && waiting == 0, "{waiting} B wait: {connection:#?}");
        }
        Calm::Number(number) => {
            let first = subflows.first().map(|s| (s.local_address, s.remote()));
            let there = |s: &&Subflow| Some((s.local_address, s.remote())) == first;
            prop_assert_eq!(subflows.iter().filter(there).count(), number);
            prop_assert_eq!(subflows.len(), number, "{:#?}", connection);
            prop_assert!(joined, "{connection:#?}");
        }
        Calm::Works => prop_assert_eq!(waiting, 0, "{:#?}", connection),
        Calm::Nothing => {}
    }
    Ok(())
}
