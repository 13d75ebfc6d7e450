// SPDX-License-Identifier: GPL-2.0
//! What the module, the library and the tool do, seen in a running kernel.
//!
//! Each test is named for one behaviour and has a network of its own. They run as
//! root in the guest of `qemu/run`, one after the other, in one boot: on the debug
//! kernel a boot takes a minute.

mod address_change;
mod addresses;
mod attach;
mod backup;
mod commands;
mod daemon;
mod dump;
mod errors;
mod events;
mod faults;
mod fullmesh;
mod fuzz;
mod library;
mod limit;
mod local_addresses;
mod loss;
mod malformed;
mod module;
mod namespaces;
mod nat;
mod ndiffports;
mod network;
mod paths;
mod refresh;
mod refusals;
mod security;
mod server_gone;
mod stats;
mod streaming;
mod tool;
mod ynl;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use smapp::{Event, EventKind, Subflow, SubflowCreate, SubflowId, Token};
use smapp_tests::{
    Connection, DEADLINE, Family, Netns, Path, PathManager, Process, Topology, wait_for,
};

/// Longer than any delay of a policy.
const LONG: Duration = Duration::from_secs(300);

/// `smapp run` with a policy and its options, separated by spaces; it has attached when this
/// returns.
fn policy(host: &Netns, words: &str) -> Result<Process> {
    let args: Vec<_> = ["-v", "run"].into_iter().chain(words.split(' ')).collect();
    let mut process = Process::start(host, "smapp", &args)?;
    process.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    Ok(process)
}

/// Whether the client has this address on a path.
fn is_on(path: Path, address: IpAddr) -> bool {
    let mut families = Family::BOTH.iter();
    families.any(|&family| path.client(family) == address)
}

/// The subflow from the client's address on `path`.
fn subflow_on(client: &mut PathManager, token: Token, path: Path) -> Result<SubflowId> {
    let connection = client.connection(token)?;
    let mut subflows = connection.subflows.iter();
    let found = subflows.find(|subflow| is_on(path, subflow.local_address));
    let found = found.with_context(|| format!("no subflow on {path}: {connection:#?}"))?;
    Ok(found.id)
}

/// Wait until a subflow from the client's address on `path` is established.
fn joined_on(
    client: &mut PathManager,
    token: Token,
    path: Path,
    deadline: Duration,
) -> Result<Subflow> {
    let is_it = |event: &Event| {
        event.token == token
            && event
                .subflow()
                .is_some_and(|s| is_on(path, s.local_address))
    };
    let event = client.expect_within(deadline, EventKind::SubflowEstablished, is_it)?;
    event.subflow().copied().context("sub_estab has a subflow")
}

/// A new, established connection and its token as `host` knows it.
fn connect(
    topology: &Topology,
    family: Family,
    host: &mut PathManager,
) -> Result<(Connection, Token)> {
    let connection = Connection::establish(topology, family)?;
    let token = host.created()?;
    host.established(token)?;
    Ok((connection, token))
}

/// A subflow from the client's second address to where the initial one leads.
fn over_second_path(connection: &Connection) -> Result<SubflowCreate> {
    let remote = connection.server_address()?;
    let family = if remote.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    Ok(SubflowCreate::to(remote).local_address(Path::Second.client(family)))
}

/// The number of the initial subflow.
fn initial(host: &mut PathManager, token: Token) -> Result<SubflowId> {
    let connection = host.connection(token)?;
    let initial = connection.subflows.iter().find(|subflow| subflow.initial);
    Ok(initial
        .context("a connection without an initial subflow")?
        .id)
}

/// Create the subflow over the second path, wait until it has joined.
fn join(host: &mut PathManager, connection: &Connection, token: Token) -> Result<Subflow> {
    let subflow = host.create(token, over_second_path(connection)?)?;
    host.joined(subflow.id)
}

/// As [`join`], and wait for the last segment of the handshake, the fourth: a
/// subflow cannot be changed before it has come.
fn join_fully(host: &mut PathManager, connection: &Connection, token: Token) -> Result<Subflow> {
    let subflow = join(host, connection, token)?;
    sleep(Duration::from_millis(100));
    Ok(subflow)
}

/// Cause more events than a small queue holds: joins that are given up at once, each
/// with its sub_closed. The second path must be broken.
fn flood(host: &mut PathManager, connection: &Connection, token: Token) -> Result<()> {
    for _ in 0..200 {
        let subflow = host.create(token, over_second_path(connection)?)?;
        host.destroy(token, subflow.id)?;
    }
    Ok(())
}

/// A control group that this process is in while it lives.
struct ControlGroup(PathBuf);

impl ControlGroup {
    const ROOT: &str = "/sys/fs/cgroup";

    fn enter(name: &str) -> Result<Self> {
        let group = ControlGroup(PathBuf::from(Self::ROOT).join(name));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join("cgroup.procs"), "0")?;
        Ok(group)
    }

    fn number(&self) -> Result<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let root = PathBuf::from(Self::ROOT).join("cgroup.procs");
        fs::write(root, "0").expect("a process can leave its control group");
        // A process that has ended is in it a moment longer.
        let gone = wait_for("an empty control group", DEADLINE, || {
            fs::remove_dir(&self.0).context("cannot remove it")
        });
        gone.expect("a control group without processes can go");
    }
}
