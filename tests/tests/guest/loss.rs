// SPDX-License-Identifier: GPL-2.0
//! Events that do not fit: the listener is told, lists what exists, and is right again.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use smapp::message::Connection;
use smapp::{Backend, Client, Context, Controller, Engine, EventKind, EventSet, Token};
use smapp_tests::{Family, Fault, Path, PathManager, Topology};

use super::{SmallQueues, connect, flood, join};

/// Counts the connections that it learned of from a listing.
struct Listener(Arc<AtomicUsize>);

impl Controller for Listener {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn attached(&mut self, _: &mut Context<'_>, _: Token) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A client with a small queue for events, which stops once the socket has something.
fn client(topology: &Topology, stop: &UnixStream) -> Result<Client> {
    let mut client = topology.client.enter(Client::connect)?;
    client.stop_on(stop)?;
    let _small = SmallQueues::new()?;
    topology.client.enter(|| client.listen(EventSet::ALL))?;
    Ok(client)
}

/// What both sides have to agree on.
pub(super) fn facts<'a>(connections: impl Iterator<Item = &'a Connection>) -> BTreeSet<String> {
    let subflows = |c: &Connection| -> BTreeSet<String> {
        let fact = |s: &smapp::message::Subflow| {
            format!("{} {} {} {}", s.id, s.local(), s.remote(), s.backup_peer)
        };
        c.subflows.iter().map(fact).collect()
    };
    connections
        .map(|c| format!("{} {} {:?}", c.token, c.server_side, subflows(c)))
        .collect()
}

#[test]
fn after_a_loss_the_table_equals_the_kernels() -> Result<()> {
    let topology = Topology::new()?;
    let (stop, mut tell) = UnixStream::pair()?;
    let listed = Arc::new(AtomicUsize::new(0));
    let slow = client(&topology, &stop)?;
    let mut fast = PathManager::of(&topology.client)?;
    let known = connect(&topology, Family::V4, &mut fast)?;
    join(&mut fast, &known.0, known.1)?;
    let (gone, over) = connect(&topology, Family::V6, &mut fast)?;
    let mut slow = Engine::new(slow, Listener(listed.clone()));
    topology.client.enter(|| slow.attach())?;
    assert_eq!(listed.load(Relaxed), 2, "the connections that were there");
    // From here on nothing fits any more.
    topology.break_path(Path::Second, Fault::Blackhole)?;
    flood(&mut fast, &known.0, known.1)?;
    topology.repair_path(Path::Second, Fault::Blackhole)?;
    drop(gone);
    fast.expect(EventKind::Closed, |event| event.token() == over)?;
    let mut kept = Vec::new();
    for family in [Family::V4, Family::V6, Family::V4, Family::V6] {
        let (connection, token) = connect(&topology, family, &mut fast)?;
        for _ in 0..3 {
            join(&mut fast, &connection, token)?;
        }
        let last = join(&mut fast, &connection, token)?;
        fast.destroy(token, last.id)?;
        fast.expect_subflow(EventKind::SubflowClosed, last.id)?;
        kept.push(connection);
    }
    tell.write_all(b"!")?;
    slow.serve().context("serving after a loss")?;
    assert_eq!(
        listed.load(Relaxed),
        2 + kept.len(),
        "all of these events were lost"
    );
    let kernel = fast.connections()?;
    assert_eq!(kernel.len(), 5);
    assert_eq!(facts(slow.connections()), facts(kernel.iter()));
    Ok(())
}
