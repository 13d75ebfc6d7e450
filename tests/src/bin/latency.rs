// SPDX-License-Identifier: GPL-2.0
//! How long a second subflow takes: from the SYN of a connection (MP_CAPABLE) to the
//! SYN of its next subflow (MP_JOIN), on the wire.
//!
//! The path manager of the kernel and `smapp run fullmesh` are measured with the same
//! connections, one after the other, over a round trip of 1 ms. Both need two round
//! trips: what is more is the time that a decision takes.
#![forbid(unsafe_code)]

use std::io::Read;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use smapp::{EventKind, EventSet};
use smapp_tests::{Capture, DEADLINE, Family, Path, PathManager, Process, Shape};
use smapp_tests::{Topology, capture, topology, traffic};
use socket2::Protocol;

const CONNECTIONS: usize = 100;
/// Between two connections, so that one does not disturb the next.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    println!("SYN (MP_CAPABLE) to SYN (MP_JOIN) in microseconds, {CONNECTIONS} connections each,");
    println!("round trip of 1 ms\n");
    println!(
        "{:<24}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "mean", "median", "p99", "min", "max"
    );
    for (name, measure) in [
        (
            "kernel, fullmesh",
            with_kernel as fn(&Topology) -> Result<Vec<Duration>>,
        ),
        ("smapp run fullmesh", with_smapp),
    ] {
        let shape = Shape {
            rate: 1000,
            delay: Duration::from_micros(500),
        };
        match Topology::with_shapes([shape; 2]).and_then(|topology| measure(&topology)) {
            Ok(delays) => print(name, delays),
            Err(error) => {
                eprintln!("latency: {name}: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn with_kernel(topology: &Topology) -> Result<Vec<Duration>> {
    let address = Path::Second.client(Family::V4);
    topology.client.ip(&format!(
        "mptcp limits set subflows 1\n\
         mptcp endpoint add {address} dev eth1 subflow fullmesh\n"
    ))?;
    delays(topology)
}

fn with_smapp(topology: &Topology) -> Result<Vec<Duration>> {
    topology.client.set_sysctl("mptcp/path_manager", "smapp")?;
    let mut fullmesh = Process::start(&topology.client, "smapp", &["run", "fullmesh"])?;
    fullmesh.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    let delays = delays(topology)?;
    fullmesh.interrupt()?;
    Ok(delays)
}

/// The delay of each connection.
fn delays(topology: &Topology) -> Result<Vec<Duration>> {
    // The server only tells when a subflow is there: after what is measured.
    topology.server.set_sysctl("mptcp/path_manager", "smapp")?;
    let events = EventSet::of(&[EventKind::SubflowEstablished]);
    let mut server = PathManager::with_events(&topology.server, events)?;
    let address = topology::server(Family::V4);
    let listener = traffic::listen(&topology.server, address, Protocol::MPTCP)?;
    let mut connect = || -> Result<()> {
        // The first data and its acknowledgement establish the connection.
        let client = traffic::connect(&topology.client, listener.local_addr()?, b"first")?;
        let (mut server_end, _) = listener.accept()?;
        server_end.read_exact(&mut [0; 5])?;
        server.expect(EventKind::SubflowEstablished, |_| true)?;
        drop((client, server_end));
        sleep(PAUSE);
        Ok(())
    };
    // The first one waits for ARP as well: it is not measured.
    connect()?;
    let capture = Capture::start(&topology.client)?;
    for _ in 0..CONNECTIONS {
        connect()?;
    }
    let delays = capture::join_delays(&capture.stop()?);
    ensure!(
        delays.len() == CONNECTIONS,
        "{} joins on the wire",
        delays.len()
    );
    Ok(delays)
}

fn print(name: &str, mut delays: Vec<Duration>) {
    delays.sort();
    let count = delays.len();
    let mean = delays.iter().sum::<Duration>() / count as u32;
    let at = |percent: usize| delays[(count * percent).div_ceil(100).max(1) - 1];
    let columns = [mean, at(50), at(99), at(0), at(100)];
    let columns: String = columns
        .iter()
        .map(|delay| format!("{:>8}", delay.as_micros()))
        .collect();
    println!("{name:<24}{columns}");
}
