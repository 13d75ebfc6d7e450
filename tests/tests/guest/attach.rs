// SPDX-License-Identifier: GPL-2.0
//! Policies that attach while connections and subflows come and go: no gap, nothing
//! told twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, ScopedJoinHandle, scope, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smapp::{Client, Context, Engine, EventSet, Policy, Subflow, SubflowId, TcpState, Token};
use smapp_tests::{Connection, facts, topology};
use smapp_tests::{DEADLINE, Family, PathManager, Topology, traffic, wait_for};
use socket2::Protocol;

use super::{connect, join, over_second_path};

/// What a policy is told of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// With the subflows that had joined.
    Attached(BTreeSet<SubflowId>),
    Created,
    Established,
    Joined(SubflowId),
    Left(SubflowId),
    Closed,
}

type Log = BTreeMap<Token, Vec<Told>>;

/// Writes down what it is told, where its engine cannot hide it.
struct Recorder(Sender<(Token, Told)>);

impl Recorder {
    fn note(&self, token: Token, told: Told) {
        let _ = self.0.send((token, told));
    }
}

impl Policy for Recorder {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn attached(&mut self, context: &mut Context<'_>, token: Token) {
        let subflows = context.connection(token).into_iter();
        let joined = |s: &&Subflow| !s.initial && s.state == Some(TcpState::ESTABLISHED);
        let joined = subflows.flat_map(|c| c.subflows.iter().filter(joined));
        self.note(token, Told::Attached(joined.map(|s| s.id).collect()));
    }

    fn created(&mut self, _: &mut Context<'_>, token: Token) {
        self.note(token, Told::Created);
    }

    fn established(&mut self, _: &mut Context<'_>, token: Token) {
        self.note(token, Told::Established);
    }

    fn subflow_established(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.note(token, Told::Joined(subflow.id));
    }

    fn subflow_closed(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.note(token, Told::Left(subflow.id));
    }

    fn closed(&mut self, _: &mut Context<'_>, connection: &smapp::Connection) {
        self.note(connection.token, Told::Closed);
    }
}

/// What an engine was told and what it knew in the end.
type Outcome = Result<(Log, BTreeSet<String>)>;

/// An engine in a thread of its own, attached when this returns, that ends once `stop`
/// has something.
fn attach<'s>(
    scope: &'s Scope<'s, '_>,
    topology: &'s Topology,
    stop: &'s UnixStream,
) -> Result<ScopedJoinHandle<'s, Outcome>> {
    let (log, told) = channel();
    let (ready, attached) = channel();
    let thread = scope.spawn(move || {
        let client = topology.client.enter(Client::connect)?;
        client.stop_on(stop)?;
        let mut engine = Engine::new(client, Recorder(log));
        topology.client.enter(|| engine.attach())?;
        ready.send(())?;
        engine.serve()?;
        let mut log = Log::new();
        for (token, told) in told.try_iter() {
            log.entry(token).or_default().push(told);
        }
        Ok((log, facts(engine.connections())))
    });
    attached.recv().context("an engine did not attach")?;
    Ok(thread)
}

/// Opens and closes connections and subflows until it is told to stop.
fn churn(topology: &Topology, stop: &AtomicBool) -> Result<usize> {
    let address = topology::server(Family::V4);
    let mut listener = traffic::listen(&topology.server, address, Protocol::MPTCP)?;
    let mut manager = PathManager::of(&topology.client)?;
    let mut count = 0;
    while !stop.load(Relaxed) {
        let mut connection = Connection::open_to(topology, listener)?;
        connection.exchange(1)?;
        let token = manager.created()?;
        manager.established(token)?;
        let first = join(&mut manager, &connection, token)?;
        let second = manager.create(token, over_second_path(&connection)?)?;
        // At once, while it joins, or after that.
        if count % 2 == 0 {
            manager.joined(second.id)?;
        }
        for subflow in [second, first] {
            manager.destroy(token, subflow.id)?;
        }
        listener = connection.listener;
        count += 1;
    }
    Ok(count)
}

/// Whether all of `part` is in `whole`, in this order.
fn is_subsequence(part: &[Told], whole: &[Told]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|told| whole.any(|other| other == told))
}

/// What `late` was told against what one was told who had been there from the start.
fn compare(late: &Log, all: &Log) -> Result<()> {
    for (token, told) in late {
        let reference = all.get(token);
        let reference = reference.with_context(|| format!("{token}: {told:?} of nothing"))?;
        let said = || format!("{token}: {told:?}, but it was {reference:?}");
        match told.as_slice() {
            [Told::Created, ..] => ensure!(told == reference, said()),
            [Told::Attached(joined), rest @ ..] => {
                let is_known = |told: &Told| match told {
                    Told::Created | Told::Attached(_) => true,
                    Told::Joined(id) => joined.contains(id),
                    _ => false,
                };
                let news: Vec<_> = reference.iter().filter(|t| !is_known(t)).cloned().collect();
                ensure!(is_subsequence(rest, &news), said());
            }
            // It was over before there was a listing.
            rest => ensure!(is_subsequence(rest, reference), said()),
        }
        ensure!(
            told.last() == Some(&Told::Closed) || reference.last() != Some(&Told::Closed),
            said()
        );
    }
    Ok(())
}

#[test]
fn who_attaches_late_misses_nothing_and_hears_nothing_twice() -> Result<()> {
    const ENGINES: u64 = 24;
    let topology = Topology::new()?;
    let (stop, mut tell) = UnixStream::pair()?;
    let mut manager = PathManager::of(&topology.client)?;
    // Some connections stay.
    let mut kept = Vec::new();
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut manager)?;
        join(&mut manager, &connection, token)?;
        kept.push(connection);
    }
    let over = AtomicBool::new(false);
    scope(|scope| -> Result<()> {
        let outcomes = (|| -> Result<Vec<_>> {
            let mut engines = vec![attach(scope, &topology, &stop)?];
            let churn = scope.spawn(|| churn(&topology, &over));
            for number in 0..ENGINES {
                sleep(Duration::from_micros(1700 * number));
                engines.push(attach(scope, &topology, &stop)?);
            }
            over.store(true, Relaxed);
            let count = churn.join().expect("no panic")?;
            ensure!(count > 10, "only {count} connections came and went");
            Ok(engines)
        })();
        over.store(true, Relaxed);
        let outcomes = outcomes.and_then(|engines| {
            wait_for("the end of all others", DEADLINE, || {
                let left = manager.connections()?.len();
                ensure!(left == kept.len(), "{left} connections");
                Ok(())
            })?;
            Ok(engines)
        });
        tell.write_all(b"!")?;
        let mut logs = Vec::new();
        let kernel = facts(manager.connections()?.iter());
        for engine in outcomes? {
            let (log, table) = engine.join().expect("no panic")?;
            assert_eq!(table, kernel);
            logs.push(log);
        }
        let attached = |log: &Log| {
            let news = log.values().flatten();
            news.filter(|told| matches!(told, Told::Attached(_)))
                .count()
        };
        // Otherwise nothing was under way when they attached.
        let most = logs.iter().map(attached).max().context("no engines")?;
        ensure!(most > kept.len(), "{most} connections at most");
        for late in &logs[1..] {
            compare(late, &logs[0])?;
        }
        Ok(())
    })
}
