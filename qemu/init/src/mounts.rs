// SPDX-License-Identifier: GPL-2.0

//! The file systems of the guest.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// One line of the mount table.
struct Mount {
    target: &'static str,
    kind: &'static str,
    data: Option<&'static std::ffi::CStr>,
}

const fn plain(target: &'static str, kind: &'static str) -> Mount {
    Mount {
        target,
        kind,
        data: None,
    }
}

const MOUNTS: &[Mount] = &[
    plain("/dev", "devtmpfs"),
    plain("/proc", "proc"),
    plain("/sys", "sysfs"),
    plain("/sys/fs/cgroup", "cgroup2"),
    plain("/tmp", "tmpfs"),
    plain("/run", "tmpfs"),
    plain("/out", "tmpfs"),
    Mount {
        data: Some(c"mode=0620,ptmxmode=0666"),
        ..plain("/dev/pts", "devpts")
    },
    plain("/sys/kernel/debug", "debugfs"),
];

/// Mounts everything in the table.
pub fn mount_all() -> Result<()> {
    for m in MOUNTS {
        // Fails where the kernel itself provides the directory.
        let _ = std::fs::create_dir_all(m.target);
        match mount(m.kind, m.target, m.kind, MountFlags::empty(), m.data) {
            // CONFIG_DEVTMPFS_MOUNT does not apply to an initramfs, but may one day.
            Err(Errno::BUSY) => (),
            outcome => outcome.with_context(|| format!("cannot mount {}", m.target))?,
        }
    }
    Ok(())
}

/// Lets go of the named network namespaces, whose names are mounts: connections in
/// them would keep the module busy.
pub fn unmount_namespaces() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ');
        if let (Some(_), Some(target), Some("nsfs")) = (fields.next(), fields.next(), fields.next())
        {
            unmount(target, UnmountFlags::DETACH)
                .with_context(|| format!("cannot unmount {target}"))?;
        }
    }
    Ok(())
}
