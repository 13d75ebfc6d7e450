// SPDX-License-Identifier: GPL-2.0
//! How connections, subflows and events are printed, for people and for programs.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use smapp::{
    AddressChange, Connection, Errno, Event, IfIndex, LocalAddress, Owner, Start, Subflow, What,
};

/// Prints one object as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    io::stdout().write_all(&line)?;
    Ok(())
}

/// Prints one line of text.
pub fn line(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Time since 1970.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Time of day in UTC: `20:31:07.123`.
pub fn clock(time: Duration) -> String {
    let (s, ms) = (time.as_secs(), time.subsec_millis());
    format!(
        "{:02}:{:02}:{:02}.{ms:03}",
        s / 3600 % 24,
        s / 60 % 60,
        s % 60
    )
}

/// Microseconds as milliseconds.
pub fn ms(us: u32) -> String {
    match us % 1000 {
        0 => format!("{} ms", us / 1000),
        _ => format!("{:.1} ms", f64::from(us) / 1000.0),
    }
}

/// The name of an interface, or its number if it has gone.
pub fn interface(index: IfIndex) -> String {
    let name = nix::net::if_::if_indextoname(index.0).ok();
    let name = name.and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| format!("if{index}"))
}

pub fn side(server_side: bool) -> &'static str {
    if server_side { "server" } else { "client" }
}

/// `id 2  10.0.2.1:40001 -> 10.0.3.1:80`
pub fn subflow(subflow: &Subflow) -> String {
    format!(
        "id {:<3} {} -> {}",
        subflow.id,
        subflow.local(),
        subflow.remote()
    )
}

/// What a subflow is beside its addresses: `initial backup dev eth1`.
pub fn flags(subflow: &Subflow) -> String {
    let mut words = Vec::new();
    let named = [
        (subflow.initial, "initial"),
        (!subflow.active, "passive"),
        (subflow.backup, "backup"),
        (subflow.backup_peer, "backup-peer"),
    ];
    words.extend(
        named
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, word)| (*word).to_owned()),
    );
    words.extend(
        subflow
            .ifindex
            .map(|index| format!("dev {}", interface(index))),
    );
    words.join(" ")
}

fn last_error(errno: Errno) -> String {
    format!("last error {errno}")
}

/// Whose socket it is.
pub fn owner(owner: &Owner) -> Vec<String> {
    let parts = [
        owner.uid.map(|uid| format!("uid {uid}")),
        owner.mark.map(|mark| format!("mark {mark:#x}")),
        owner
            .ifindex
            .map(|index| format!("dev {}", interface(index))),
        owner.cookie.map(|cookie| format!("cookie {cookie:x}")),
        owner.cgroup.map(|cgroup| format!("cgroup {cgroup}")),
    ];
    parts.into_iter().flatten().collect()
}

/// A local address that came or went, as one line.
pub fn address_change(time: Duration, change: &AddressChange) -> String {
    let LocalAddress {
        address, interface, ..
    } = change.address();
    let word = change.kind().word();
    format!("{} {word:<14} {address} dev {interface}", clock(time))
}

/// An event as one line, its parts in columns.
pub fn event(time: Duration, event: &Event) -> String {
    let mut line = format!(
        "{} {:<14} {}",
        clock(time),
        event.kind().word(),
        event.token
    );
    if let Some(s) = event.subflow() {
        line += &format!(" {:<44}", subflow(s));
    }
    let mut notes = Vec::new();
    match &event.what {
        What::Created(start) | What::Established(start) => {
            let Start {
                deny_join_id0,
                owner: of,
                ..
            } = start;
            notes.push(side(event.server_side).to_owned());
            notes.extend(deny_join_id0.then(|| "deny-join-id0".to_owned()));
            notes.extend(owner(of));
        }
        What::SubflowEstablished(subflow) => notes.extend(Some(flags(subflow))),
        What::SubflowClosed(subflow) => {
            notes.extend(subflow.errno.map(|e| e.to_string()));
            notes.extend(subflow.errno_soft.filter(|e| e.0 != 0).map(last_error));
            let transient = if subflow.reset_transient {
                ", transient"
            } else {
                ""
            };
            let reset = |r| format!("reset reason {r}{transient}");
            notes.extend(subflow.reset_reason.map(reset));
            let never = subflow.established == Some(false);
            notes.extend(never.then(|| "never established".to_owned()));
            let bytes = subflow.bytes_acked.zip(subflow.bytes_received);
            notes.extend(bytes.map(|(a, r)| format!("acknowledged {a} B, received {r} B")));
        }
        What::Timeout(subflow) => {
            notes.extend(subflow.rto.map(|rto| format!("rto {}", ms(rto))));
            notes.extend(subflow.backoff.map(|n| format!("backoff {n}")));
            notes.extend(subflow.retransmits.map(|n| format!("retransmits {n}")));
            notes.extend(subflow.probes.map(|n| format!("probes {n}")));
            notes.extend(subflow.unacked.map(|n| format!("unacknowledged {n} B")));
            notes.extend(subflow.errno_soft.filter(|e| e.0 != 0).map(last_error));
        }
        What::SubflowPriority(subflow) => {
            notes.push(
                if subflow.backup_peer {
                    "backup-peer on"
                } else {
                    "backup-peer off"
                }
                .into(),
            );
        }
        What::AddressAnnounced(address) => notes.push(address.to_string()),
        What::AddressesWithdrawn(ids) => {
            notes.extend(ids.iter().map(|id| format!("id {id}")));
        }
        _ => {}
    }
    line += " ";
    line += &notes.join(", ");
    line.trim_end().to_owned()
}

/// A connection as one line.
pub fn connection(c: &Connection) -> String {
    let subflow = c.leading_subflow().or(c.subflows.first());
    let path = subflow.map_or("no subflow".to_owned(), |s| {
        format!("{} -> {}", s.local(), s.remote())
    });
    let mut line = format!(
        "{} {} {path:<40} subflows {}",
        c.token,
        side(c.server_side),
        c.subflows.len()
    );
    for (set, word) in [
        (c.fallback, " fallback"),
        (c.deny_join_id0, " deny-join-id0"),
    ] {
        line += if set { word } else { "" };
    }
    line
}
