// SPDX-License-Identifier: GPL-2.0
//! Events that do not fit: the listener is told, lists what exists, and is right again.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smapp::wire::operation_word;
use smapp::wire::uapi::cmd;
use smapp::{Client, Context, Engine, EventKind, EventSet, Kernel, Policy, Subflow, Token};
use smapp_tests::{
    DEADLINE, Family, Fault, Netns, Path, PathManager, Shortage, SmallQueues, Topology, facts,
};

use super::{connect, flood, initial, join, join_fully, over_second_path};

/// Counts the connections that it learned of from a listing.
struct Listener(Arc<AtomicUsize>);

impl Policy for Listener {
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
    fast.expect(EventKind::Closed, |event| event.token == over)?;
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
    // It would stop before the loss if it were told at once: a descriptor is looked at between
    // events.
    let until = slow.control(|_, context| context.now()) + DEADLINE;
    while listed.load(Relaxed) < 2 + kept.len() {
        slow.step(Some(until)).context("serving after a loss")?;
        let now = slow.control(|_, context| context.now());
        ensure!(now < until, "nobody was told of the loss");
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

/// Counts what it was told without having been sent it.
#[derive(Default)]
struct Substitutes {
    /// Subflows that are gone, nobody knows why.
    subflows: Arc<AtomicUsize>,
}

impl Policy for Substitutes {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn subflow_closed(&mut self, _: &mut Context<'_>, _: Token, subflow: &Subflow) {
        if subflow.errno.is_none() {
            self.subflows.fetch_add(1, Relaxed);
        }
    }
}

/// Runs `act`, in which an allocation of the kernel may fail, beside an engine; then
/// what that knows must be what the kernel knows. Tells how many events of the kind were
/// lost, and how many sub_closed the policy was told in place of lost ones.
fn beside_an_engine<T>(
    host: &Netns,
    event: u8,
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, u64, usize)> {
    let (stop, mut tell) = UnixStream::pair()?;
    let client = host.enter(Client::connect)?;
    client.stop_on(&stop)?;
    let substitutes = Substitutes::default();
    let subflows = substitutes.subflows.clone();
    let mut engine = Engine::new(client, substitutes);
    host.enter(|| engine.attach())?;
    let mut observer = PathManager::with_events(host, EventSet::default())?;
    let before = observer
        .client()
        .statistics()?
        .operation(&operation_word(event))
        .failed;
    let done = act()?;
    tell.write_all(b"!")?;
    engine.serve()?;
    let kernel = observer.connections()?;
    assert_eq!(facts(engine.connections()), facts(kernel.iter()));
    let lost = observer
        .client()
        .statistics()?
        .operation(&operation_word(event))
        .failed
        - before;
    Ok((done, lost, subflows.load(Relaxed)))
}

/// More allocations than anything here makes.
const ALLOCATIONS: std::ops::Range<u32> = 1..50;

#[test]
fn a_sub_closed_for_which_there_is_no_memory_is_made_good() -> Result<()> {
    let topology = Topology::new()?;
    let shortage = Shortage::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let first = initial(&mut client, token)?;
    // Its queue would tell of losses, too.
    let mut client = PathManager::with_events(&topology.client, EventSet::default())?;
    let (mut lost, mut told) = (0, 0);
    for number in ALLOCATIONS {
        client.wait_for_subflows(token, 1)?;
        let subflow = client.create(token, over_second_path(&connection)?)?;
        client.wait_for_subflows(token, 2)?;
        let destroy = || shortage.of_this_thread(number, || client.destroy(token, subflow.id));
        let ((_, failed), events, substitutes) =
            beside_an_engine(&topology.client, cmd::SUB_CLOSED, destroy)?;
        lost += events;
        told += substitutes as u64;
        if !failed {
            assert_eq!((lost, told), (1, 1), "in {number} attempts");
            assert!(client.connection(token)?.subflow(first).is_some());
            return Ok(());
        }
        // The request or its answer may have been what failed.
        let left = client.connection(token)?;
        if left.subflow(subflow.id).is_some() {
            client.destroy(token, subflow.id)?;
        }
    }
    anyhow::bail!("memory runs out again and again")
}

#[test]
fn a_closed_for_which_there_is_no_memory_is_made_good() -> Result<()> {
    let topology = Topology::new()?;
    let shortage = Shortage::new()?;
    let mut lost = 0;
    for number in ALLOCATIONS {
        let mut client = PathManager::of(&topology.client)?;
        let (connection, _) = connect(&topology, Family::V4, &mut client)?;
        // Closes at once, in this thread.
        let abort = || shortage.of_this_thread(number, || connection.abort());
        let ((ends, failed), events, _) = beside_an_engine(&topology.client, cmd::CLOSED, abort)?;
        ends?;
        lost += events;
        if !failed {
            assert_eq!(lost, 1, "in {number} attempts");
            return Ok(());
        }
    }
    anyhow::bail!("memory runs out again and again")
}

#[test]
fn a_sub_priority_for_which_there_is_no_memory_is_made_good() -> Result<()> {
    let topology = Topology::new()?;
    let shortage = Shortage::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let subflow = join_fully(&mut client, &connection, token)?;
    let mut lost = 0;
    for number in ALLOCATIONS {
        let backup = number % 2 == 1;
        let client = client.client();
        // The peer hears of it in a softirq, where nothing can wait for memory.
        let set = || {
            shortage.of_all(number, || -> Result<()> {
                client.subflow_set_backup(token, subflow.id, backup)?;
                sleep(Duration::from_millis(100));
                Ok(())
            })
        };
        let ((set, failed), events, _) =
            beside_an_engine(&topology.server, cmd::SUB_PRIORITY, set)?;
        set?;
        lost += events;
        if !failed {
            ensure!(lost == 1, "{lost} events lost in {number} attempts");
            return Ok(());
        }
    }
    anyhow::bail!("memory runs out again and again")
}

#[test]
fn an_add_addr_for_which_there_is_no_memory_comes_again() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::with_events(
        &topology.server,
        EventSet::of(&[EventKind::AddressAnnounced]),
    )?;
    let second = Path::Second.client(Family::V4);
    let shortage = Shortage::new()?;
    for number in ALLOCATIONS {
        let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
        let before = server.client().statistics()?.operation("add_addr");
        let (announced, failed) = shortage.of_all(number, || -> Result<()> {
            client.client().announce(token, second, None)?;
            sleep(Duration::from_millis(100));
            Ok(())
        })?;
        announced?;
        let after = server.client().statistics()?.operation("add_addr");
        if after.failed > before.failed {
            // The peer was not told that it arrived, and says it again.
            let told = server
                .next(smapp_tests::DEADLINE)
                .err()
                .context("not lost")?;
            ensure!(told.to_string().contains("Lost"), "{told}");
            let deadline = Duration::from_secs(300);
            server.expect_within(deadline, EventKind::AddressAnnounced, |_| true)?;
            return Ok(());
        }
        ensure!(failed, "no event was lost in {number} attempts");
    }
    anyhow::bail!("memory runs out again and again")
}
