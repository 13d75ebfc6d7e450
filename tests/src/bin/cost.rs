// SPDX-License-Identifier: GPL-2.0
//! What the module costs, in virtual time: one instruction is one nanosecond (with
//! `qemu/run --shift 0`), so that times are numbers of instructions.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use smapp::command::{SubflowCreate, SubflowDestroy};
use smapp::netlink::Messages;
use smapp::uapi::cmd;
use smapp::{Backend, Client, EventKind, EventSet, Input};
use smapp_tests::traffic::{Crowd, listen, socket};
use smapp_tests::{Connection, Family, Fault, Netns, Path, PathManager, Topology};
use socket2::Protocol;

fn main() -> Result<()> {
    set_up()?;
    sub_closed()?;
    bytes()?;
    dumps()
}

fn each(time: Duration, count: u32) -> u128 {
    time.as_nanos() / u128::from(count)
}

/// From connect() to the first byte at the server, by turns with the path manager of
/// the kernel and with the module, to which nobody listens or a client of all events.
fn set_up() -> Result<()> {
    const COUNT: u32 = 1000;
    const NAMES: [(&str, &str); 3] = [
        ("kernel", "kernel"),
        ("smapp, no listener", "smapp"),
        ("smapp, all events", "smapp"),
    ];
    println!("instructions from connect() to the first byte, {COUNT} connections each");
    // Listeners are counted for all namespaces together: they must not be there before.
    for names in [&NAMES[..2], &NAMES[2..]] {
        let hosts = names.iter().map(|(name, manager)| -> Result<_> {
            let host = Netns::loopback(&name.replace([' ', ','], ""))?;
            host.set_sysctl("mptcp/path_manager", manager)?;
            let listener = listen(&host, Ipv4Addr::LOCALHOST.into(), Protocol::MPTCP)?;
            Ok((host, listener))
        });
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let mut client = match names {
            [(_, "smapp")] => Some(PathManager::of(&hosts[0].0)?),
            _ => None,
        };
        let mut totals = vec![Duration::ZERO; hosts.len()];
        for round in 0..=COUNT {
            for ((host, listener), total) in hosts.iter().zip(&mut totals) {
                let time = host.enter(|| first_byte(listener))?;
                // The first one finds nothing in any cache.
                if round > 0 {
                    *total += time;
                }
                // What closing it takes is not the next one's.
                sleep(Duration::from_millis(20));
            }
            if let Some(client) = &mut client {
                client.expect(EventKind::Closed, |_| true)?;
            }
        }
        for ((name, _), total) in names.iter().zip(totals) {
            println!("  {name:<24}{:>10}", each(total, COUNT));
        }
    }
    Ok(())
}

fn first_byte(listener: &TcpListener) -> Result<Duration> {
    let socket = socket(Family::V4, Protocol::MPTCP)?;
    let before = Instant::now();
    socket.connect(&listener.local_addr()?.into())?;
    (&socket).write_all(b"!")?;
    let (mut far, _) = listener.accept()?;
    far.read_exact(&mut [0])?;
    Ok(before.elapsed())
}

/// What a sub_closed costs: to the kernel that sends it, to a client that receives it,
/// and how many come in a second.
fn sub_closed() -> Result<()> {
    const COUNT: u32 = 200;
    let topology = Topology::new()?;
    let connection = Connection::establish(&topology, Family::V4)?;
    let mut commands = topology.client.enter(Client::connect)?;
    let token = commands
        .connections()?
        .first()
        .context("no connection")?
        .token;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    let subflow =
        SubflowCreate::to(connection.server_address()?).from(Path::Second.client(Family::V4));
    let mut run = || -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..COUNT {
            let id = commands.subflow_create(token, &subflow)?.id;
            let before = Instant::now();
            commands.subflow_destroy(token, &SubflowDestroy::id(id))?;
            total += before.elapsed();
        }
        Ok(total)
    };
    run()?;
    let alone = run()?;
    let mut listener = topology.client.enter(Client::connect)?;
    let events = EventSet::of(&[EventKind::SubflowClosed]);
    topology.client.enter(|| listener.listen(events))?;
    let heard = run()?;
    let before = Instant::now();
    for number in 1..=COUNT {
        let until = listener.now() + Duration::from_secs(1);
        let input = listener.wait(Some(until))?;
        ensure!(
            matches!(input, Input::Event(_)),
            "{input:?} as event {number}"
        );
    }
    let drained = before.elapsed();
    let (send, receive) = (
        each(heard.saturating_sub(alone), COUNT),
        each(drained, COUNT),
    );
    println!("\ninstructions of a sub_closed, mean of {COUNT}");
    println!(
        "  {:<24}{:>10}",
        "subflow-destroy without",
        each(alone, COUNT)
    );
    println!("  {:<24}{send:>10}", "event in the kernel");
    println!("  {:<24}{receive:>10}", "event in the client");
    let rate = 1_000_000_000 / (send + receive).max(1);
    println!("  {:<24}{rate:>10}", "of both, a second");
    Ok(())
}

/// How long the messages of the events are, headers included.
fn bytes() -> Result<()> {
    println!("\nbytes of an event, IPv4 and IPv6");
    let mut sizes = BTreeMap::<_, Vec<usize>>::new();
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let mut server = PathManager::of(&topology.server)?;
        let groups = EventSet::ALL
            .iter()
            .map(|kind| server.client().family().group(kind));
        let groups: Vec<_> = groups.collect();
        let socket = topology.server.enter(|| -> Result<_> {
            let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
            socket.add_mcast_membership(Groups::new_groups(&groups))?;
            Ok(socket)
        })?;
        live(&topology, family, &mut client, &mut server)?;
        let mut buffer = [0; 4096];
        while let Ok((length, _)) = socket.recv(&mut buffer, Msg::DONTWAIT) {
            for message in Messages::new(&buffer[..length]) {
                let (command, _) = message?.generic()?;
                let of_kind = sizes.entry(command).or_default();
                of_kind.push(length);
            }
        }
    }
    for (command, lengths) in sizes {
        let name = cmd::name(command).context("an event without a name")?;
        let range = (lengths.iter().min(), lengths.iter().max());
        let (Some(least), Some(most)) = range else {
            continue;
        };
        println!("  {name:<24}{least:>10}{most:>10}");
    }
    Ok(())
}

/// Every event on the server.
fn live(
    topology: &Topology,
    family: Family,
    client: &mut PathManager,
    server: &mut PathManager,
) -> Result<()> {
    let mut connection = Connection::establish(topology, family)?;
    let token = client.created()?;
    let second = Path::Second.client(family);
    let subflow = SubflowCreate::to(connection.server_address()?).from(second);
    let id = client.create(token, subflow)?.id;
    client.joined(id)?;
    // The last segment of the handshake.
    sleep(Duration::from_millis(100));
    client.client().subflow_set_backup(token, id, true)?;
    server.expect(EventKind::SubflowPriority, |_| true)?;
    let announced = client.client().announce(token, second, None)?;
    server.expect(EventKind::AddressAnnounced, |_| true)?;
    client.client().withdraw(token, &announced)?;
    server.expect(EventKind::SubflowClosed, |_| true)?;
    topology.break_path(Path::First, Fault::Blackhole)?;
    connection.server.write_all(b"lost")?;
    server.expect(EventKind::Timeout, |_| true)?;
    topology.repair_path(Path::First, Fault::Blackhole)?;
    drop(connection);
    server.expect(EventKind::Closed, |_| true).map(drop)
}

/// The time of a dump beside `ss`.
fn dumps() -> Result<()> {
    println!("\ninstructions of a listing, in thousands");
    println!("  {:<24}{:>10}{:>10}", "connections", "conn-get", "ss -Mni");
    let host = Netns::loopback("many")?;
    host.set_sysctl("mptcp/path_manager", "smapp")?;
    let mut crowd = Crowd::new(&host, Ipv4Addr::LOCALHOST)?;
    let mut client = host.enter(Client::connect)?;
    for (grow, count) in [(1250, 2500), (1250, 5000), (2500, 10_000)] {
        crowd.grow(grow)?;
        let before = Instant::now();
        let listed = client.connections()?.len();
        let ours = before.elapsed();
        ensure!(listed == count, "{listed} connections instead of {count}");
        let before = Instant::now();
        let output = host.run("ss", &["-HMni"])?;
        let theirs = before.elapsed();
        ensure!(output.status.success(), "ss: {}", output.status);
        println!(
            "  {count:<24}{:>10}{:>10}",
            ours.as_nanos() / 1000,
            theirs.as_nanos() / 1000
        );
    }
    Ok(())
}
