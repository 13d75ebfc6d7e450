// SPDX-License-Identifier: GPL-2.0
//! The tool `smapp` as a person or a script uses it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use smapp::{Errno, EventKind, SubflowId};
use smapp_tests::module::{self, LoadAgain};
use smapp_tests::{DEADLINE, Family, Netns, Path, PathManager, Process, Topology, wait_for};

use super::{connect, join, join_fully};

/// Run `smapp` with arguments separated by spaces.
fn smapp(host: &Netns, line: &str) -> Result<Output> {
    host.run("smapp", &line.split(' ').collect::<Vec<_>>())
}

/// Its stdout; it must succeed and write nothing to stderr.
fn stdout(host: &Netns, line: &str) -> Result<String> {
    let output = smapp(host, line)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && stderr.is_empty(),
        "smapp {line}: {output:?}"
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Its stdout as JSON, one object a line.
fn json(host: &Netns, line: &str) -> Result<Vec<Value>> {
    let text = stdout(host, &format!("--json {line}"))?;
    let parse = |line: &str| -> Result<Value> {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_string())?;
        ensure!(value.is_object(), "not an object: {line}");
        Ok(value)
    };
    text.lines().map(parse).collect()
}

/// Its stderr; it must fail with this status and write nothing to stdout.
fn stderr(host: &Netns, line: &str, status: i32) -> Result<String> {
    let output = smapp(host, line)?;
    ensure!(
        output.status.code() == Some(status) && output.stdout.is_empty(),
        "smapp {line}: expected status {status} and no output: {output:?}"
    );
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
fn status_tells_what_is_there_and_what_is_not() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let [all_well] = &json(host, "status")?[..] else {
        bail!("expected one object");
    };
    assert_eq!(all_well["module_loaded"], true);
    assert_eq!(all_well["path_manager"], "smapp");
    assert_eq!(all_well["connections"], 0);
    assert_eq!(all_well["problems"], Value::Array(Vec::new()));
    let text = stdout(host, "status")?;
    ensure!(!text.contains("problem"), "{text}");
    host.manage_by_kernel()?;
    let output = smapp(host, "status")?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    ensure!(
        text.contains("sysctl -w net.mptcp.path_manager=smapp"),
        "{text}"
    );
    Ok(())
}

#[test]
fn connection_list_and_show_tell_the_same() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    assert_eq!(
        json(&topology.client, "connection list")?,
        Vec::<Value>::new()
    );
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        join(&mut client, &connection, token)?;
        let listed = json(&topology.client, "connection list")?;
        let name = token.to_string();
        let ours = listed
            .iter()
            .find(|listed| listed["token"] == name.as_str());
        let ours = ours.with_context(|| format!("no {name} in {listed:?}"))?;
        let subflows = ours["subflow"].as_array().context("no subflows")?;
        assert_eq!(subflows.len(), 2);
        let address = Path::First.client(family).to_string();
        assert_eq!(subflows[0]["local_address"], address.as_str());
        assert_eq!(
            subflows[0]["remote_port"],
            connection.server_address()?.port()
        );
        // For a person, and for a script.
        let text = stdout(&topology.client, &format!("connection show {name}"))?;
        for word in [&name, &address, &Path::Second.client(family).to_string()] {
            ensure!(text.contains(word.as_str()), "no {word} in {text}");
        }
        let shown = json(&topology.client, &format!("connection show 0x{name}"))?;
        assert_eq!(shown.len(), 1);
        assert_eq!(
            (
                &shown[0]["token"],
                shown[0]["subflow"].as_array().map(Vec::len)
            ),
            (&ours["token"], Some(2))
        );
        let text = stdout(&topology.client, "connection list")?;
        ensure!(text.contains(&name), "no {name} in {text}");
    }
    Ok(())
}

#[test]
fn subflow_add_and_remove_work() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let local = Path::Second.client(family);
        let to = connection.server_address()?;
        let add = format!("subflow add {token} from {local} to {to}");
        let added = json(&topology.client, &add)?;
        let [added] = &added[..] else {
            bail!("expected one object: {added:?}");
        };
        let id = added["subflow"]["id"]
            .as_u64()
            .with_context(|| format!("no id in {added}"))?;
        let id = SubflowId(u32::try_from(id)?);
        let joined = client.joined(id)?;
        assert_eq!(added["subflow"]["local_port"], joined.local_port);
        stdout(&topology.client, &format!("subflow remove {token} id {id}"))?;
        client.expect_subflow(EventKind::SubflowClosed, id)?;
        // Without `to` it leads to where the initial one leads.
        let text = stdout(
            &topology.client,
            &format!("subflow add {token} from {local} backup"),
        )?;
        ensure!(text.contains("id"), "{text}");
        let event = client.expect(EventKind::SubflowEstablished, |_| true)?;
        let subflow = event.subflow().context("sub_estab has a subflow")?;
        assert_eq!((subflow.remote(), subflow.backup), (to, true));
    }
    Ok(())
}

/// A running `smapp monitor` that listens.
fn monitor(host: &Netns, args: &[&str]) -> Result<Process> {
    let mut monitor = Process::start(host, "smapp", &[&["monitor"], args].concat())?;
    monitor.expect("to listen", DEADLINE, |line| line.contains("listening for"))?;
    Ok(monitor)
}

#[test]
fn monitor_prints_the_events() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut objects = monitor(&topology.client, &["--json"])?;
    let mut lines = monitor(&topology.client, &[])?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let subflow = join(&mut client, &connection, token)?;
        client.destroy(token, subflow.id)?;
        drop(connection);
        let name = token.to_string();
        for word in ["created", "estab", "sub_estab", "sub_closed", "closed"] {
            let is_it = |line: &str| line.contains(&format!(r#""event":"{word}""#));
            let line = objects.expect(word, DEADLINE, is_it)?;
            let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            assert_eq!(event["token"], name.as_str());
            assert_eq!(event["server_side"], false);
            ensure!(event["time"].as_f64() > Some(0.0), "no time in {line}");
            if word.starts_with("sub_") {
                assert_eq!(event["subflow"]["id"], subflow.id.0, "{line}");
                let address = Path::Second.client(family).to_string();
                assert_eq!(event["subflow"]["local_address"], address.as_str());
            }
            let is_it = |line: &str| line.contains(&format!(" {word} "));
            let line = lines.expect(word, DEADLINE, is_it)?;
            ensure!(line.contains(&name), "no {name} in {line}");
        }
    }
    objects.interrupt()?;
    lines.interrupt()
}

#[test]
fn monitor_prints_only_the_events_asked_for() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut monitor = monitor(&topology.client, &["--json", "--events", "created,closed"])?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    join(&mut client, &connection, token)?;
    drop(connection);
    monitor.expect("closed", DEADLINE, |line| {
        line.contains(r#""event":"closed""#)
    })?;
    let objects = monitor.seen().iter().filter(|line| line.starts_with('{'));
    let events: Vec<String> = objects
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["event"].to_string()))
        .collect::<Result<_>>()?;
    assert_eq!(events, [r#""created""#, r#""closed""#]);
    Ok(())
}

#[test]
fn addresses_are_announced_and_withdrawn() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let mut client = PathManager::of(host)?;
    let mut server = PathManager::of(&topology.server)?;
    let mut objects = monitor(
        &topology.server,
        &["--json", "--events", "add_addr,rem_addr"],
    )?;
    let mut lines = monitor(&topology.server, &["--events", "add_addr,rem_addr"])?;
    for family in Family::BOTH {
        let (_connection, token) = connect(&topology, family, &mut client)?;
        let theirs = server.created()?;
        let address = Path::Second.client(family);
        let with_port = std::net::SocketAddr::new(address, 8080).to_string();
        let told = json(host, &format!("address announce {token} {with_port}"))?;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0]["token"], token.to_string());
        assert_eq!(told[0]["address"]["address"], address.to_string());
        assert_eq!(told[0]["address"]["port"], 8080);
        let id = told[0]["address"]["id"].as_u64().context("no id")?;
        let event = objects.expect("add_addr", DEADLINE, |line| line.contains("add_addr"))?;
        let event: Value = serde_json::from_str(&event)?;
        assert_eq!(event["address"], told[0]["address"]);
        assert_eq!(event["token"], theirs.to_string());
        let words = format!("id {id} {with_port}");
        lines.expect("add_addr", DEADLINE, |line| {
            line.contains("add_addr") && line.contains(&words)
        })?;
        let text = stdout(host, &format!("address announce {token} {with_port}"))?;
        assert_eq!(text.trim(), format!("{token} {words}"));
        let text = stdout(
            host,
            &format!("address withdraw {token} id {id} {with_port}"),
        )?;
        assert_eq!(text, "");
        let event = objects.expect("rem_addr", DEADLINE, |line| line.contains("rem_addr"))?;
        let event: Value = serde_json::from_str(&event)?;
        assert_eq!(event["remote_ids"], serde_json::json!([id]));
        lines.expect("rem_addr", DEADLINE, |line| {
            line.contains("rem_addr") && line.ends_with(&format!("id {id}"))
        })?;
    }
    objects.interrupt()?;
    lines.interrupt()
}

#[test]
fn a_subflow_is_set_and_removed_by_its_ends() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let mut client = PathManager::of(host)?;
    let mut server = PathManager::of(&topology.server)?;
    for family in Family::BOTH {
        let (connection, token) = connect(&topology, family, &mut client)?;
        let subflow = join_fully(&mut client, &connection, token)?;
        for (word, backup) in [("on", true), ("off", false)] {
            let id = subflow.id;
            stdout(host, &format!("subflow set {token} id {id} backup {word}"))?;
            let event = server.expect(EventKind::SubflowPriority, |_| true)?;
            assert_eq!(event.subflow().map(|s| s.backup_peer), Some(backup));
        }
        let (local, remote) = (subflow.local(), subflow.remote());
        let line = format!("subflow remove {token} from {local} to {remote} reset");
        stdout(host, &line)?;
        client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
        let closed = server.expect(EventKind::SubflowClosed, |_| true)?;
        let errno = closed.subflow().and_then(|s| s.errno);
        assert_eq!(errno, Some(Errno::ECONNRESET));
    }
    Ok(())
}

#[test]
fn stats_tells_the_same_in_both_forms() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (_connection, token) = connect(&topology, Family::V4, &mut client)?;
    client.connection(token)?;
    let before = json(&topology.client, "stats")?;
    let [before] = &before[..] else {
        anyhow::bail!("expected one object: {before:?}");
    };
    let text = stdout(&topology.client, "stats")?;
    ensure!(before["attached"].as_u64() >= Some(3), "{before}");
    for operation in before["operation"].as_array().context("no operations")? {
        let word = operation["operation"].as_str().context("no word")?;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{word} ")))
            .with_context(|| format!("no {word} in {text}"))?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        // The first of the two has counted itself meanwhile.
        let done = operation["done"].as_u64().context("no done")?;
        let done = done + u64::from(word == "stats_get");
        assert_eq!(Some(&done), numbers.first(), "{line}");
        assert_eq!(
            operation["failed"].as_u64().as_ref(),
            numbers.get(1),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn monitor_prints_only_the_connection_asked_for() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (ours, token) = connect(&topology, Family::V4, &mut client)?;
    let (other, _) = connect(&topology, Family::V6, &mut client)?;
    let name = token.to_string();
    let mut monitor = monitor(&topology.client, &["--json", "--connection", &name])?;
    drop(other);
    client.expect(EventKind::Closed, |_| true)?;
    drop(ours);
    monitor.expect("closed", DEADLINE, |line| {
        line.contains(r#""event":"closed""#)
    })?;
    let objects = monitor.seen().iter().filter(|line| line.starts_with('{'));
    for line in objects {
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(event["token"], name.as_str());
    }
    monitor.interrupt()
}

#[test]
fn a_connection_is_watched_until_it_is_over() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let name = token.to_string();
    let args = ["--json", "connection", "show", &name, "--watch"];
    let mut interrupted = Process::start(&topology.client, "smapp", &args)?;
    let mut to_the_end = Process::start(&topology.client, "smapp", &args)?;
    for count in 1..=2 {
        for process in [&mut interrupted, &mut to_the_end] {
            let line = process.line(DEADLINE).context("nothing shown")?;
            let shown: Value = serde_json::from_str(&line)?;
            let subflows = shown["subflow"].as_array().map(Vec::len);
            assert_eq!(
                (&shown["token"], subflows),
                (&Value::from(&*name), Some(count))
            );
        }
        if count == 1 {
            join(&mut client, &connection, token)?;
        }
    }
    interrupted.interrupt()?;
    drop(connection);
    let status = to_the_end.wait()?;
    assert_eq!(status.code(), Some(0), "{:?}", to_the_end.seen());
    Ok(())
}

#[test]
fn completions_and_man_pages_come_from_the_grammar() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(host, &format!("completions {shell}"))?;
        for word in ["monitor", "withdraw", "--connection"] {
            let bare = word.trim_start_matches('-');
            ensure!(script.contains(bare), "{shell}: no {word}");
        }
    }
    std::fs::create_dir_all("/tmp/man")?;
    stdout(host, "man /tmp/man")?;
    for page in ["smapp.1", "smapp-subflow-set.1", "smapp-address-announce.1"] {
        let text = std::fs::read_to_string(format!("/tmp/man/{page}")).context(page)?;
        ensure!(text.contains(".TH"), "{page}: {text}");
    }
    stderr(host, "man /nowhere", 1).map(drop)
}

#[test]
fn a_refusal_is_explained() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let host = &topology.client;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let message = stderr(host, "connection show 12345678", 1)?;
    ensure!(
        message.contains("12345678") || message.contains("token"),
        "{message}"
    );
    let message = stderr(host, &format!("subflow add {token} from 10.0.9.9"), 1)?;
    ensure!(
        message.contains("local-address") || message.contains("10.0.9.9"),
        "{message}"
    );
    let message = stderr(host, &format!("subflow remove {token} id 99"), 1)?;
    ensure!(message.contains("no such subflow"), "{message}");
    drop(connection);
    Ok(())
}

#[test]
fn a_wrong_use_ends_with_status_2() -> Result<()> {
    let topology = Topology::new()?;
    for line in [
        "nonsense",
        "connection show",
        "connection show xyz",
        "monitor --events nonsense",
        "subflow remove 1",
        "subflow remove 1 id x",
        "subflow set 1 id 2 backup maybe",
        "address announce 1 nowhere",
        "completions nonsense",
    ] {
        let message = stderr(&topology.client, line, 2)?;
        ensure!(!message.is_empty(), "smapp {line}: no message");
    }
    Ok(())
}

#[test]
fn without_privilege_the_tool_says_so() -> Result<()> {
    let topology = Topology::new()?;
    for args in [
        &["monitor"][..],
        &["connection", "list"],
        &["run", "fullmesh"],
    ] {
        const NOBODY: u32 = 65534;
        let mut command = Command::new("smapp");
        command.args(args).uid(NOBODY).gid(NOBODY);
        let mut process = Process::start_command(&topology.client, command)?;
        let status = process.wait()?;
        let said = process.seen().join("\n");
        assert_eq!(status.code(), Some(1), "smapp {args:?}: {said}");
        ensure!(said.contains("CAP_NET_ADMIN"), "smapp {args:?}: {said}");
    }
    Ok(())
}

#[test]
fn without_the_module_the_tool_says_so() -> Result<()> {
    let _again = LoadAgain;
    let topology = Topology::new()?;
    let host = &topology.client;
    let linger = std::time::Duration::from_secs(150);
    wait_for("rmmod", linger, || module::remove().context("rmmod"))?;
    for line in [
        "status",
        "connection list",
        "monitor",
        "run fullmesh",
        "connection show 1",
    ] {
        let output = smapp(host, line)?;
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(1), "smapp {line}: {output:?}");
        let all = said + &String::from_utf8_lossy(&output.stdout);
        ensure!(
            all.contains("smapp_pm") && all.contains("modprobe"),
            "smapp {line}: {all}"
        );
    }
    Ok(())
}
