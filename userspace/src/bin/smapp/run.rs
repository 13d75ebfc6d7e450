// SPDX-License-Identifier: GPL-2.0
//! `smapp run`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use smapp::{Client, Engine, Policy, sysctl};

use crate::signal;

pub fn run(policy: &Policy, seed: Option<u64>) -> Result<ExitCode> {
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
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
    let mut engine = Engine::new(client, policy.controller(seed));
    engine.attach()?;
    let attached = engine.connections().count();
    let _ = writeln!(
        io::stderr(),
        "smapp: {} is running, {attached} connections attached",
        policy.word()
    );
    engine.serve()?;
    Ok(ExitCode::SUCCESS)
}
