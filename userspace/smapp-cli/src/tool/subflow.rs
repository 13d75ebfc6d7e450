// SPDX-License-Identifier: GPL-2.0
//! `smapp subflow`

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;
use smapp::{Client, IfIndex, Kernel, Subflow, SubflowCreate, SubflowId, Token};

use crate::cli::{self, Cli};
use crate::command_words::{Endpoint, SubflowWords, subflow_to_remove};
use crate::interface::Choice;
use crate::output;

/// What `subflow add` answers.
#[derive(Serialize)]
struct Added {
    token: Token,
    subflow: Subflow,
}

pub fn subflow(kernel: Choice, command: &cli::Subflow, json: bool) -> Result<ExitCode> {
    match command {
        cli::Subflow::Add { token, words } => {
            add(kernel, *token, &parsed(SubflowWords::parse(words)), json)?;
        }
        cli::Subflow::Remove { token, words } => {
            let subflow = parsed(subflow_to_remove(words));
            kernel
                .connect()?
                .subflow_destroy(*token, &subflow)
                .with_context(|| format!("connection {token}, subflow {subflow}"))?;
        }
        cli::Subflow::Set {
            token,
            number,
            value,
            ..
        } => {
            kernel
                .connect()?
                .subflow_set_backup(*token, SubflowId(*number), value == "on")
                .with_context(|| format!("connection {token}, subflow {number}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The words, or the end of the program for wrong ones.
fn parsed<T>(words: Result<T, String>) -> T {
    words.unwrap_or_else(|error| {
        Cli::command()
            .error(ErrorKind::ValueValidation, error)
            .exit()
    })
}

fn add(kernel: Choice, token: Token, words: &SubflowWords, json: bool) -> Result<()> {
    let mut client = kernel.connect()?;
    let about = || format!("connection {token}");
    let mut create = SubflowCreate::to(remote(&mut client, token, words.to)?);
    if let Some(from) = words.from {
        create = create.local_address(from.address);
        if let Some(port) = from.port {
            create = create.local_port(port);
        }
    }
    if let Some(dev) = &words.dev {
        let index = nix::net::if_::if_nametoindex(dev.as_str());
        let index = index.with_context(|| format!("interface {dev} (`ip link` lists them)"))?;
        create = create.ifindex(IfIndex(index));
    }
    let subflow = client
        .subflow_create(token, &create.backup(words.backup))
        .with_context(about)?;
    match json {
        true => output::json(&Added { token, subflow }),
        false => output::line(&format!("{token} {}", output::subflow(&subflow))),
    }
}

/// Where the subflow leads: what is not said is as in the initial subflow.
fn remote(client: &mut Client, token: Token, to: Option<Endpoint>) -> Result<SocketAddr> {
    if let Some(Endpoint {
        address,
        port: Some(port),
    }) = to
    {
        return Ok(SocketAddr::new(address, port));
    }
    let about = || format!("connection {token} (`smapp connection list` shows those that exist)");
    let connection = client.connection(token).with_context(about)?;
    let known = connection.leading_subflow().with_context(|| {
        format!("connection {token} has no subflow left: say where to, with `to ADDRESS:PORT`")
    })?;
    let address = to.map_or(known.remote_address, |to| to.address);
    Ok(SocketAddr::new(address, known.remote_port))
}
