// SPDX-License-Identifier: GPL-2.0
//! `smapp status`

use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use smapp::module::{Missing, sysctl};
use smapp::{Client, Error, Kernel};

use crate::output;

/// What there is, and what is wrong with it.
#[derive(Serialize)]
struct Status {
    kernel: String,
    module_loaded: bool,
    family_version: Option<u32>,
    privileged: bool,
    enabled: Option<String>,
    path_manager: Option<String>,
    connections: Option<usize>,
    problems: Vec<String>,
}

pub fn status(json: bool) -> Result<ExitCode> {
    let status = Status::find();
    match json {
        true => output::json(&status)?,
        false => status.print()?,
    }
    Ok(match status.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Status {
    fn find() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut status = Self {
            kernel: kernel.trim_end().to_owned(),
            module_loaded: false,
            family_version: None,
            privileged: has_net_admin(),
            enabled: sysctl("enabled"),
            path_manager: sysctl("path_manager"),
            connections: None,
            problems: Vec::new(),
        };
        if let Err(error) = status.ask_module() {
            status.problems.push(error.to_string());
        }
        if !status.module_loaded && !status.privileged {
            status.problem("this user may not manage paths: needs CAP_NET_ADMIN, run as root");
        }
        if status.enabled.as_deref() == Some("0") {
            status.problem("multipath tcp is off: type `sudo sysctl -w net.mptcp.enabled=1`");
        }
        // Without the module the kernel would take the name and use its own.
        let chosen = status.path_manager.as_deref() == Some("smapp");
        if status.module_loaded && !chosen {
            status.problem(
                "new connections do not use smapp: type \
                 `sudo sysctl -w net.mptcp.path_manager=smapp`",
            );
        }
        status
    }

    fn ask_module(&mut self) -> Result<(), Error> {
        let connected = Client::connect();
        if let Err(Error::Unusable { why }) = &connected {
            if let Some(Missing::Version(version)) = why.downcast_ref() {
                self.family_version = Some(*version);
            }
        }
        self.module_loaded = connected.is_ok() || self.family_version.is_some();
        let mut client = connected?;
        self.family_version = client.capabilities().version;
        self.connections = Some(client.connections()?.len());
        self.privileged = true;
        Ok(())
    }

    fn problem(&mut self, text: &str) {
        self.problems.push(text.to_owned());
    }

    fn print(&self) -> Result<()> {
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let rows = [
            ("kernel", self.kernel.clone()),
            ("module smapp_pm loaded", yes(self.module_loaded)),
            (
                "protocol version",
                or_none(self.family_version.map(|v| v.to_string())),
            ),
            ("CAP_NET_ADMIN", yes(self.privileged)),
            ("net.mptcp.enabled", or_none(self.enabled.clone())),
            ("net.mptcp.path_manager", or_none(self.path_manager.clone())),
            (
                "connections",
                or_none(self.connections.map(|n| n.to_string())),
            ),
        ];
        for (name, value) in rows {
            output::line(&format!("{name:<23} {value}"))?;
        }
        for problem in &self.problems {
            output::line(&format!("problem: {problem}"))?;
        }
        Ok(())
    }
}

/// Whether this process has CAP_NET_ADMIN in its own user namespace.
fn has_net_admin() -> bool {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.unwrap_or(0) & CAP_NET_ADMIN != 0
}
