// SPDX-License-Identifier: GPL-2.0
//! Sockets that are disconnected and used again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::connect_unspec;
use smapp::{Client, EventKind, EventSet, Input, Kernel, SubflowCreate, SubflowDestroy};
use smapp_tests::traffic::{listen, socket};
use smapp_tests::{Attached, Family, Netns, Observer, Path, topology};
use socket2::Protocol;

use super::abort;
use super::race::{Race, Random, quiet, topology};

/// Gives every connection more subflows, and takes some of them again.
fn join(host: &Netns, stop: &AtomicBool) -> Result<u64> {
    let mut client = host.enter(Client::connect)?;
    host.enter(|| client.listen(EventSet::of(&[EventKind::Established])))?;
    let mut created = 0;
    while !stop.load(Relaxed) {
        let until = client.now() + Duration::from_millis(50);
        let event = match client.wait(Some(until))? {
            Input::Event(event) => event,
            Input::Time | Input::Lost => continue,
            other => bail!("{other:?}"),
        };
        let Some(first) = event.subflow() else {
            continue;
        };
        let wanted =
            SubflowCreate::to(first.remote()).local_address(Path::Second.client(Family::V4));
        for number in 0..4 {
            // The connection may be over by now.
            let Ok(subflow) = client.subflow_create(event.token, &wanted) else {
                break;
            };
            created += 1;
            if number % 2 == 1 {
                let _ = client.subflow_destroy(event.token, &SubflowDestroy::id(subflow.id));
            }
        }
    }
    Ok(created)
}

/// Accepts connections, answers each with what it has sent, and ends some of them.
fn serve(listener: &TcpListener, seed: u64, stop: &AtomicBool) -> Result<()> {
    let mut random = Random::new(seed);
    loop {
        let (mut end, _) = listener.accept()?;
        if stop.load(Relaxed) {
            return Ok(());
        }
        let mut byte = [0];
        end.set_read_timeout(Some(Duration::from_secs(10)))?;
        if end.read_exact(&mut byte).is_err() || end.write_all(&byte).is_err() {
            continue;
        }
        match random.below(4) {
            0 => abort(end)?,
            // What joins at this moment joins nothing any more.
            1 => connect_unspec(&end).context("cannot disconnect the accepted end")?,
            2 => drop(end),
            _ => {
                // Until the other end is gone.
                let _ = end.read(&mut byte);
            }
        }
    }
}

/// Uses one socket for one connection after the other.
fn reuse(host: &Netns, to: SocketAddr, seed: u64, race: &Race) -> Result<()> {
    let mut random = Random::new(seed);
    let socket = host.enter(|| socket(Family::V4, Protocol::MPTCP))?;
    while race.goes_on() {
        socket.connect(&to.into()).context("cannot connect again")?;
        let mut stream = TcpStream::from(socket.try_clone()?);
        let byte = [random.below(256) as u8];
        stream.write_all(&byte).context("cannot write")?;
        let mut answer = [0];
        stream.read_exact(&mut answer).context("cannot read")?;
        ensure!(byte == answer, "{byte:?} came back as {answer:?}");
        random.nap(4_000);
        connect_unspec(&socket).context("cannot disconnect")?;
        // How the connection before ended is for the asking, and must be asked.
        socket.take_error()?;
        race.cycle();
    }
    Ok(())
}

#[test]
fn sockets_are_disconnected_and_used_again() -> Result<()> {
    const SOCKETS: u64 = 3;
    let race = Race::start()?;
    let topology = topology()?;
    let hosts = [&topology.client, &topology.server];
    let tables = [
        Attached::to(hosts[0], Observer)?,
        Attached::to(hosts[1], Observer)?,
    ];
    let listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    let to = listener.local_addr()?;
    let stop = AtomicBool::new(false);
    let created = scope(|scope| -> Result<u64> {
        let joiner = scope.spawn(|| join(&topology.client, &stop));
        let (listener, stop_ref) = (&listener, &stop);
        let servers: Vec<_> = (0..SOCKETS)
            .map(|seed| scope.spawn(move || serve(listener, seed, stop_ref)))
            .collect();
        let (host, race) = (&topology.client, &race);
        let users: Vec<_> = (0..SOCKETS)
            .map(|seed| scope.spawn(move || reuse(host, to, 10 + seed, race)))
            .collect();
        let used: Vec<_> = users
            .into_iter()
            .map(|user| user.join().expect("no panic"))
            .collect();
        stop.store(true, Relaxed);
        for _ in 0..SOCKETS {
            // Wakes one of them.
            drop(smapp_tests::traffic::connect(&topology.client, to, b"")?);
        }
        for server in servers {
            server.join().expect("no panic")?;
        }
        let created = joiner.join().expect("no panic")?;
        used.into_iter().collect::<Result<()>>()?;
        Ok(created)
    })?;
    ensure!(created > 0, "no subflow was created");
    println!("{created} subflows created meanwhile");
    drop(listener);
    for (host, table) in hosts.into_iter().zip(tables) {
        quiet(host, 0)?;
        table.compare(host)?;
    }
    drop(topology);
    race.end("connections of three sockets")
}
