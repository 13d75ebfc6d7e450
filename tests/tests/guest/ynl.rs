// SPDX-License-Identifier: GPL-2.0
//! A client that is not ours, the kernel's YNL, gives every command and hears every
//! event. What it decodes by `spec/smapp_pm.yaml` is what the library decodes.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use smapp::wire::operation_word;
use smapp::wire::uapi::{GROUPS, cmd};
use smapp::{AddressChange, Connection, Event, EventKind, Token, What};
use smapp_tests::ynl::{as_ours, without_noes};
use smapp_tests::{Family, Fault, Path, PathManager, Topology, Ynl};

use super::{connect, join_fully};

/// An event as the library decoded it, in the words of the protocol.
fn told(event: &Event) -> Value {
    let mut told = json!({ "token": event.token.0, "server_side": event.server_side });
    if let Some(start) = event.start() {
        told["deny_join_id0"] = json!(start.deny_join_id0);
        let Value::Object(owner) = json!(start.owner) else {
            unreachable!("a structure is an object");
        };
        told.as_object_mut().expect("made above").extend(owner);
    }
    match event.what {
        What::AddressAnnounced(address) => told["address"] = json!(address),
        What::AddressesWithdrawn(ids) => told["remote_ids"] = json!(ids),
        _ => {}
    }
    if let Some(subflow) = event.subflow() {
        told["subflow"] = json!([subflow]);
    }
    without_noes(told)
}

/// A change of a local address as the library decoded it; only global ones are told.
fn told_address(change: AddressChange) -> (&'static str, Value) {
    let local = change.address();
    let address = json!({
        "address": local.address,
        "ifindex": local.ifindex,
        "interface": local.interface.to_string(),
        "scope": 0,
    });
    (change.kind().word(), json!({ "address": address }))
}

/// A connection as the library decoded it.
fn known(connection: &Connection) -> Value {
    let mut known = json!(connection);
    known["token"] = json!(connection.token.0);
    without_noes(known)
}

/// What a command of YNL answered, in the same words.
fn answered(ynl: &Ynl, command: &str, token: Token, part: Option<(&str, Value)>) -> Result<Value> {
    let mut attributes = json!({ "token": token.0 });
    if let Some((name, value)) = part {
        attributes[name] = value;
    }
    Ok(as_ours(&ynl.run(command, &attributes)?))
}

/// Every command by YNL on the client. Each event happens on the server.
fn live(topology: &Topology, ynl: &Ynl, server: &mut PathManager) -> Result<()> {
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(topology, Family::V4, &mut client)?;
    let theirs = server.created()?;
    let first = join_fully(&mut client, &connection, token)?;

    let got = answered(ynl, "conn-get", token, None)?;
    assert_eq!(got, known(&client.connection(token)?));
    let all = as_ours(&ynl.dump("conn-get")?);
    assert_eq!(all, json!([known(&client.connection(token)?)]));

    let second = Path::Second.client(Family::V4);
    let remote = connection.server_address()?;
    let created = json!({
        "local-address": second,
        "local-port": 4444,
        "remote-address": remote.ip(),
        "remote-port": remote.port(),
        "backup": true,
    });
    let created = answered(ynl, "subflow-create", token, Some(("subflow", created)))?;
    assert_eq!(created["token"], token.0);
    let created = &created["subflow"][0];
    let joined = client.expect(EventKind::SubflowEstablished, |event| {
        event
            .subflow()
            .is_some_and(|subflow| subflow.local_port == 4444)
    })?;
    let joined = joined.subflow().context("sub_estab has a subflow")?;
    assert_eq!(created["id"], joined.id.0, "{created}");
    assert_eq!(created["local_address"], json!(second));
    assert!(joined.backup);
    let id = created["id"].clone();

    let set = json!({ "id": first.id, "backup": true });
    let set = answered(ynl, "subflow-set", token, Some(("subflow", set)))?;
    assert_eq!(set, Value::Null);
    server.expect(EventKind::SubflowPriority, |_| true)?;

    let gone = json!({ "id": id, "reset": true });
    let gone = answered(ynl, "subflow-destroy", token, Some(("subflow", gone)))?;
    assert_eq!(gone, Value::Null);
    server.expect(EventKind::SubflowClosed, |_| true)?;

    let address = json!({ "address": second, "port": 8080 });
    let address = answered(ynl, "announce", token, Some(("address", address)))?;
    let announced = server.announced(theirs)?;
    assert_eq!(address["address"], json!(announced));
    let address = Some(("address", json!(announced)));
    assert_eq!(answered(ynl, "withdraw", token, address)?, Value::Null);
    server.expect(EventKind::AddressesWithdrawn, |_| true)?;

    for path in [Path::First, Path::Second] {
        topology.break_path(path, Fault::Blackhole)?;
    }
    connection.server.write_all(b"lost")?;
    server.expect(EventKind::Timeout, |_| true)?;
    for path in [Path::First, Path::Second] {
        topology.repair_path(path, Fault::Blackhole)?;
    }

    let stats = as_ours(&ynl.run("stats-get", &json!({}))?);
    let ours = client.client().statistics()?;
    assert_eq!(stats["attached"], ours.attached);
    for operation in stats["operation"].as_array().context("no operations")? {
        let number = operation["operation"].as_u64().context("no number")?;
        let ours = ours.operation(&operation_word(number.try_into()?));
        assert_eq!(operation["failed"], ours.failed, "{stats}");
    }
    drop(connection);
    server.expect(EventKind::Closed, |_| true)?;
    Ok(())
}

#[test]
fn ynl_gives_every_command_and_hears_every_event() -> Result<()> {
    let topology = Topology::new()?;
    let ynl = Ynl::of(&topology.client);
    let listener = Ynl::of(&topology.server);
    let groups = GROUPS.map(|group| listener.subscribe(group));
    let mut groups = groups.into_iter().collect::<Result<Vec<_>>>()?;
    for group in &mut groups {
        group.ready()?;
    }
    let mut server = PathManager::of(&topology.server)?;
    live(&topology, &ynl, &mut server)?;
    let mut addresses = Vec::new();
    for word in ["add", "delete"] {
        let line = format!("address {word} 10.0.3.7/24 dev eth0\n");
        topology.server.ip(&line)?;
        addresses.push(told_address(server.address_change()?));
    }

    let commands = (1..cmd::CREATED).filter_map(cmd::name);
    let commands: BTreeSet<_> = commands.map(str::to_owned).collect();
    assert_eq!(ynl.used(), commands);
    for (group, mut heard) in GROUPS.into_iter().zip(groups) {
        let events = server.seen().iter();
        let ours: Vec<_> = events
            .map(|event| (event.kind().word(), told(event)))
            .chain(addresses.iter().cloned())
            .filter(|(word, _)| *word == group)
            .collect();
        ensure!(
            !ours.is_empty(),
            "no event of the group {group} in this test"
        );
        for (_, told) in ours {
            let heard = heard.event()?;
            assert_eq!(heard["name"], group.replace('_', "-"));
            assert_eq!(as_ours(&heard["msg"]), told);
        }
        heard.end()?;
    }
    Ok(())
}
