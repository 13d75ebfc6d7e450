// SPDX-License-Identifier: GPL-2.0
//! What this machine lacks for running the tests on its own kernel.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::Result;
use rustix::process::geteuid;
use socket2::{Domain, Protocol, Socket, Type};

use crate::here::sandbox::Sandbox;
use crate::kernel_interface::KernelInterface;
use crate::topology::{Fault, Path as OnePath, Shape, Topology};

/// The word with which this program is called in a sandbox, to try what the tests do.
pub const PROBE: &str = "probe";

/// Programs that the tests call, and the packages of Debian that have them.
const TOOLS: [(&str, &str); 9] = [
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("curl", "curl"),
    ("lighttpd", "lighttpd"),
    ("mptcpize", "mptcpize"),
];

/// The best interface that the kernel of this machine has.
pub fn interface() -> KernelInterface {
    let managers = fs::read_to_string("/proc/sys/net/mptcp/available_path_managers");
    match managers {
        Ok(names) if names.split_whitespace().any(|name| name == "smapp") => {
            KernelInterface::Module
        }
        _ => KernelInterface::Stock,
    }
}

/// Everything that is missing, in words for people; nothing: the tests can run.
pub fn missing(programs: &Path) -> Vec<String> {
    if !geteuid().is_root() {
        return vec!["root: namespaces are made as root".into()];
    }
    let mut missing: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, _)| !is_there(tool))
        .map(|(tool, package)| format!("{tool}: apt install {package}"))
        .collect();
    if let Err(error) = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)) {
        missing.push(format!(
            "Multipath TCP in this kernel (CONFIG_MPTCP): {error}"
        ));
    } else if !["path_manager", "pm_type"].iter().any(|name| sysctl(name)) {
        missing.push("a kernel from 5.19 on, with net.mptcp.pm_type".into());
    }
    if missing.is_empty() {
        missing.extend(tried(programs));
    }
    missing
}

fn sysctl(name: &str) -> bool {
    Path::new("/proc/sys/net/mptcp").join(name).exists()
}

fn is_there(tool: &str) -> bool {
    let path = env::var("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut places = path.split(':').chain(usual);
    places.any(|place| Path::new(place).join(tool).exists())
}

/// Whether a network of namespaces can be made in a sandbox; if not, why.
fn tried(programs: &Path) -> Option<String> {
    let sandbox = Sandbox {
        programs,
        timeout: Duration::from_secs(30),
        interface: interface(),
    };
    let this = env::current_exe().ok()?;
    let outcome = sandbox.output(&[this.to_str()?, PROBE]);
    match outcome {
        Ok(Output { status, .. }) if status.success() => None,
        Ok(Output { stderr, .. }) => Some(String::from_utf8_lossy(&stderr).trim_end().into()),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// In a sandbox: build the network of the tests, break a path of it.
pub fn probe() -> Result<()> {
    let topology = Topology::with_shapes([Shape::default(); 2])?;
    topology.break_path(OnePath::First, Fault::Reset)?;
    topology.break_path(OnePath::Second, Fault::Blackhole)
}
