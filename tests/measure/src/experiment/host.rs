// SPDX-License-Identifier: GPL-2.0
//! Hosts of experiments: who decides about their subflows, what they send.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Protocol, SockRef};

use smapp_tests::netns::Netns;
use smapp_tests::process::Process;
use smapp_tests::topology::{Family, server};
use smapp_tests::traffic;
use smapp_tests::wait::DEADLINE;

/// Let a host accept every subflow that its peer opens, by the path manager of the
/// kernel; `endpoints` are further lines of `ip mptcp`.
pub fn kernel(host: &Netns, endpoints: &[&str]) -> Result<()> {
    let lines = endpoints.iter().map(|line| format!("mptcp {line}\n"));
    let lines: String = lines.collect();
    host.ip(&format!(
        "mptcp limits set subflows 8 add_addr_accepted 8\n{lines}"
    ))
}

/// Let `smapp run` decide on a host.
pub fn smapp(host: &Netns, policy: &[&str]) -> Result<Process> {
    host.manage_by_smapp()?;
    let args = [&["-v", "run"], policy].concat();
    let mut smapp = Process::start(host, "smapp", &args)?;
    smapp.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    Ok(smapp)
}

/// End the daemon. What it has decided and why goes into `daemon.log`, for people who
/// wonder about a figure; no figure is taken from it.
pub fn end(daemon: Option<Process>, out: &Path) -> Result<()> {
    let Some(mut daemon) = daemon else {
        return Ok(());
    };
    daemon.interrupt()?;
    let lines = daemon.seen().join("\n");
    fs::write(out.join("daemon.log"), lines + "\n").context("cannot write a log")
}

/// A connection of Multipath TCP from a client to a server of which both hosts are
/// sure: a byte has gone each way.
#[derive(Debug)]
pub struct Pair {
    /// The end that connected. Reads and writes wait as long as it takes.
    pub client: TcpStream,
    /// The end that accepted. Reads and writes wait as long as it takes.
    pub server: TcpStream,
    /// The server's address and port.
    pub to: SocketAddr,
    /// Where the server takes further subflows: without it they are refused.
    pub listener: TcpListener,
}

impl Pair {
    /// Connect the client and the server of a [`Topology`](smapp_tests::Topology), over IPv4.
    pub fn connect(client: &Netns, host: &Netns) -> Result<Self> {
        Self::connect_to(client, host, server(Family::V4))
    }

    /// Connect a client to an address of a server.
    pub fn connect_to(client: &Netns, host: &Netns, address: IpAddr) -> Result<Self> {
        let listener = traffic::listen(host, address, Protocol::MPTCP)?;
        let to = listener.local_addr()?;
        let mut client = traffic::connect(client, to, b"!")?;
        let (mut server, _) = listener.accept().context("cannot accept")?;
        server.set_read_timeout(Some(DEADLINE))?;
        server.read_exact(&mut [0])?;
        server.write_all(b"!")?;
        client.read_exact(&mut [0])?;
        for end in [&client, &server] {
            end.set_read_timeout(None)?;
            end.set_write_timeout(None)?;
        }
        Ok(Pair {
            client,
            server,
            to,
            listener,
        })
    }
}

/// A client that sends as fast as it can until it is stopped.
#[derive(Debug)]
pub struct Upload {
    stop: Arc<AtomicBool>,
    server: TcpStream,
    _listener: TcpListener,
    threads: [JoinHandle<()>; 2],
}

impl Upload {
    /// Start to send on a connection; the server reads all that comes.
    pub fn start(pair: Pair) -> Result<Self> {
        let Pair {
            mut client,
            mut server,
            listener,
            ..
        } = pair;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let end = server.try_clone()?;
        client.set_write_timeout(Some(Duration::from_millis(200)))?;
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        let writer = thread::spawn(move || {
            let data = vec![7; 65536];
            while !stopped.load(Ordering::Relaxed) {
                match client.write(&data) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => break,
                    _ => (),
                }
            }
        });
        let reader = thread::spawn(move || {
            let mut data = vec![0; 65536];
            while server.read(&mut data).is_ok_and(|length| length > 0) {}
        });
        Ok(Upload {
            stop,
            server: end,
            _listener: listener,
            threads: [writer, reader],
        })
    }

    /// Stop in the midst of it (MP_FASTCLOSE).
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // The client's end may fail to send it, or have sent it already.
        let _ = self.server.shutdown(Shutdown::Both);
        for thread in self.threads {
            thread.join().expect("it does not panic");
        }
    }
}
