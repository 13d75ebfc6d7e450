// SPDX-License-Identifier: GPL-2.0
//! What the module, the library and the tool do, seen in a running kernel.
//!
//! Each test is named for one behaviour and has a network of its own. They run as
//! root in the guest of `qemu/run`, one after the other, in one boot: on the debug
//! kernel a boot takes a minute.

mod addresses;
mod attach;
mod commands;
mod dump;
mod errors;
mod events;
mod faults;
mod fullmesh;
mod fuzz;
mod local_addresses;
mod loss;
mod malformed;
mod module;
mod namespaces;
mod refusals;
mod security;
mod stats;
mod tool;
mod ynl;

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use smapp::command::SubflowCreate;
use smapp::message::Subflow;
use smapp::{SubflowId, Token};
use smapp_tests::{Connection, Family, Path, PathManager, Topology};

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
    Ok(SubflowCreate::to(remote).from(Path::Second.client(family)))
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
