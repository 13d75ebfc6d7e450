// SPDX-License-Identifier: GPL-2.0
//! The tool `smapp` as a person or a script uses it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use smapp::{EventKind, SubflowId};
use smapp_tests::module::{self, LoadAgain};
use smapp_tests::{DEADLINE, Family, Netns, Path, PathManager, Process, Topology, wait_for};

use super::{connect, join};

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
    host.set_sysctl("mptcp/path_manager", "kernel")?;
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
