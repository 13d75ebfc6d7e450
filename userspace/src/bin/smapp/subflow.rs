// SPDX-License-Identifier: GPL-2.0
//! `smapp subflow`

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;
use smapp::command::SubflowCreate;
use smapp::message::Subflow;
use smapp::{Backend, Client, IfIndex, SubflowId, Token};

use crate::cli::{self, Cli, Endpoint, SubflowWords};
use crate::output;

/// What `subflow add` answers.
#[derive(Serialize)]
struct Added {
    token: Token,
    subflow: Subflow,
}

pub fn subflow(command: &cli::Subflow, json: bool) -> Result<ExitCode> {
    match command {
        cli::Subflow::Add { token, words } => {
            let words = SubflowWords::parse(words).unwrap_or_else(|error| {
                Cli::command()
                    .error(ErrorKind::ValueValidation, error)
                    .exit()
            });
            add(*token, &words, json)?;
        }
        cli::Subflow::Remove { token, number, .. } => {
            let about = || format!("connection {token}, subflow {number}");
            Client::connect()?
                .subflow_destroy(*token, SubflowId(*number))
                .with_context(about)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(token: Token, words: &SubflowWords, json: bool) -> Result<()> {
    let mut client = Client::connect()?;
    let about = || format!("connection {token}");
    let mut create = SubflowCreate::to(remote(&mut client, token, words.to)?);
    if let Some(from) = words.from {
        create = create.from(from.address);
        if let Some(port) = from.port {
            create = create.from_port(port);
        }
    }
    if let Some(dev) = &words.dev {
        let index = nix::net::if_::if_nametoindex(dev.as_str());
        let index = index.with_context(|| format!("interface {dev} (`ip link` lists them)"))?;
        create = create.dev(IfIndex(index));
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
