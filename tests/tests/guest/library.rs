// SPDX-License-Identifier: GPL-2.0
//! The crate as a program of one's own uses it: the examples, and the adapter for tokio.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use smapp::{
    AsyncEvents, Client, Engine, Errno, Event, EventKind, EventSet, Input, Kernel, SubflowId, Token,
};
use smapp_tests::traffic::listen;
use smapp_tests::{
    Connection, DEADLINE, Family, Fault, Path, PathManager, Shape, Topology, topology,
};
use socket2::Protocol;

use super::{LONG, connect, over_second_path};

#[allow(dead_code)]
#[path = "../../../userspace/smapp/examples/on_trouble.rs"]
mod on_trouble;
#[allow(dead_code)] // its main
#[path = "../../../userspace/smapp/examples/own_connection.rs"]
mod own_connection;
#[allow(dead_code)]
#[path = "../../../userspace/smapp/examples/second_subflow.rs"]
mod second_subflow;

#[test]
fn a_policy_of_forty_lines_opens_a_subflow() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut engine = topology.client.enter(|| -> Result<_> {
        let mut engine = Engine::new(Client::connect()?, second_subflow::SecondSubflow);
        engine.attach()?;
        Ok(engine)
    })?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        run_until_two(&mut engine, token)?;
        client.wait_for_subflows(token, 2)?;
    }
    Ok(())
}

/// Runs a policy until the connection has two subflows.
fn run_until_two<P: smapp::Policy>(engine: &mut Engine<Client, P>, token: Token) -> Result<()> {
    let opened = |engine: &Engine<_, _>| {
        let mut connections = engine.connections();
        let found = connections.find(|c: &&smapp::Connection| c.token == token);
        found.is_some_and(|c| c.subflows.len() == 2)
    };
    while !opened(engine) {
        let until = engine.control(|_, context| context.now()) + DEADLINE;
        let before = engine.connections().count();
        ensure!(engine.step(Some(until))?, "told to stop");
        let late = engine.control(|_, context| context.now()) >= until;
        ensure!(!late, "nothing within the deadline, {before} connections");
    }
    Ok(())
}

#[test]
fn the_policy_of_the_page_helps_in_trouble() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut engine = topology.client.enter(|| -> Result<_> {
        let mut engine = Engine::new(Client::connect()?, on_trouble::OnTrouble);
        engine.attach()?;
        Ok(engine)
    })?;
    for family in Family::BOTH {
        let (mut connection, token) = connect(&topology, family, &mut client)?;
        topology.break_path(Path::First, Fault::Blackhole)?;
        connection.client.write_all(b"nobody hears it yet")?;
        run_until_two(&mut engine, token)?;
        let known = client.wait_for_subflows(token, 2)?;
        ensure!(known.subflows.iter().any(|s| s.backup), "{known:?}");
        topology.repair_path(Path::First, Fault::Blackhole)?;
    }
    Ok(())
}

#[test]
fn a_socket_tells_its_token_to_any_user() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let mut client = PathManager::of(host)?;
    for family in Family::BOTH {
        let (_other, _) = connect(&topology, family, &mut client)?;
        let (connection, token) = connect(&topology, family, &mut client)?;
        let socket = &connection.client;
        let told = host.enter(|| -> Result<_> {
            set_capabilities(
                None,
                CapabilitySets {
                    effective: CapabilitySet::empty(),
                    permitted: CapabilitySet::empty(),
                    inheritable: CapabilitySet::empty(),
                },
            )?;
            Ok(Token::of(socket)?)
        })?;
        assert_eq!(told, token);
        // Another namespace does not know it.
        let error = topology.router.enter(|| Token::of(socket)).err();
        assert_eq!(error.and_then(|e| e.errno()), Some(Errno::ENOENT));
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
