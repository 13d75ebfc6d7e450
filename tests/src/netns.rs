// SPDX-License-Identifier: GPL-2.0
//! Network namespaces with a name, and running things in them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::family::Family;
use crate::kernel_interface::KernelInterface;
use crate::wait::DEADLINE;

/// A network namespace, as `ip netns` names it; deleted when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Add network namespaces of these names.
    pub fn add<const COUNT: usize>(names: [&str; COUNT]) -> Result<[Self; COUNT]> {
        let lines: String = names
            .iter()
            .map(|name| format!("netns add {name}\n"))
            .collect();
        tool("ip", &["-batch", "-"], &lines)?;
        let open = |name: &str| {
            File::open(path(name)).map(|file| Netns {
                name: name.into(),
                file,
            })
        };
        let namespaces = names.into_iter().map(open).collect::<Result<Vec<_>, _>>();
        let namespaces = namespaces.context("cannot open a namespace just added")?;
        Ok(namespaces.try_into().expect("as many namespaces as names"))
    }

    /// Add a host that only talks to itself.
    pub fn loopback(name: &str) -> Result<Self> {
        let [host] = Self::add([name])?;
        host.ip("link set lo up\n")?;
        Ok(host)
    }

    /// Its name, for `ip netns exec NAME` and `ip -n NAME`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Run a closure in the namespace.
    ///
    /// The closure gets a thread of its own, so that the caller stays where it
    /// is. Sockets and processes made by the closure stay in the namespace.
    pub fn enter<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> T {
        let body = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|errno| panic!("cannot enter namespace {}: {errno}", self.name));
            closure()
        };
        thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Run the lines of an `ip -batch`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        tool("ip", &["-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// As [`Netns::ip`], with rules and routes of the given family.
    pub fn ip_of(&self, family: Family, lines: &str) -> Result<()> {
        let family = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        tool("ip", &["-n", &self.name, family, "-batch", "-"], lines).map(drop)
    }

    /// Run the lines of a `tc -batch`.
    pub fn tc(&self, lines: &str) -> Result<()> {
        tool("tc", &["-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// Load nftables rules.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.enter(|| tool("nft", &["-f", "-"], rules)).map(drop)
    }

    /// Run a program to its end. One that does not end is stopped after some time,
    /// with a status of 143.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command
            .arg(DEADLINE.as_secs().to_string())
            .arg(program)
            .args(args)
            .stdin(Stdio::null());
        self.enter(|| command.output())
            .with_context(|| format!("cannot run {program}"))
    }

    /// Set a sysctl of the namespace, named as under `/proc/sys/net`.
    pub fn set_sysctl(&self, name: &str, value: impl AsRef<[u8]> + Sync) -> Result<()> {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| fs::write(&path, &value))
            .with_context(|| format!("cannot write {path}"))
    }

    /// Read a sysctl of the namespace.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{name}");
        let value = self
            .enter(|| fs::read_to_string(&path))
            .with_context(|| format!("cannot read {path}"))?;
        Ok(value.trim().to_string())
    }

    /// Let smapp manage the connections that are made from now on, over the interface of
    /// this run.
    pub fn manage_by_smapp(&self) -> Result<()> {
        match KernelInterface::of_this_run() {
            KernelInterface::Module => self.set_sysctl("mptcp/path_manager", "smapp"),
            KernelInterface::Stock => self.manage_by("userspace", "1"),
        }
    }

    /// Leave the connections that are made from now on to the kernel's own path manager.
    pub fn manage_by_kernel(&self) -> Result<()> {
        self.manage_by("kernel", "0")
    }

    /// The name of the path manager that new connections have.
    pub fn path_manager(&self) -> Result<String> {
        self.sysctl("mptcp/path_manager").or_else(|_| {
            let number = self.sysctl("mptcp/pm_type")?;
            Ok(if number == "1" { "userspace" } else { "kernel" }.into())
        })
    }

    /// Select a path manager by its name, or by the number that it has before Linux 6.15.
    fn manage_by(&self, name: &str, number: &str) -> Result<()> {
        if self.sysctl("mptcp/path_manager").is_ok() {
            self.set_sysctl("mptcp/path_manager", name)
        } else {
            self.set_sysctl("mptcp/pm_type", number)
        }
    }

    /// Names of the interfaces by their numbers.
    pub fn interfaces(&self) -> Result<BTreeMap<u32, String>> {
        let text = tool("ip", &["-n", &self.name, "-json", "link"], "")?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&text)?;
        let link = |link: &serde_json::Value| {
            let number = link["ifindex"].as_u64()?.try_into().ok()?;
            Some((number, link["ifname"].as_str()?.to_string()))
        };
        Ok(links.iter().filter_map(link).collect())
    }

    /// Bytes that an interface has sent.
    pub fn sent(&self, interface: &str) -> Result<u64> {
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let line = text.lines().find_map(|line| {
            let (name, counters) = line.split_once(':')?;
            (name.trim() == interface).then_some(counters)
        });
        let line = line.with_context(|| format!("no interface {interface}"))?;
        let sent = line.split_whitespace().nth(8).context("no counter")?;
        Ok(sent.parse()?)
    }

    /// Read a counter of Multipath TCP, named as `nstat` does without `MPTcpExt`.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/netstat"))?;
        let mut rows = text.lines().filter(|line| line.starts_with("MPTcpExt:"));
        let (names, values) = rows
            .next()
            .zip(rows.next())
            .context("netstat without MPTcpExt")?;
        let mut pairs = names.split(' ').zip(values.split(' '));
        let (_, value) = pairs
            .find(|(known, _)| *known == name)
            .with_context(|| format!("no counter {name}"))?;
        Ok(value.parse()?)
    }
}

fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}

impl Drop for Netns {
    fn drop(&mut self) {
        // As `ip netns delete` does it. Not reported: it may be gone on purpose.
        let path = path(&self.name);
        let _ = unmount(&path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&path);
    }
}

/// Run a program that must succeed, with `input` as its stdin; return its stdout.
pub fn tool<S: AsRef<OsStr>>(program: &str, args: &[S], input: &str) -> Result<String> {
    let line = || {
        let args: Vec<_> = args
            .iter()
            .map(|arg| arg.as_ref().to_string_lossy())
            .collect();
        format!("{program} {}", args.join(" "))
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    // The input is far smaller than a pipe: this does not block.
    let written = child
        .stdin
        .take()
        .expect("stdin is piped")
        .write_all(input.as_bytes());
    let output = child.wait_with_output().with_context(line)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{}: {}\n{}\n{input}",
            line(),
            output.status,
            stderr.trim_end()
        );
    }
    written.with_context(line)?;
    String::from_utf8(output.stdout).with_context(line)
}
