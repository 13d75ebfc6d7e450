// SPDX-License-Identifier: GPL-2.0
//! `smapp connection`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use smapp::{Client, Errno, Error, EventKind, EventSet, Input, Kernel, Subflow, Token};

use crate::interface::Choice;
use crate::output;
use crate::{cli, signal};

const SECOND: Duration = Duration::from_secs(1);

pub fn connection(kernel: Choice, command: &cli::Connection, json: bool) -> Result<ExitCode> {
    let mut client = kernel.connect()?;
    match command {
        cli::Connection::List => list(&mut client, json)?,
        cli::Connection::Show { token, watch: true } => watch(&mut client, *token, json)?,
        cli::Connection::Show { token, .. } => show(&mut client, *token, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(client: &mut Client, json: bool) -> Result<()> {
    for connection in client.connections()? {
        match json {
            true => output::json(&connection)?,
            false => output::line(&output::connection(&connection))?,
        }
    }
    Ok(())
}

/// Shows a connection every second until it is over.
fn watch(client: &mut Client, token: Token, json: bool) -> Result<()> {
    let end = signal::end()?;
    client.stop_on(&end)?;
    client.listen(EventSet::of(&[EventKind::Closed]))?;
    show(client, token, json)?;
    let mut next = client.now() + SECOND;
    loop {
        match client.wait(Some(next))? {
            Input::Event(event) if event.token == token => return Ok(()),
            Input::Stop => return Ok(()),
            // Its end may be among the lost events: then it is not found.
            Input::Time | Input::Lost => match show(client, token, json) {
                Err(error) if is_over(&error) => return Ok(()),
                result => result?,
            },
            _ => continue,
        }
        next = client.now() + SECOND;
    }
}

fn is_over(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<Error>();
    error.and_then(Error::errno) == Some(Errno::ESRCH)
}

fn show(client: &mut Client, token: Token, json: bool) -> Result<()> {
    let connection = client.connection(token).with_context(|| not_shown(token))?;
    if json {
        return output::json(&connection);
    }
    output::line(&output::connection(&connection))?;
    let owner = output::owner(&connection.owner);
    if !owner.is_empty() {
        output::line(&format!("  {}", owner.join(", ")))?;
    }
    if let Some(info) = connection.info {
        output::line(&format!(
            "  sent {} B, acknowledged {} B, received {} B, retransmitted {} B",
            info.bytes_sent, info.bytes_acked, info.bytes_received, info.bytes_retrans
        ))?;
    }
    for subflow in &connection.subflows {
        show_subflow(subflow)?;
    }
    Ok(())
}

fn not_shown(token: Token) -> String {
    format!("connection {token} (`smapp connection list` shows those that exist)")
}

fn show_subflow(subflow: &Subflow) -> Result<()> {
    let state = subflow
        .state
        .map_or(String::new(), |state| state.to_string());
    let line = format!(
        "  {} {state} {}",
        output::subflow(subflow),
        output::flags(subflow)
    );
    output::line(line.trim_end())?;
    if let Some(info) = subflow.tcp_info {
        output::line(&format!(
            "         srtt {}, rto {}, cwnd {}, delivery rate {} B/s",
            output::ms(info.rtt),
            output::ms(subflow.rto.unwrap_or(info.rto)),
            info.snd_cwnd,
            info.delivery_rate
        ))?;
        output::line(&format!(
            "         sent {} B, acknowledged {} B, received {} B, retransmitted {} B in {} segments",
            info.bytes_sent,
            info.bytes_acked,
            info.bytes_received,
            info.bytes_retrans,
            info.total_retrans
        ))?;
    }
    Ok(())
}
