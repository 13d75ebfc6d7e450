// SPDX-License-Identifier: GPL-2.0
//! The delay of a second subflow (section 4.5 of the paper, figure 3): consecutive
//! downloads over HTTP/1.0, and whoever decides opens a second subflow as soon as the
//! connection is established.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::minimal;
use smapp_tests::capture::{self, Capture};
use smapp_tests::netns::Netns;
use smapp_tests::process::Process;
use smapp_tests::topology::{self, Family, Path, Shape, Topology};
use smapp_tests::traffic;
use smapp_tests::wait::DEADLINE;
use smapp_tests::web;

/// Who decides at the client: the path manager of the kernel, `smapp run`, or the loop of
/// [`minimal`].
pub const DECIDERS: [&str; 4] = ["kernel", "smapp-fullmesh", "smapp-ndiffports", "minimal"];

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Downloads, one after the other.
    pub downloads: usize,
    /// Bytes of each.
    pub size: usize,
    /// Processes that use all of the CPU that they get.
    pub hogs: usize,
    /// Of each link to the client, one way.
    pub delay: Duration,
}

/// As in the paper, on an idle host.
impl Default for Setup {
    fn default() -> Self {
        Setup {
            downloads: 1000,
            size: 512 << 10,
            hogs: 0,
            delay: Duration::from_micros(500),
        }
    }
}

impl Setup {
    /// The delay of each download: from its SYN with MP_CAPABLE to that with MP_JOIN.
    pub fn measure(&self, decider: &str) -> Result<Vec<Duration>> {
        let shape = Shape {
            rate: 1000,
            delay: self.delay,
        };
        let topology = Topology::with_shapes([shape; 2])?;
        let Topology { client, server, .. } = &topology;
        server.ip("mptcp limits set subflows 8 add_addr_accepted 8\n")?;
        let _lighttpd = web::serve(server, self.size)?;
        let mut daemon = start(decider, client)?;
        let address = SocketAddr::new(topology::server(Family::V4), 80);
        // The first one waits for ARP as well: it is not measured.
        download(client, address, self.size)?;
        let hogs: Result<Vec<_>> = (0..self.hogs).map(|_| hog(client)).collect();
        let hogs = hogs?;
        let capture = Capture::start(client)?;
        for number in 0..self.downloads {
            download(client, address, self.size).with_context(|| format!("download {number}"))?;
        }
        let delays = capture::join_delays(&capture.stop()?);
        drop(hogs);
        if let Some(daemon) = &mut daemon {
            daemon.interrupt()?;
        }
        ensure!(
            delays.len() == self.downloads,
            "{} joins on the wire in {} downloads",
            delays.len(),
            self.downloads
        );
        Ok(delays)
    }
}

/// Start whoever decides.
fn start(decider: &str, client: &Netns) -> Result<Option<Process>> {
    let smapp = |policy| -> Result<_> {
        client.manage_by_smapp()?;
        let mut smapp = Process::start(client, "smapp", &["run", policy])?;
        smapp.expect("to run", DEADLINE, |line| line.contains("is running"))?;
        Ok(Some(smapp))
    };
    let second = Path::Second.client(Family::V4);
    match decider {
        "kernel" => {
            client.ip(&format!(
                "mptcp limits set subflows 1\n\
                     mptcp endpoint add {second} dev eth1 subflow fullmesh\n"
            ))?;
            Ok(None)
        }
        "smapp-fullmesh" => smapp("fullmesh"),
        "smapp-ndiffports" => smapp("ndiffports"),
        "minimal" => {
            client.set_sysctl("mptcp/path_manager", "userspace")?;
            minimal::start(client, second)?;
            Ok(None)
        }
        other => bail!("nobody is called {other}"),
    }
}

/// A process that is always busy.
fn hog(host: &Netns) -> Result<Process> {
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    Process::start_command(host, command)
}

/// Get the file of `size` bytes once, over a connection of its own.
fn download(client: &Netns, server: SocketAddr, size: usize) -> Result<()> {
    let mut stream = traffic::connect(client, server, b"GET /file HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::with_capacity(size + 1024);
    stream.read_to_end(&mut answer).context("no answer")?;
    ensure!(
        answer.starts_with(b"HTTP/1.0 200 ") && answer.len() > size,
        "{} bytes, {}",
        answer.len(),
        String::from_utf8_lossy(&answer[..answer.len().min(80)])
    );
    Ok(())
}
