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
    /// The debug kernel alone has it.
    optional: bool,
}

const fn needed(target: &'static str, kind: &'static str) -> Mount {
    Mount {
        target,
        kind,
        data: None,
        optional: false,
    }
}

const MOUNTS: &[Mount] = &[
    needed("/dev", "devtmpfs"),
    needed("/proc", "proc"),
    needed("/sys", "sysfs"),
    needed("/sys/fs/cgroup", "cgroup2"),
    needed("/tmp", "tmpfs"),
    needed("/run", "tmpfs"),
    needed("/out", "tmpfs"),
    Mount {
        data: Some(c"mode=0620,ptmxmode=0666"),
        ..needed("/dev/pts", "devpts")
    },
    Mount {
        optional: true,
        ..needed("/sys/kernel/debug", "debugfs")
    },
];

/// Mounts everything in the table.
pub fn mount_all() -> Result<()> {
    for m in MOUNTS {
        // Fails where the kernel itself provides the directory.
        let _ = std::fs::create_dir_all(m.target);
        match mount(m.kind, m.target, m.kind, MountFlags::empty(), m.data) {
            Err(Errno::NODEV | Errno::NOENT) if m.optional => (),
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
