// SPDX-License-Identifier: GPL-2.0
//! `smapp status`

use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use smapp::module::{Missing, sysctl};
use smapp::{Error, EventSet, Kernel, KernelKind, Lack};

use crate::interface::{Choice, other_path_manager};
use crate::output;

/// What there is, and what is wrong with it.
#[derive(Serialize)]
struct Status {
    kernel: String,
    /// The interface in use, or that would be.
    interface: &'static str,
    module_loaded: bool,
    family_version: Option<u32>,
    privileged: bool,
    enabled: Option<String>,
    path_manager: Option<String>,
    connections: Option<usize>,
    /// What this interface cannot do here, or not well.
    lacks: Vec<Lacking>,
    problems: Vec<String>,
}

/// Something that is missing, what that costs, and what to type.
#[derive(Serialize)]
struct Lacking {
    what: &'static str,
    why: String,
    cost: &'static str,
    remedy: &'static str,
}

impl From<Lack> for Lacking {
    fn from(lack: Lack) -> Self {
        Self {
            what: lack.what,
            why: lack.why,
            cost: lack.cost,
            remedy: lack.remedy,
        }
    }
}

pub fn status(kernel: Choice, json: bool) -> Result<ExitCode> {
    let status = Status::find(kernel);
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
    fn find(kernel: Choice) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kind = kernel.kind();
        let mut status = Self {
            kernel: release.trim_end().to_owned(),
            interface: match kind {
                KernelKind::Module => "smapp_pm",
                _ => "mptcp_pm",
            },
            module_loaded: false,
            family_version: None,
            privileged: has_net_admin(),
            enabled: sysctl("enabled"),
            path_manager: sysctl("path_manager").or_else(|| sysctl("pm_type")),
            connections: None,
            lacks: Vec::new(),
            problems: Vec::new(),
        };
        let works = status.ask(kernel);
        if let Err(error) = &works {
            status.problems.push(error.to_string());
        }
        let reached = works.is_ok() || status.family_version.is_some();
        status.module_loaded = reached && kind == KernelKind::Module;
        if !reached && !status.privileged {
            status.problem("this user may not manage paths: needs CAP_NET_ADMIN, run as root");
        }
        if status.enabled.as_deref() == Some("0") {
            status.problem("multipath tcp is off: type `sudo sysctl -w net.mptcp.enabled=1`");
        }
        if reached {
            status.problems.extend(other_path_manager(kind));
        }
        status
    }

    /// Asks the kernel; what it can do is found by trying.
    fn ask(&mut self, kernel: Choice) -> Result<(), Error> {
        let connected = kernel.connect();
        if let Err(Error::Unusable { why }) = &connected {
            if let Some(Missing::Version(version)) = why.downcast_ref() {
                self.family_version = Some(*version);
            }
        }
        let mut client = connected?;
        self.family_version = client.capabilities().version;
        self.connections = Some(client.connections()?.len());
        client.listen(EventSet::ALL)?;
        self.lacks = client
            .capabilities()
            .lacks
            .into_iter()
            .map(Lacking::from)
            .collect();
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
            ("interface", self.interface.to_owned()),
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
        for lack in &self.lacks {
            output::line(&format!("without {}: {}", lack.what, lack.cost))?;
            let why = if lack.why.is_empty() {
                "not tried"
            } else {
                &lack.why
            };
            output::line(&format!("    why: {why}; what helps: {}", lack.remedy))?;
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
