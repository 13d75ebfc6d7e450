// SPDX-License-Identifier: GPL-2.0
//! `smapp run`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use smapp::controller::Fullmesh;
use smapp::{Client, Controller, Engine, sysctl};

use crate::{cli, signal};

pub fn run(policy: &cli::Policy) -> Result<ExitCode> {
    match policy {
        cli::Policy::Fullmesh { seed } => {
            let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
            serve("fullmesh", Fullmesh::new(seed))
        }
    }
}

fn serve(name: &str, policy: impl Controller) -> Result<ExitCode> {
    let end = signal::end()?;
    let client = Client::connect()?;
    client.stop_on(&end)?;
    match sysctl("path_manager") {
        Some(chosen) if chosen != "smapp" => log::warn!(
            "new connections of this network namespace use the path manager `{chosen}`: \
             type `sysctl -w net.mptcp.path_manager=smapp`"
        ),
        _ => {}
    }
    let mut engine = Engine::new(client, policy);
    engine.attach()?;
    let attached = engine.connections().count();
    let _ = writeln!(
        io::stderr(),
        "smapp: {name} is running, {attached} connections attached"
    );
    engine.serve()?;
    Ok(ExitCode::SUCCESS)
}
