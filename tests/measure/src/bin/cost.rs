// SPDX-License-Identifier: GPL-2.0
//! What the module costs, in virtual time: one instruction is one nanosecond (with
//! `qemu/run --shift 0`), so that times are numbers of instructions.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use smapp::wire::Messages;
use smapp::wire::uapi::cmd;
use smapp::{Client, EventKind, EventSet, Input, Kernel, SubflowCreate, SubflowDestroy, wire};
use smapp_tests::traffic::{Crowd, listen, socket};
use smapp_tests::{Connection, Family, Fault, Netns, Path, PathManager, Topology};
use socket2::Protocol;

fn main() -> Result<()> {
    match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => (),
        [word] if word == "life" => return life(),
        _ => bail!("usage: cost [life]"),
    }
    set_up()?;
    burst()?;
    events()?;
    dumps()
}

/// The events of one connection, to one listener: what `hops` counts.
fn life() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    live(&topology, Family::V4, &mut client, &mut server)
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
                // The first connection fills caches: it is not counted.
                if round > 0 {
                    *total += time;
                }
                // Closing it must not cost the next one time.
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

/// What it takes a client to receive events that have piled up, none of them lost.
fn burst() -> Result<()> {
    const COUNT: u32 = 200;
    let topology = Topology::new()?;
    let connection = Connection::establish(&topology, Family::V4)?;
    let [mut commands, mut listener] = [
        topology.client.enter(Client::connect)?,
        topology.client.enter(Client::connect)?,
    ];
    let events = EventSet::of(&[EventKind::SubflowClosed]);
    topology.client.enter(|| listener.listen(events))?;
    let connections = commands.connections()?;
    let token = connections.first().context("no connection")?.token;
    topology.break_path(Path::Second, Fault::Blackhole)?;
    let subflow = SubflowCreate::to(connection.server_address()?)
        .local_address(Path::Second.client(Family::V4));
    for _ in 0..COUNT {
        let id = commands.subflow_create(token, &subflow)?.id;
        commands.subflow_destroy(token, &SubflowDestroy::id(id))?;
    }
    let before = Instant::now();
    for number in 1..=COUNT {
        let input = listener.wait(Some(listener.now()))?;
        ensure!(
            matches!(input, Input::Event(_)),
            "{input:?} as event {number}"
        );
    }
    let receive = each(before.elapsed(), COUNT);
    println!("\ninstructions of a client for each of {COUNT} sub_closed that wait: {receive}");
    Ok(())
}

/// The bytes of each event's message, headers included, and the instructions that a client
/// takes to receive one that is there: the least of many, as an interrupt may come between.
fn events() -> Result<()> {
    println!("\nevents: bytes (IPv4, IPv6), instructions of a client to receive and decode");
    let mut sizes = BTreeMap::<_, [Vec<usize>; 2]>::new();
    let mut times = BTreeMap::<_, Vec<Duration>>::new();
    for (column, family) in Family::BOTH.into_iter().enumerate() {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let mut server = PathManager::of(&topology.server)?;
        let (socket, mut listener) = topology.server.enter(|| -> Result<_> {
            let mut resolver = wire::Socket::open(NlFamily::Generic)?;
            let family = wire::Family::resolve(&mut resolver, &mut Vec::new())?;
            let groups: Vec<_> = EventSet::ALL
                .iter()
                .map(|kind| family.group(kind))
                .collect();
            let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
            socket.add_mcast_membership(Groups::new_groups(&groups))?;
            let mut listener = Client::connect()?;
            listener.listen(EventSet::ALL)?;
            Ok((socket, listener))
        })?;
        live(&topology, family, &mut client, &mut server)?;
        let mut buffer = [0; 4096];
        // Both have been sent the same.
        while let Ok((length, _)) = socket.recv(&mut buffer, Msg::DONTWAIT) {
            for message in Messages::new(&buffer[..length]) {
                let (command, _) = message?.generic()?;
                sizes.entry(command).or_default()[column].push(length);
                let before = Instant::now();
                let input = listener.wait(Some(listener.now()))?;
                times.entry(command).or_default().push(before.elapsed());
                ensure!(
                    matches!(input, Input::Event(_) | Input::Address(_)),
                    "{input:?} instead of an event"
                );
            }
        }
    }
    for (command, sizes) in sizes {
        let name = cmd::name(command).context("an event without a name")?;
        let bytes = sizes.map(|sizes| sizes.into_iter().max().unwrap_or_default());
        let least = times[&command].iter().min().context("never received")?;
        let receive = least.as_nanos();
        println!("  {name:<24}{:>10}{:>10}{receive:>10}", bytes[0], bytes[1]);
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
    let address = match family {
        Family::V4 => "10.9.0.2/32 dev eth0",
        Family::V6 => "fd00:9::2/128 dev eth0 nodad",
    };
    topology.server.ip(&format!("address add {address}"))?;
    let mut connection = Connection::establish(topology, family)?;
    let token = client.created()?;
    let second = Path::Second.client(family);
    let subflow = SubflowCreate::to(connection.server_address()?).local_address(second);
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
    server.expect(EventKind::Closed, |_| true)?;
    topology.server.ip(&format!("address delete {address}"))
}

/// The time of a dump beside `ss`.
fn dumps() -> Result<()> {
    println!("\ninstructions of a listing, in thousands");
    println!("  {:<24}{:>10}{:>10}", "connections", "conn-get", "ss -Mni");
    let host = Netns::loopback("many")?;
    host.manage_by_smapp()?;
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
