// SPDX-License-Identifier: GPL-2.0
//! The crate as a program of one's own uses it: the examples, and the adapter for tokio.

use std::io::Read;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use smapp::{AsyncEvents, Client, Engine, Event, EventKind, EventSet, Input, Kernel, SubflowId};
use smapp_tests::traffic::listen;
use smapp_tests::{Connection, DEADLINE, Family, Path, PathManager, Shape, Topology, topology};
use socket2::Protocol;

use super::{LONG, connect, over_second_path};

#[allow(dead_code)] // its main
#[path = "../../../userspace/smapp/examples/own_connection.rs"]
mod own_connection;
#[allow(dead_code)]
#[path = "../../../userspace/smapp/examples/second_subflow.rs"]
mod second_subflow;

#[test]
fn a_controller_of_forty_lines_opens_a_subflow() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut engine = topology.client.enter(|| -> Result<_> {
        let mut engine = Engine::new(Client::connect()?, second_subflow::SecondSubflow);
        engine.attach()?;
        Ok(engine)
    })?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        let opened = |engine: &Engine<_, _>| {
            let mut connections = engine.connections();
            let found = connections.find(|c: &&smapp::Connection| c.token == token);
            found.is_some_and(|c| c.subflows.len() == 2)
        };
        while !opened(&engine) {
            let until = engine.control(|_, context| context.now()) + DEADLINE;
            let before = engine.connections().count();
            ensure!(engine.step(Some(until))?, "told to stop");
            let late = engine.control(|_, context| context.now()) >= until;
            ensure!(!late, "nothing within the deadline, {before} connections");
        }
        client.wait_for_subflows(token, 2)?;
    }
    Ok(())
}

#[test]
fn an_application_opens_a_second_subflow_on_its_own_decision() -> Result<()> {
    for family in Family::BOTH {
        let slow = Shape {
            rate: 4,
            ..Shape::default()
        };
        let topology = Topology::with_shapes([slow; 2])?;
        topology.client.manage_by_smapp()?;
        let mut client = PathManager::of(&topology.client)?;
        let listener = listen(&topology.server, topology::server(family), Protocol::MPTCP)?;
        let server = listener.local_addr()?;
        let second = Path::Second.client(family);
        let host = &topology.client;
        let received = thread::scope(|scope| {
            let sender = scope.spawn(|| host.enter(|| own_connection::send(server, second)));
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(LONG))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            sender.join().expect("the example does not panic")?;
            anyhow::Ok(received.len())
        })?;
        ensure!(received >= 2_000_000, "{received} bytes came");
        let joined = client.expect(EventKind::SubflowEstablished, |_| true)?;
        let joined = joined.subflow().context("sub_estab has a subflow")?;
        assert_eq!(joined.local_address, second);
        assert_eq!(joined.remote(), server);
    }
    Ok(())
}

/// The next event of a kind, or an error after the deadline.
async fn expect(events: &mut AsyncEvents, kind: EventKind) -> Result<Event> {
    let next = async {
        loop {
            match events.next().await? {
                Input::Event(event) if event.kind() == kind => return Ok(event),
                Input::Event(_) | Input::Address(_) => {}
                other => bail!("{other:?} instead of an event"),
            }
        }
    };
    let next = tokio::time::timeout(DEADLINE, next).await;
    next.with_context(|| format!("no {}", kind.word()))?
}

#[test]
fn an_async_program_hears_events_and_gives_commands() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    host.enter(|| {
        runtime.block_on(async {
            let mut events = AsyncEvents::connect(EventSet::ALL)?;
            for family in Family::BOTH {
                // Nothing comes by itself.
                let quiet = Duration::from_millis(50);
                let nothing = tokio::time::timeout(quiet, events.next()).await;
                ensure!(nothing.is_err(), "{nothing:?}");
                let connection = Connection::establish(&topology, family)?;
                let token = expect(&mut events, EventKind::Established).await?.token;
                let create = over_second_path(&connection)?;
                let id: SubflowId = events.client().subflow_create(token, &create)?.id;
                let joined = expect(&mut events, EventKind::SubflowEstablished).await?;
                assert_eq!(joined.subflow().map(|s| s.id), Some(id));
                drop(connection);
                expect(&mut events, EventKind::Closed).await?;
            }
            Ok(())
        })
    })
}
