// SPDX-License-Identifier: GPL-2.0
//! `smapp run` as a daemon: rules, reload, questions, its end and its return.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fd::OwnedFd;
use rustix::fs::{Uid, fchown};
use rustix::process::Signal;
use serde_json::Value;
use smapp::{EventKind, SubflowDestroy, SubflowId, Token};
use smapp_tests::traffic::socket;
use smapp_tests::{
    Connection, DEADLINE, Family, Netns, Path, PathManager, Process, Topology, wait_for,
};
use socket2::{Protocol, Socket};

use super::{ControlGroup, LONG, connect, policy};

/// A configuration file, removed when dropped.
struct Config(PathBuf);

impl Config {
    fn new(name: &str, text: &str) -> Result<Self> {
        let config = Config(PathBuf::from(format!("/tmp/{name}.toml")));
        config.write(text)?;
        Ok(config)
    }

    fn write(&self, text: &str) -> Result<()> {
        fs::write(&self.0, text).with_context(|| self.0.display().to_string())
    }

    fn run(&self, host: &Netns) -> Result<Process> {
        policy(host, &format!("--config {}", self.0.display()))
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What `smapp why` answers about a connection.
fn why(host: &Netns, token: Token) -> Result<Vec<Value>> {
    let output = host.run("smapp", &["--json", "why", &token.to_string()])?;
    ensure!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout)?;
    let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
    lines.lines().map(parse).collect()
}

/// The rule that gave a connection its policy, and the words about it.
fn verdict(host: &Netns, token: Token) -> Result<(String, String)> {
    let decisions = why(host, token)?;
    let first = decisions.first().context("no decision")?;
    let word = |key: &str| first[key].as_str().unwrap_or_default().to_string();
    Ok((word("rule"), word("text")))
}

/// The numbers of the subflows of a connection.
fn ids(client: &mut PathManager, token: Token) -> Result<Vec<SubflowId>> {
    Ok(client
        .connection(token)?
        .subflows
        .iter()
        .map(|s| s.id)
        .collect())
}

const RULES: &str = r#"
[[rule]]
name = "of a user"
uid = 1234
policy.ndiffports.subflows = 3

[[rule]]
name = "marked"
mark = "0x10/0xf0"
policy.ndiffports.subflows = 4

[[rule]]
name = "in a group"
cgroup = "/rules"
policy = "fullmesh"

[[rule]]
name = "to a port"
remote-port = 4321
policy.ndiffports.subflows = 5
"#;

/// Connect to the server with a socket prepared by `prepare`.
fn connect_prepared(
    topology: &Topology,
    family: Family,
    port: u16,
    prepare: impl Fn(&Socket) -> Result<()> + Sync,
) -> Result<Connection> {
    let listener: std::net::TcpListener = topology.server.enter(|| -> Result<_> {
        let socket = socket(family, Protocol::MPTCP)?;
        socket.set_reuse_address(true)?;
        let address = smapp_tests::topology::server(family);
        socket.bind(&std::net::SocketAddr::new(address, port).into())?;
        socket.listen(1)?;
        Ok(OwnedFd::from(socket).into())
    })?;
    let client: TcpStream = topology.client.enter(|| -> Result<_> {
        let socket = socket(family, Protocol::MPTCP)?;
        prepare(&socket)?;
        socket.connect(&listener.local_addr()?.into())?;
        Ok(OwnedFd::from(socket).into())
    })?;
    let (server, _) = listener.accept()?;
    let mut connection = Connection {
        client,
        server,
        listener,
    };
    connection.be_patient(DEADLINE)?;
    connection.exchange(1)?;
    Ok(connection)
}

#[test]
fn the_first_rule_that_matches_gives_a_connection_its_policy() -> Result<()> {
    let config = Config::new("rules", RULES)?;
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let host = &topology.client;
        let mut client = PathManager::of(host)?;
        let _daemon = config.run(host)?;
        let user = |socket: &Socket| Ok(fchown(socket, Some(Uid::from_raw(1234)), None)?);
        let mark = |socket: &Socket| Ok(socket.set_mark(0x17)?);
        let both = |socket: &Socket| user(socket).and_then(|()| mark(socket));
        let none = |_: &Socket| Ok(());
        let mut check = |port, prepare: &(dyn Fn(&Socket) -> Result<()> + Sync), rule, count| {
            let _connection = connect_prepared(&topology, family, port, prepare)?;
            let token = client.created()?;
            client.wait_for_subflows(token, count)?;
            let (by, _) = verdict(host, token)?;
            assert_eq!(by, rule);
            anyhow::Ok(())
        };
        check(0, &user, "of a user", 3)?;
        check(0, &mark, "marked", 4)?;
        check(0, &both, "of a user", 3)?;
        check(4321, &none, "to a port", 5)?;
        let group = ControlGroup::enter("rules")?;
        check(4321, &none, "in a group", 2)?;
        drop(group);
        check(0, &none, "", 1)?;
    }
    Ok(())
}

#[test]
fn a_connection_that_no_rule_matches_is_left_alone() -> Result<()> {
    let config = Config::new("alone", RULES)?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let _daemon = config.run(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    let decisions = wait_for("a decision", DEADLINE, || why(&topology.client, token))?;
    assert_eq!(decisions.len(), 1, "{decisions:#?}");
    let text = decisions[0]["text"].as_str().context("text")?;
    ensure!(text.contains("no rule matches: left alone"), "{text}");
    client.wait_for_subflows(token, 1).map(drop)
}

#[test]
fn a_reload_gives_connections_their_new_policy_and_keeps_the_others() -> Result<()> {
    let config = Config::new(
        "reload",
        "[[rule]]\nname = \"all\"\npolicy.ndiffports.subflows = 2\n",
    )?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = config.run(&topology.client)?;
    let (mut kept, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let (mut changed, other) = connect(&topology, Family::V6, &mut client)?;
    client.wait_for_subflows(other, 2)?;
    let before = ids(&mut client, token)?;
    config.write(
        "[[rule]]\nname = \"new\"\nremote-address = \"fd00:3::/64\"\n\
         policy.ndiffports.subflows = 4\n\
         [[rule]]\nname = \"old\"\npolicy.ndiffports.subflows = 2\n",
    )?;
    daemon.signal(Signal::HUP)?;
    daemon.expect("a reload", DEADLINE, |line| line.contains("reloaded"))?;
    client.wait_for_subflows(other, 4)?;
    assert_eq!(ids(&mut client, token)?, before);
    let words = why(&topology.client, other)?;
    let reload = words.iter().find(|d| d["event"] == "reload");
    let reload = reload.with_context(|| format!("{words:#?}"))?;
    assert_eq!(reload["rule"], "new");
    kept.exchange(1000)?;
    changed.exchange(1000)
}

#[test]
fn a_reload_of_a_wrong_file_changes_nothing() -> Result<()> {
    let config = Config::new(
        "wrong",
        "[[rule]]\nname = \"all\"\npolicy.ndiffports.subflows = 3\n",
    )?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = config.run(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 3)?;
    let before = ids(&mut client, token)?;
    config.write("[[rule]]\npolicy = \"none\"\nlunch = 1\n")?;
    daemon.signal(Signal::HUP)?;
    daemon.expect("the place", DEADLINE, |line| {
        line.contains("wrong.toml:3:1: ")
    })?;
    daemon.expect("a refusal", DEADLINE, |line| line.contains("not reloaded"))?;
    assert_eq!(ids(&mut client, token)?, before);
    let (_connection, later) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(later, 3)?;
    assert_eq!(verdict(&topology.client, later)?.0, "all");
    Ok(())
}

#[test]
fn a_policy_from_the_command_line_is_not_reloaded() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = policy(&topology.client, "fullmesh")?;
    daemon.signal(Signal::HUP)?;
    daemon.expect("a refusal", DEADLINE, |line| line.contains("not reloaded"))?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2).map(drop)
}

#[test]
fn why_tells_the_event_the_rule_and_the_decision() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let mut client = PathManager::of(host)?;
    let _daemon = policy(host, "fullmesh")?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let decisions = why(host, token)?;
    let first = decisions.first().context("no decision")?;
    assert_eq!(first["event"], "estab");
    assert_eq!(first["text"], "estab: by rule command line: fullmesh");
    let opening = decisions.get(1).context("one decision")?;
    assert_eq!(opening["event"], "estab");
    assert_eq!(opening["rule"], "command line");
    assert_eq!(opening["token"], token.to_string().as_str());
    let text = opening["text"].as_str().context("text")?;
    let local = Path::Second.client(Family::V4).to_string();
    ensure!(
        text.contains("opening subflow") && text.contains(&local),
        "{text}"
    );
    let output = host.run("smapp", &["why", &token.to_string()])?;
    let shown = String::from_utf8(output.stdout)?;
    ensure!(
        shown.contains("[command line]") && shown.contains(text),
        "{shown}"
    );
    // A while after its end it can still be asked about.
    connection.abort()?;
    client.expect(EventKind::Closed, |event| event.token == token)?;
    assert_eq!(why(host, token)?, decisions);
    let unknown = host.run("smapp", &["why", "1"])?;
    let stderr = String::from_utf8(unknown.stderr)?;
    ensure!(
        !unknown.status.success() && stderr.contains("nothing was decided"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn why_without_a_daemon_says_so() -> Result<()> {
    let topology = Topology::new()?;
    let output = topology.client.run("smapp", &["why", "1a2b3c4d"])?;
    let stderr = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    ensure!(stderr.contains("no daemon runs"), "{stderr}");
    Ok(())
}

#[test]
fn a_daemon_works_in_the_namespace_that_is_named() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    // Started in the router's, where it would see nothing.
    let name = topology.client.name();
    let args = ["--namespace", name, "run", "fullmesh"];
    let mut daemon = Process::start(&topology.router, "smapp", &args)?;
    daemon.expect("to run", DEADLINE, |line| line.contains("is running"))?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 2)?;
    let token = token.to_string();
    let asked = topology
        .router
        .run("smapp", &["--namespace", name, "why", &token])?;
    ensure!(asked.status.success(), "{asked:?}");
    let elsewhere = topology.router.run("smapp", &["why", &token])?;
    ensure!(!elsewhere.status.success(), "{elsewhere:?}");
    Ok(())
}

#[test]
fn sigterm_ends_the_daemon_and_keeps_the_subflows() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut daemon = policy(&topology.client, "ndiffports --subflows 3")?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 3)?;
    let before = ids(&mut client, token)?;
    daemon.signal(Signal::TERM)?;
    let status = daemon.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    assert_eq!(ids(&mut client, token)?, before);
    connection.exchange(1000)?;
    let namespace = topology
        .client
        .enter(|| fs::metadata("/proc/thread-self/ns/net"))?;
    let socket = FilePath::new("/run/smapp").join(format!("{}.sock", namespace.ino()));
    ensure!(!socket.exists(), "{} is left", socket.display());
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_takes_over_where_it_was() -> Result<()> {
    let config = Config::new(
        "killed",
        "[[rule]]\nname = \"four\"\nuid = 0\npolicy.ndiffports.subflows = 3\n",
    )?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut daemon = config.run(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.wait_for_subflows(token, 3)?;
    let before = ids(&mut client, token)?;
    daemon.signal(Signal::KILL)?;
    daemon.wait()?;
    connection.exchange(1000)?;
    let _daemon = config.run(&topology.client)?;
    assert_eq!(ids(&mut client, token)?, before, "nothing was missing");
    assert_eq!(verdict(&topology.client, token)?.0, "four");
    // It has charge of the connection again: what is lost comes back.
    let peer = server.created()?;
    let lost = server.wait_for_subflows(peer, 3)?.subflows[1].id;
    server.destroy(peer, SubflowDestroy::id(lost).reset(true))?;
    client.expect(EventKind::SubflowClosed, |event| event.token == token)?;
    client.expect_within(LONG, EventKind::SubflowEstablished, |_| true)?;
    client.wait_for_subflows(token, 3)?;
    connection.exchange(1000)
}

#[test]
fn a_second_daemon_is_refused() -> Result<()> {
    let topology = Topology::new()?;
    let _other_namespace = policy(&topology.server, "limit")?;
    let mut first = policy(&topology.client, "fullmesh")?;
    let second = topology.client.run("smapp", &["run", "backup"])?;
    let stderr = String::from_utf8(second.stderr)?;
    assert_eq!(second.status.code(), Some(1), "{stderr}");
    ensure!(stderr.contains("another `smapp run` works"), "{stderr}");
    ensure!(!first.ended()?, "the first one has ended");
    first.interrupt()?;
    policy(&topology.client, "backup").map(drop)
}

/// The service manager, as far as sd_notify(3) knows it.
struct Manager {
    socket: UnixDatagram,
    path: &'static FilePath,
}

impl Manager {
    fn new() -> Result<Self> {
        let path = FilePath::new("/tmp/notify.sock");
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Manager { socket, path })
    }

    fn told(&self) -> Result<String> {
        let mut message = [0; 1024];
        let length = self.socket.recv(&mut message).context("nothing was told")?;
        Ok(String::from_utf8(message[..length].to_vec())?)
    }

    fn expect(&self, wanted: &[&str]) -> Result<()> {
        let told = self.told()?;
        match wanted.iter().all(|word| told.contains(word)) {
            true => Ok(()),
            false => bail!("expected {wanted:?}, was told: {told}"),
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path);
    }
}

#[test]
fn the_service_manager_is_told() -> Result<()> {
    let config = Config::new("told", "[[rule]]\npolicy = \"fullmesh\"\n")?;
    let topology = Topology::new()?;
    let manager = Manager::new()?;
    let mut command = Command::new("smapp");
    command.args(["run", "--config"]).arg(&config.0);
    command.env("NOTIFY_SOCKET", manager.path);
    let mut daemon = Process::start_command(&topology.client, command)?;
    manager.expect(&["READY=1\n", "STATUS=", "0 connections"])?;
    daemon.signal(Signal::HUP)?;
    manager.expect(&["RELOADING=1\n", "MONOTONIC_USEC="])?;
    manager.expect(&["READY=1\n", "reloaded"])?;
    config.write("[[rule]]\n")?;
    daemon.signal(Signal::HUP)?;
    manager.expect(&["RELOADING=1\n"])?;
    manager.expect(&["READY=1\n", "STATUS=not reloaded", "told.toml:1:1"])?;
    daemon.signal(Signal::TERM)?;
    manager.expect(&["STOPPING=1"])?;
    let status = daemon.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn logs_are_one_object_a_line() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let args = ["-v", "--json", "run", "fullmesh"];
    let mut daemon = Process::start(&topology.client, "smapp", &args)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    let line = daemon.expect("a decision", DEADLINE, |line| {
        line.contains("opening subflow")
    })?;
    let logged: Value = serde_json::from_str(&line).context(line)?;
    assert_eq!(logged["token"], token.to_string().as_str());
    assert_eq!(logged["rule"], "command line");
    assert_eq!(logged["level"], "info");
    ensure!(
        logged["event"].is_string() && logged["time"].is_number(),
        "{logged}"
    );
    // All of them, the line that says that it runs included.
    for line in daemon.seen() {
        ensure!(
            serde_json::from_str::<Value>(line).is_ok_and(|v| v.is_object()),
            "{line}"
        );
    }
    Ok(())
}
