// SPDX-License-Identifier: GPL-2.0
//! Very many connections with four subflows each: what they cost, how long it takes to
//! attach to them, and what happens when the path that all of them share dies.
//!
//! Times are those of the guest. Fails if a connection breaks, if a byte is lost, if a
//! subflow does not come back, or if the engine's table is not the kernel's in the end.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use smapp::wire::operation_word;
use smapp::wire::uapi::cmd;
use smapp::{EventKind, EventSet, Subflow, TcpState};
use smapp_measure::experiment::host;
use smapp_tests::traffic::{self, Crowd, listen};
use smapp_tests::{
    Attached, Family, Netns, Observer, PathManager, Process, Shape, Topology, topology, wait_for,
};
use socket2::Protocol;

const SUBFLOWS: usize = 4;
/// Addresses of the client on the path: one has too few ports for all subflows.
const ADDRESSES: std::ops::Range<u8> = 2..6;
/// Patience for what very many do.
const LONG: Duration = Duration::from_secs(600);
/// How long the path is dead: longer than a subflow survives it.
const OUTAGE: Duration = Duration::from_secs(30);
/// What the router does with the path meanwhile.
const DEAD: &str = "table ip dead {\n\
    chain forward {\n\
      type filter hook forward priority 0;\n\
      iifname c0 drop\n\
      oifname c0 drop\n\
    }\n\
  }\n";
/// Connections of the other namespace.
const OTHERS: u32 = 100;

fn main() -> Result<()> {
    let count = std::env::args().nth(1);
    let count = count.map_or(Ok(10_000), |count| count.parse());
    scale(count.context("usage: scale [CONNECTIONS]")?)
}

fn scale(count: usize) -> Result<()> {
    println!("{count} connections of {SUBFLOWS} subflows");
    let shape = Shape {
        rate: 1000,
        ..Shape::default()
    };
    let topology = Topology::with_shapes([shape; 2])?;
    let Topology { client, server, .. } = &topology;
    client.manage_by_smapp()?;
    client.set_sysctl("ipv4/ip_local_port_range", "1024 65535")?;
    // A subflow gives up after some 13 s, a connection without any goes on.
    client.set_sysctl("ipv4/tcp_retries2", "5")?;
    client.set_sysctl("mptcp/close_timeout", "3600")?;
    host::kernel(server, &[])?;
    let more = ADDRESSES.skip(1).map(|host| {
        format!("address add 10.0.1.{host}/24 dev eth0\nrule add from 10.0.1.{host} table 1\n")
    });
    client.ip(&more.collect::<String>())?;

    let mut kernel = kernel_memory()?;
    let mut grown = |what: &str, number: usize| -> Result<()> {
        let now = kernel_memory()?;
        let each = now.saturating_sub(kernel) / number as u64;
        println!("kernel memory of {what}, both ends: {each} bytes");
        kernel = now;
        Ok(())
    };
    let listener = listen(server, topology::server(Family::V4), Protocol::MPTCP)?;
    let mut ends = connect(client, &listener, count)?;
    grown("a connection", count)?;

    let mut client_side = PathManager::with_events(client, EventSet::default())?;
    let there = client_side.connections()?.len();
    ensure!(
        there == count,
        "only {there} of {count} connections are Multipath TCP: give the guest more memory, \
         the kernel's table of tokens grows with it"
    );
    let daemon = start(client, "no subflows yet")?;
    let since = Instant::now();
    whole(&mut client_side, count)?;
    println!(
        "all subflows established: {:.2} s later",
        since.elapsed().as_secs_f64()
    );
    grown("a further subflow", count * (SUBFLOWS - 1))?;
    daemon.signal(Signal::KILL)?;
    drop(daemon);
    let mut daemon = start(client, "all of them")?;
    let memory = resident(daemon.id())?;
    println!(
        "memory of the daemon: {} KiB, {} bytes a connection",
        memory >> 10,
        memory / count as u64
    );

    let observer = Attached::to(client, Observer)?;
    let other = Netns::loopback("other")?;
    other.manage_by_smapp()?;
    println!(
        "another namespace, from connect() to created: {:.0} us",
        bystander(&other)?
    );

    topology.router.nft(DEAD)?;
    let before = client_side.client().statistics()?;
    let busy = processor_time(daemon.id())?;
    for [near, _] in &mut ends {
        near.write_all(b"?")?;
    }
    // All first retransmissions time out now.
    println!("the same while the path dies: {:.0} us", bystander(&other)?);
    sleep(OUTAGE);
    let busy = processor_time(daemon.id())?.saturating_sub(busy);
    let after = client_side.client().statistics()?;
    println!("the storm, in {} s:", OUTAGE.as_secs());
    for number in [
        cmd::TIMEOUT,
        cmd::SUB_CLOSED,
        cmd::SUB_ESTAB,
        cmd::SUBFLOW_CREATE,
    ] {
        let [before, after] =
            [&before, &after].map(|stats| stats.operation(&operation_word(number)));
        let (done, failed) = (after.done - before.done, after.failed - before.failed);
        let name = cmd::name(number).context("an operation without a name")?;
        println!("  {name}: {done}, failed: {failed}");
    }
    println!("processor time of the daemon: {:.2} s", busy.as_secs_f64());

    topology.router.nft("delete table ip dead\n")?;
    let since = Instant::now();
    for (number, [_, far]) in ends.iter_mut().enumerate() {
        let mut byte = [0];
        far.set_read_timeout(Some(LONG))?;
        let read = far.read_exact(&mut byte);
        read.with_context(|| format!("connection {number} has lost its byte"))?;
        ensure!(byte == *b"?", "connection {number} got another byte");
    }
    println!(
        "all bytes there: {:.2} s after the repair",
        since.elapsed().as_secs_f64()
    );
    whole(&mut client_side, count)?;
    println!(
        "all subflows there again: {:.2} s after the repair",
        since.elapsed().as_secs_f64()
    );
    observer
        .compare(client)
        .context("the table of an observer")?;
    println!("the table of an observer is the kernel's");
    daemon.interrupt()
}

/// Connections that both hosts have confirmed.
fn connect(client: &Netns, listener: &TcpListener, count: usize) -> Result<Vec<[TcpStream; 2]>> {
    traffic::allow_files()?;
    let to = listener.local_addr()?;
    let locals = ADDRESSES.map(|host| SocketAddr::from(([10, 0, 1, host], 0)));
    let locals = locals.cycle().take(count);
    locals
        .map(|local| {
            let near = client.enter(|| -> Result<_> {
                let socket = traffic::socket(Family::V4, Protocol::MPTCP)?;
                socket.bind(&local.into())?;
                socket.connect(&to.into())?;
                Ok(socket)
            });
            let mut near = TcpStream::from(near?);
            near.write_all(b"!")?;
            let (mut far, _) = listener.accept()?;
            far.read_exact(&mut [0])?;
            far.write_all(b"!")?;
            near.read_exact(&mut [0])?;
            Ok([near, far])
        })
        .collect()
}

/// Start the daemon; says how long it took to attach.
fn start(client: &Netns, to: &str) -> Result<Process> {
    let since = Instant::now();
    let mut daemon = Process::start(client, "smapp", &["run", "ndiffports", "--subflows", "4"])?;
    daemon.expect("to run", LONG, |line| line.contains("is running"))?;
    println!(
        "attached to {to}: {:.2} s after its start",
        since.elapsed().as_secs_f64()
    );
    Ok(daemon)
}

/// Wait until every connection has all its subflows.
fn whole(client: &mut PathManager, count: usize) -> Result<()> {
    wait_for("all subflows", LONG, || {
        let connections = client.connections()?;
        let joined = |s: &&Subflow| s.state == Some(TcpState::ESTABLISHED);
        let subflows = connections
            .iter()
            .map(|c| c.subflows.iter().filter(joined).count());
        let complete = subflows.filter(|&number| number == SUBFLOWS).count();
        ensure!(
            complete == count,
            "{complete} of {count} connections have all subflows"
        );
        Ok(())
    })
}

/// The mean time, in microseconds, from connect() until a listener knows.
fn bystander(host: &Netns) -> Result<f64> {
    let mut listener = PathManager::with_events(host, EventSet::of(&[EventKind::Created]))?;
    let mut total = Duration::ZERO;
    let mut crowd = Crowd::new(host, Ipv4Addr::LOCALHOST)?;
    for _ in 0..OTHERS {
        let before = Instant::now();
        crowd.grow(1)?;
        // Both ends are in this namespace.
        listener.created()?;
        listener.created()?;
        total += before.elapsed();
    }
    Ok(total.as_secs_f64() * 1e6 / f64::from(OTHERS))
}

/// What the kernel has allocated for objects and cannot give back, in bytes.
fn kernel_memory() -> Result<u64> {
    // What is freed after a grace period can be given back: wait for one.
    sleep(Duration::from_secs(1));
    value("/proc/meminfo", "SUnreclaim:")
}

/// The memory of a process, in bytes.
fn resident(process: u32) -> Result<u64> {
    value(&format!("/proc/{process}/status"), "VmRSS:")
}

/// The value of a line, in KiB, as bytes.
fn value(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("{file} without {name}"))? << 10)
}

/// How long a process has run so far.
fn processor_time(process: u32) -> Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    // In user space and in the kernel: the fields after the name, see proc_pid_stat(5).
    let times: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(TICK * times.iter().sum())
}
