// SPDX-License-Identifier: GPL-2.0
//! The BPF programs: loading them, and the ring buffer that they write into.
//!
//! A kernel may refuse any of them (no right, no BTF, a program type that it does
//! not have): each is loaded on its own, and what is refused is told, not fatal.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{BtfTracePoint, CgroupAttachMode, FExit, ProgramError, SockOps};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::wire::record::Record;

/// Built by `scripts/bpf`.
static OBJECT: &[u8] = include_bytes_aligned!("../../../bpf/smapp.bpf.o");

/// Where the timeouts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeouts {
    /// `fexit` of the timer: all subflows, the values now in force.
    Timer,
    /// The callback of `sock_ops`: subflows that began after the attach, the values
    /// before the backoff.
    Callback,
    /// Nowhere: they have to be looked for.
    Nowhere,
}

/// A program that did not load, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub program: &'static str,
    pub reason: String,
}

/// The programs that are loaded. They end with this.
pub(super) struct Programs {
    _ebpf: Ebpf,
    ring: RingBuf<MapData>,
    lost: Array<MapData, u64>,
    /// As far as it has been told.
    lost_told: u64,
    pub timeouts: Timeouts,
    /// Whether the ends of subflows and connections are told.
    pub ends: bool,
}

impl Programs {
    /// Loads what the kernel takes, for the network namespace of this thread. None if
    /// that is nothing; with what it refused.
    pub fn load() -> (Option<Self>, Vec<Refusal>) {
        let mut refused = Vec::new();
        let all = |reason: String| {
            vec![Refusal {
                program: "all",
                reason,
            }]
        };
        // Without it aya loads the programs with the offsets of nowhere.
        let btf = match Btf::from_sys_fs() {
            Ok(btf) => btf,
            Err(error) => return (None, all(format!("BTF of the kernel: {}", chain(&error)))),
        };
        let mut ebpf = match open(&btf) {
            Ok(ebpf) => ebpf,
            Err(reason) => return (None, all(reason)),
        };
        let mut take = |program, result: Result<(), String>| match result {
            Ok(()) => true,
            Err(reason) => {
                refused.push(Refusal { program, reason });
                false
            }
        };
        let ends = take("tp_btf/inet_sock_set_state", ends(&mut ebpf, &btf));
        let timeouts = if take("fexit/tcp_retransmit_timer", timer(&mut ebpf, &btf)) {
            Timeouts::Timer
        } else if take("sock_ops", callback(&mut ebpf)) {
            Timeouts::Callback
        } else {
            Timeouts::Nowhere
        };
        if !ends && timeouts == Timeouts::Nowhere {
            return (None, refused);
        }
        let (ring, lost) = match maps(&mut ebpf) {
            Ok(maps) => maps,
            Err(reason) => return (None, all(reason)),
        };
        let programs = Self {
            _ebpf: ebpf,
            ring,
            lost,
            lost_told: 0,
            timeouts,
            ends,
        };
        (Some(programs), refused)
    }

    /// The next record; none if the ring is empty.
    pub fn next(&mut self) -> Option<Record> {
        while let Some(item) = self.ring.next() {
            match Record::decode(&item) {
                None => log::error!("a record of the BPF programs ignored: {:?}", &*item),
                record => return record,
            }
        }
        None
    }

    /// Whether records were lost since this was asked last.
    pub fn lost(&mut self) -> bool {
        let lost = self.lost.get(&0, 0).unwrap_or(self.lost_told);
        std::mem::replace(&mut self.lost_told, lost) != lost
    }
}

impl AsRawFd for Programs {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// The object with its maps; no program yet.
fn open(btf: &Btf) -> Result<Ebpf, String> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    let namespace = fs::metadata(NAMESPACE).map_err(|e| format!("{NAMESPACE}: {e}"))?;
    let inode = namespace.ino() as u32;
    EbpfLoader::new()
        .btf(Some(btf))
        .set_global("netns", &inode, true)
        .load(OBJECT)
        .map_err(|error| chain(&error))
}

fn maps(ebpf: &mut Ebpf) -> Result<(RingBuf<MapData>, Array<MapData, u64>), String> {
    let mut take = |name| ebpf.take_map(name).ok_or(format!("no map {name}"));
    let ring = RingBuf::try_from(take("records")?).map_err(|error| chain(&error))?;
    let lost = Array::try_from(take(".bss")?).map_err(|error| chain(&error))?;
    Ok((ring, lost))
}

fn ends(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut BtfTracePoint = program(ebpf, "closed")?;
    let load = program.load("inet_sock_set_state", btf);
    load.and_then(|()| program.attach())
        .map(drop)
        .map_err(|error| chain(&error))
}

fn timer(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut FExit = program(ebpf, "timeout")?;
    let load = program.load("tcp_retransmit_timer", btf);
    load.and_then(|()| program.attach())
        .map(drop)
        .map_err(|error| chain(&error))
}

fn callback(ebpf: &mut Ebpf) -> Result<(), String> {
    let root = cgroup_root()?;
    let program: &mut SockOps = program(ebpf, "timeout_callback")?;
    // The other modes are refused for links; this one lets other programs stay.
    let load = program.load();
    load.and_then(|()| program.attach(root, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| chain(&error))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(format!("no program {name}"))?;
    program.try_into().map_err(|error| chain(&error))
}

/// The root of the hierarchy of cgroup2. `ip netns exec` hides where it is mounted: then
/// it is mounted for this program alone, at no path.
fn cgroup_root() -> Result<OwnedFd, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // A later mount may cover an earlier one.
    for path in mounts.lines().rev().filter_map(cgroup2) {
        if let Ok(root) = File::open(path) {
            return Ok(root.into());
        }
    }
    let mount = || {
        let context = mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
        mount::fsconfig_create(context.as_fd())?;
        mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    };
    mount().map_err(|error: Errno| format!("mounting cgroup2: {error}"))
}

/// The path in a line of the mount table, if it is one of cgroup2.
fn cgroup2(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    let (path, kind) = (words.nth(1)?, words.next()?);
    (kind == "cgroup2").then_some(path)
}

/// An error with its causes in one line; what the verifier wrote is left out.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(ProgramError::LoadError { io_error, .. }) = error.downcast_ref() {
        return format!("refused to load: {io_error}");
    }
    let (text, cause) = (error.to_string(), error.source().map(chain));
    match cause {
        Some(cause) if !text.contains(&cause) => format!("{text}: {cause}"),
        _ => text,
    }
}
