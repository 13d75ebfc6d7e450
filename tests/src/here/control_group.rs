// SPDX-License-Identifier: GPL-2.0
//! A control group (version 2) for the processes of one run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::wait::{DEADLINE, wait_for};

/// Of the names of groups; the process that made it and a number follow.
const PREFIX: &str = "smapp-here-";

/// Below the control group of this process; removed when dropped.
#[derive(Debug)]
pub struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    /// An empty one.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        let path = own()?.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(ControlGroup { path })
    }

    /// Remove what runs have left that were killed.
    pub fn sweep() -> Result<()> {
        for entry in fs::read_dir(own()?)? {
            let entry = entry?;
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let run = run.and_then(|numbers| numbers.split('-').next());
            if run.is_some_and(|run| !Path::new("/proc").join(run).exists()) {
                // A process in it is somebody else's business, or about to end.
                let _ = Self::remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Move this process into a group.
    pub fn enter(path: &Path) -> Result<()> {
        let procs = path.join("cgroup.procs");
        fs::write(&procs, "0").with_context(|| format!("cannot write {}", procs.display()))
    }

    /// Remove a group and those that were made in it. Fails while a process is in one.
    pub fn remove(path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                Self::remove(&entry.path())?;
            }
        }
        fs::remove_dir(path)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The processes of a namespace end a moment after its first one.
        let gone = wait_for("the end of a control group", DEADLINE, || {
            Ok(Self::remove(&self.path)?)
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
}

/// The directory of the group that this process is in.
fn own() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(place)
    });
    let root = root.context("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    Ok(Path::new(root).join(group.context("a process without a group of cgroup2")?))
}
