// SPDX-License-Identifier: GPL-2.0
//! The kernel's own client of netlink families, YNL, which knows of ours what
//! `spec/smapp_pm.yaml` says and nothing else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use smapp::wire::{decode_mptcp_info, decode_tcp_info};

use crate::netns::Netns;
use crate::process::Process;

/// Starting Python takes a while, many of them at a time even more.
const DEADLINE: Duration = Duration::from_secs(60);

const COMMAND: [&str; 8] = [
    "PYTHONPATH=/usr/lib/python3/dist-packages",
    "python3",
    "-Su",
    "/usr/lib/ynl/cli.pyc",
    "--spec",
    "/usr/lib/ynl/smapp_pm.yaml",
    "--no-schema",
    "--output-json",
];

/// YNL in a network namespace.
#[derive(Debug)]
pub struct Ynl<'a> {
    host: &'a Netns,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Ynl<'a> {
    /// YNL in this namespace.
    pub fn of(host: &'a Netns) -> Self {
        Ynl {
            host,
            used: RefCell::default(),
        }
    }

    /// Run a command; what it answers, null for no more than an acknowledgement.
    pub fn run(&self, command: &str, attributes: &Value) -> Result<Value> {
        self.used.borrow_mut().insert(command.to_owned());
        self.call("--do", command, attributes)
    }

    /// List what a command lists.
    pub fn dump(&self, command: &str) -> Result<Value> {
        self.call("--dump", command, &json!({}))
    }

    /// The commands that were run.
    pub fn used(&self) -> BTreeSet<String> {
        self.used.borrow().clone()
    }

    fn call(&self, how: &str, command: &str, attributes: &Value) -> Result<Value> {
        let attributes = attributes.to_string();
        let arguments = [how, command, "--json", &attributes];
        let mut process = self.start(&arguments)?;
        let line = process.line(DEADLINE);
        let status = process.wait()?;
        let said = || format!("{command} {attributes}: {}", process.seen().join("\n"));
        ensure!(status.success(), said());
        let line = line.with_context(said)?;
        serde_json::from_str(&line).with_context(said)
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        Process::start(self.host, "env", &[&COMMAND, arguments].concat())
    }

    /// Register for the events of a multicast group.
    pub fn subscribe(&self, group: &str) -> Result<Subscription> {
        let subscribed = ["--subscribe", group, "--do", "stats-get"];
        Ok(Subscription {
            process: self.start(&subscribed)?,
        })
    }
}

/// A process of YNL that prints the events of one multicast group.
#[derive(Debug)]
pub struct Subscription {
    process: Process,
}

impl Subscription {
    /// Wait until events come: the answer to a command shows that it listens.
    pub fn ready(&mut self) -> Result<()> {
        let line = self.event()?;
        ensure!(line.get("attached").is_some(), "not an answer: {line}");
        Ok(())
    }

    /// The next event, with its name and its attributes.
    pub fn event(&mut self) -> Result<Value> {
        let line = self.process.line(DEADLINE);
        let line = line.with_context(|| format!("no event after {:#?}", self.process.seen()))?;
        let event = serde_json::from_str(&line);
        if event.is_err() {
            self.process.wait()?;
        }
        event.with_context(|| self.process.seen().join("\n"))
    }

    /// Stop it; there must be no event left.
    pub fn end(mut self) -> Result<()> {
        let before = self.process.seen().len();
        self.process.interrupt()?;
        let left = &self.process.seen()[before..];
        ensure!(left.is_empty(), "more than was expected: {left:#?}");
        Ok(())
    }
}

/// What YNL decoded, in the form in which the library writes JSON: words with `_`,
/// no attribute that says no, structures of the kernel taken apart.
pub fn as_ours(value: &Value) -> Value {
    let each = |(name, value): (&String, &Value)| {
        let bytes = || value.as_str().map(unhex).unwrap_or_default();
        let value = match name.as_str() {
            "info" => json!(decode_mptcp_info(&bytes())),
            "tcp-info" => json!(decode_tcp_info(&bytes())),
            "remote-ids" => json!(bytes()),
            _ => as_ours(value),
        };
        (name.replace('-', "_"), value)
    };
    match value {
        Value::Object(map) => Value::Object(map.iter().map(each).collect()),
        Value::Array(list) => list.iter().map(as_ours).collect(),
        other => other.clone(),
    }
}

/// What the library decoded, without what says no.
pub fn without_noes(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let said = map.into_iter().filter(|(_, value)| *value != json!(false));
            let said: Map<_, _> = said.map(|(n, value)| (n, without_noes(value))).collect();
            Value::Object(said)
        }
        Value::Array(list) => list.into_iter().map(without_noes).collect(),
        other => other,
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
