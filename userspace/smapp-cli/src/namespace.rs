// SPDX-License-Identifier: GPL-2.0
//! `--namespace`: network namespaces as `ip netns` names them.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

const NAMES: &str = "/run/netns";

/// Moves this process, which has one thread, to a network namespace.
pub fn enter(name: &str) -> Result<()> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    ensure!(
        plain,
        "namespace `{name}`: expected a name as `ip netns` lists it"
    );
    let file = File::open(Path::new(NAMES).join(name))
        .with_context(|| format!("namespace `{name}` (`ip netns` lists those that exist)"))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("namespace `{name}`: entering it, which needs root"))
}
