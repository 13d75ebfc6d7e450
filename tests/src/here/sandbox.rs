// SPDX-License-Identifier: GPL-2.0
//! A program in namespaces of its own, on the kernel of this machine.
//!
//! Everything that the program makes (processes, network namespaces, mounts, files in
//! `/tmp`) is in the namespaces, and goes with them, whatever ends the program. The
//! file system of the machine is there to be read. Two things are left to do by hand:
//! the control group, and to let nobody outlive who started it.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::SigSet;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::here::control_group::ControlGroup;
use crate::kernel_interface::KernelInterface;
use crate::wait::{DEADLINE, wait_for};

/// The word with which this program is called again, before the namespaces are made.
pub const BEFORE: &str = "before";
/// And the one inside of them.
pub const INSIDE: &str = "inside";

/// Where a program finds the programs under test.
const PROGRAMS: &str = "/run/programs";
/// And where the program itself is: its own place may be hidden.
const PAYLOAD: &str = "/run/payload";

/// What runs: who has to end, and the control group that has to go, if this program is
/// told to.
static RUNNING: Mutex<Vec<(Pid, PathBuf)>> = Mutex::new(Vec::new());

/// Namespaces for one run of a program.
#[derive(Debug)]
pub struct Sandbox<'a> {
    /// A directory of the programs under test.
    pub programs: &'a Path,
    /// How long the program may take; zero: as long as it likes.
    pub timeout: Duration,
    /// What the program is to use of the kernel.
    pub interface: KernelInterface,
}

impl Sandbox<'_> {
    /// Run a program to its end, with the output of this one.
    pub fn status(&self, words: &[&str]) -> Result<ExitStatus> {
        self.run(words, Command::spawn, |mut child| child.wait())
    }

    /// Run a program to its end; what it has written.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        let piped = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn()
        };
        self.run(words, piped, Child::wait_with_output)
    }

    fn run<T>(
        &self,
        words: &[&str],
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
        wait: impl FnOnce(Child) -> io::Result<T>,
    ) -> Result<T> {
        let group = ControlGroup::new()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(BEFORE).arg(group.path()).arg(self.programs);
        command.env(KernelInterface::VARIABLE, self.interface.word());
        command.arg(self.timeout.as_secs().to_string()).args(words);
        // The lock is held meanwhile: who ends all must not miss this one.
        let mut running = running();
        let child = spawn(&mut command).context("cannot start this program again")?;
        let pid = Pid::from_child(&child);
        running.push((pid, group.path().into()));
        drop(running);
        let outcome = wait(child);
        self::running().retain(|(other, _)| *other != pid);
        outcome.context("cannot wait for a program")
    }
}

fn running() -> impl std::ops::DerefMut<Target = Vec<(Pid, PathBuf)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// End everything that runs, and with it the control groups; the lock is kept: nothing
/// new starts.
pub fn end_all() {
    let running = running();
    for (pid, _) in running.iter() {
        let _ = kill_process(*pid, Signal::KILL);
    }
    for (_, group) in running.iter() {
        // The namespaces end a moment after their first process.
        let gone = wait_for("the end of a control group", DEADLINE, || {
            Ok(ControlGroup::remove(group)?)
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
    }
    std::mem::forget(running);
}

/// Go into the control group, make the namespaces, and go on [`inside`].
pub fn before(words: &[String]) -> Result<ExitCode> {
    let [group, rest @ ..] = words else {
        bail!("{BEFORE}: no control group");
    };
    // Also when it is killed: the first process inside of the namespaces ends with this one,
    // and the others with that.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Who started this one waits for its signals in a thread, and has them blocked.
    SigSet::all().thread_unblock()?;
    ControlGroup::enter(Path::new(group))?;
    let this = std::env::current_exe().context("where is this program?")?;
    let kinds = "--mount --net --pid --ipc --uts --cgroup --fork --kill-child";
    let mut unshare = Command::new("unshare");
    unshare.args(kinds.split(' ')).arg(this);
    let error = unshare.arg(INSIDE).args(rest).exec();
    Err(error).context("cannot run unshare (package util-linux)")
}

/// The first process inside: makes the namespaces a place to live in, runs the program.
pub fn inside(words: &[String]) -> Result<ExitCode> {
    let [programs, seconds, program, arguments @ ..] = words else {
        bail!("{INSIDE}: no program");
    };
    furnish(Path::new(programs), Path::new(program))?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    ensure!(up.context("cannot run ip")?.success(), "ip link set lo up");
    let path = format!("{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin");
    let status = Command::new("timeout")
        .args(["--foreground", "--signal=KILL", seconds, PAYLOAD])
        .args(arguments)
        .env("PATH", path)
        .env("HOME", "/tmp")
        .env("RUST_BACKTRACE", "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    Ok(code(status))
}

/// As a shell tells it.
pub fn code(status: ExitStatus) -> ExitCode {
    let number = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(number.and_then(|n| u8::try_from(n).ok()).unwrap_or(1))
}

/// Mounts: what is written goes to memory, what the kernel shows is about the namespaces.
fn furnish(programs: &Path, program: &Path) -> Result<()> {
    let mount_at = |kind: &str, place: &str| {
        mount(kind, place, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {kind} on {place}"))
    };
    let bind = |from: &Path, to: &str| {
        mount_bind(from, to).with_context(|| format!("cannot bind {} to {to}", from.display()))
    };
    mount_at("tmpfs", "/run")?;
    fs::create_dir(PROGRAMS)?;
    bind(programs, PROGRAMS)?;
    fs::write(PAYLOAD, "")?;
    bind(program, PAYLOAD)?;
    for place in ["/tmp", "/var/tmp", "/srv"] {
        mount_at("tmpfs", place)?;
    }
    mount_at("proc", "/proc")?;
    mount_at("sysfs", "/sys")?;
    mount_at("cgroup2", "/sys/fs/cgroup")?;
    // The sysctls of the machine can be read; of those under net, each namespace has its own,
    // and the kernel keeps the others from it.
    bind(Path::new("/proc/sys"), "/proc/sys")?;
    bind(Path::new("/proc/sys/net"), "/proc/sys/net")?;
    read_only("/proc/sys")?;
    read_only("/")
}

fn read_only(place: &str) -> Result<()> {
    mount_remount(place, MountFlags::BIND | MountFlags::RDONLY, c"")
        .with_context(|| format!("cannot make {place} read-only"))
}
