// SPDX-License-Identifier: GPL-2.0
//! An engine beside a test, whose table must be the kernel's in the end.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use anyhow::{Result, anyhow, ensure};
use smapp::{Client, Connection, Engine, EventSet, Kernel, LocalAddress, Policy, Subflow};

use crate::netns::Netns;
use crate::path_manager::PathManager;

/// Wants to know everything, does nothing.
#[derive(Clone, Copy, Debug)]
pub struct Observer;

impl Policy for Observer {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }
}

/// What an engine knows: the connections, and the local addresses.
type Table = (Vec<Connection>, BTreeSet<LocalAddress>);

/// An engine in a thread of its own.
#[derive(Debug)]
pub struct Attached {
    thread: JoinHandle<Result<Table>>,
    stop: UnixStream,
}

impl Attached {
    /// Attach a policy to the connections of a host.
    pub fn to(host: &Netns, policy: impl Policy + Send + 'static) -> Result<Self> {
        let (stop, told) = UnixStream::pair()?;
        let client = host.enter(Client::connect)?;
        client.stop_on(&told)?;
        let mut engine = Engine::new(client, policy);
        host.enter(|| engine.attach())?;
        // It lists the addresses of the namespace that it is in.
        let serve = move || {
            let _told = told;
            engine.serve()?;
            let addresses = engine.control(|_, context| context.addresses().to_vec());
            let connections = engine.connections().cloned().collect();
            Ok((connections, addresses.into_iter().collect()))
        };
        let thread = host.enter(|| std::thread::spawn(serve));
        Ok(Attached { thread, stop })
    }

    /// Stop, at a moment at which nothing changes: its table must be the kernel's.
    pub fn compare(mut self, host: &Netns) -> Result<()> {
        self.stop.write_all(b"!")?;
        let (table, addresses) = self
            .thread
            .join()
            .map_err(|_| anyhow!("an engine panicked"))??;
        let mut manager = PathManager::with_events(host, EventSet::default())?;
        let kernel = manager.connections()?;
        ensure!(
            facts(table.iter()) == facts(kernel.iter()),
            "the table of the engine:\n{:#?}\nthe kernel's:\n{:#?}",
            facts(table.iter()),
            facts(kernel.iter())
        );
        let known = host.enter(|| manager.client().addresses())?;
        let known = known.into_iter().collect();
        ensure!(
            addresses == known,
            "the addresses of the engine: {addresses:?}\nthe kernel's: {known:?}"
        );
        Ok(())
    }
}

/// What both have to agree on.
pub fn facts<'a>(connections: impl Iterator<Item = &'a Connection>) -> BTreeSet<String> {
    let subflows = |c: &Connection| -> BTreeSet<String> {
        let fact = |s: &Subflow| format!("{} {} {} {}", s.id, s.local(), s.remote(), s.backup_peer);
        c.subflows.iter().map(fact).collect()
    };
    connections
        .map(|c| format!("{} {} {:?}", c.token, c.server_side, subflows(c)))
        .collect()
}
