// SPDX-License-Identifier: GPL-2.0
//! `smapp monitor`

use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use smapp::{
    Address, AddressIds, Event, EventKind, EventSet, IfIndex, Input, Kernel, Owner, Subflow, Token,
    What,
};

use crate::interface::Choice;
use crate::output;
use crate::signal;

/// An event as a program reads it: one line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    about: Option<About<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    token: Token,
    server_side: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny_join_id0: Option<bool>,
    #[serde(flatten)]
    owner: Option<Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subflow: Option<&'a Subflow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_ids: Option<AddressIds>,
}

/// A local address that came or went.
#[derive(Serialize)]
struct AddressLine {
    event: &'static str,
    time: f64,
    local_address: IpAddr,
    ifindex: IfIndex,
    interface: String,
}

pub fn monitor(
    kernel: Choice,
    kinds: &[EventKind],
    only: Option<Token>,
    json: bool,
) -> Result<ExitCode> {
    let events = match kinds {
        [] => EventSet::ALL,
        _ => EventSet::of(kinds),
    };
    let end = signal::end()?;
    let mut client = kernel.connect()?;
    client.stop_on(&end)?;
    client.listen(events)?;
    let words: Vec<_> = events.iter().map(EventKind::word).collect();
    let _ = writeln!(io::stderr(), "smapp: listening for {}", words.join(", "));
    loop {
        match client.wait(None)? {
            Input::Event(event) if only.is_some_and(|token| token != event.token) => {}
            Input::Event(event) if json => print_json(event.kind().word(), Some(about(&event)))?,
            Input::Event(event) => output::line(&output::event(output::now(), &event))?,
            Input::Address(_) if only.is_some() => {}
            Input::Address(change) if json => {
                let address = change.address();
                output::json(&AddressLine {
                    event: change.kind().word(),
                    time: output::now().as_secs_f64(),
                    local_address: address.address,
                    ifindex: address.ifindex,
                    interface: address.interface.to_string(),
                })?;
            }
            Input::Address(change) => {
                output::line(&output::address_change(output::now(), &change))?
            }
            Input::Lost if json => print_json("lost", None)?,
            Input::Lost => {
                let time = output::clock(output::now());
                output::line(&format!(
                    "{time} events were lost here, see `smapp connection list`"
                ))?;
            }
            Input::Stop => return Ok(ExitCode::SUCCESS),
            _ => {}
        }
    }
}

fn print_json(event: &'static str, about: Option<About<'_>>) -> Result<()> {
    let time = output::now().as_secs_f64();
    output::json(&Line { event, time, about })
}

fn about(event: &Event) -> About<'_> {
    let mut about = About {
        token: event.token,
        server_side: event.server_side,
        deny_join_id0: None,
        owner: None,
        subflow: event.subflow(),
        address: None,
        remote_ids: None,
    };
    if let Some(start) = event.start() {
        about.deny_join_id0 = Some(start.deny_join_id0);
        about.owner = Some(start.owner);
    }
    match event.what {
        What::AddressAnnounced(address) => about.address = Some(address),
        What::AddressesWithdrawn(ids) => about.remote_ids = Some(ids),
        _ => {}
    }
    about
}
