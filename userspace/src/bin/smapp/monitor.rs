// SPDX-License-Identifier: GPL-2.0
//! `smapp monitor`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use smapp::message::Subflow;
use smapp::{Backend, Client, Event, EventKind, EventSet, Input, Token};

use crate::{output, signal};

/// An event as a program reads it.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    subflow: Option<&'a Subflow>,
}

pub fn monitor(kinds: &[EventKind], json: bool) -> Result<ExitCode> {
    let events = match kinds {
        [] => EventSet::ALL,
        _ => EventSet::of(kinds),
    };
    let end = signal::end()?;
    let mut client = Client::connect()?;
    client.stop_on(&end)?;
    client.listen(events)?;
    let words: Vec<_> = events.iter().map(EventKind::word).collect();
    let _ = writeln!(io::stderr(), "smapp: listening for {}", words.join(", "));
    loop {
        match client.wait(None)? {
            Input::Event(event) if json => print_json(event.kind().word(), Some(about(&event)))?,
            Input::Event(event) => output::line(&output::event(output::now(), &event))?,
            Input::Lost if json => print_json("lost", None)?,
            Input::Lost => {
                let time = output::clock(output::now());
                output::line(&format!(
                    "{time} events were lost here, see `smapp connection list`"
                ))?;
            }
            Input::Stop => return Ok(ExitCode::SUCCESS),
            Input::Address(_) | Input::Time => {}
        }
    }
}

fn print_json(event: &'static str, about: Option<About<'_>>) -> Result<()> {
    let time = output::now().as_secs_f64();
    output::json(&Line { event, time, about })
}

fn about(event: &Event) -> About<'_> {
    let deny_join_id0 = match event {
        Event::Created { deny_join_id0, .. } | Event::Established { deny_join_id0, .. } => {
            Some(*deny_join_id0)
        }
        _ => None,
    };
    About {
        token: event.token(),
        server_side: event.server_side(),
        deny_join_id0,
        subflow: event.subflow(),
    }
}
