// SPDX-License-Identifier: GPL-2.0
//! What the kernel knows of the connections at the moment in which a test fails.

use std::panic;
use std::process::Command;
use std::sync::{Mutex, Once, PoisonError};

/// Namespaces that are worth a report.
static HOSTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Report on a namespace if a panic happens while it is there.
///
/// The report is made by a panic hook: when the test unwinds, its connections are
/// closed before its namespaces go.
pub fn watch(host: &str) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print_panic = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            print_panic(info);
            for host in hosts().iter() {
                eprintln!("{}", report(host));
            }
        }));
    });
    hosts().push(host.into());
}

/// No longer report on a namespace.
pub fn forget(host: &str) {
    hosts().retain(|watched| watched != host);
}

fn hosts() -> impl std::ops::DerefMut<Target = Vec<String>> {
    HOSTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel knows of the connections of a host.
pub fn report(host: &str) -> String {
    ["smapp connection list", "ss -Mtian", "ip mptcp endpoint"]
        .iter()
        .map(|line| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", host]).args(line.split(' '));
            let text = match command.output() {
                Ok(output) => [output.stdout, output.stderr].concat(),
                Err(error) => error.to_string().into(),
            };
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().map(str::trim_end).collect();
            format!("{host}# {line}\n{}\n", lines.join("\n"))
        })
        .collect()
}
