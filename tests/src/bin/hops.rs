// SPDX-License-Identifier: GPL-2.0
//! Counts the instructions from a hook to the SYN of a second subflow, hop by hop.
//!
//! Runs on the host: it has `qemu/run` measure the latency of a path manager with a plugin
//! that notes how many instructions the guest has executed whenever it comes to one of some
//! functions of the kernel. A connection whose functions come in the order of the hops
//! counts; the table has the mean over all of them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: hops PLUGIN SYSTEM.MAP LATENCY [--functions]

LATENCY is the payload that measures. With --functions: in which functions of the kernel the
instructions were.";

/// A path manager: a word of its name for the payload, and its hops. Each ends at a function.
struct Way {
    name: &'static str,
    hops: &'static [(&'static str, &'static str)],
}

/// Where the hook is called. The server calls it too: the way begins anew then.
const HOOK: &str = "mptcp_pm_fully_established";
const SWITCHED: &str = "finish_task_switch";
const TO_USER: &str = "syscall_return_via_sysret";
const FROM_USER: &str = "entry_SYSCALL_64";
const SYN: &str = "tcp_connect";

const WAYS: [Way; 2] = [
    Way {
        name: "kernel",
        hops: &[
            ("the interrupt ends, a worker runs", "mptcp_worker"),
            ("which subflows are missing", "__mptcp_subflow_connect"),
            ("make, bind, connect a socket", SYN),
        ],
    },
    Way {
        name: "smapp-fullmesh",
        hops: &[
            ("build the message", "netlink_broadcast_filtered"),
            ("wake the controller, end the interrupt", SWITCHED),
            ("return from the wait", TO_USER),
            ("user space: before receiving", FROM_USER),
            ("receive", TO_USER),
            ("user space: decode, decide, encode", FROM_USER),
            ("send: to generic netlink", "genl_rcv_msg"),
            ("parse the command", "mptcp_token_get_sock"),
            ("find the connection", "mptcp_pm_subflow_create"),
            ("lock the connection, check", "__mptcp_subflow_connect"),
            ("make, bind, connect a socket", SYN),
        ],
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (files, functions) = match &arguments[..] {
        [plugin, map, latency] => ([plugin, map, latency], false),
        [plugin, map, latency, flag] if flag == "--functions" => ([plugin, map, latency], true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(files, functions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run([plugin, map, latency]: [&String; 3], functions: bool) -> Result<()> {
    let symbols = Symbols::read(map)?;
    for way in WAYS {
        let directory = std::env::temp_dir().join(format!("hops-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let measured = measure(&way, &symbols, plugin, latency, &directory);
        let _ = fs::remove_dir_all(&directory);
        let trace = measured.with_context(|| way.name)?;
        let connections = print(&way, &trace)?;
        if functions {
            print_functions(&symbols, &trace, connections)?;
        }
    }
    Ok(())
}

/// What the plugin wrote about a run.
fn measure(
    way: &Way,
    symbols: &Symbols,
    plugin: &str,
    latency: &str,
    directory: &Path,
) -> Result<String> {
    let [marks, out] = ["marks", "out"].map(|name| directory.join(name));
    // What is between the first mark and the last one interests: from hook to SYN.
    let mut names: Vec<&str> = way.hops.iter().map(|hop| hop.1).collect();
    names.retain(|&name| name != HOOK && name != SYN);
    names.sort();
    names.dedup();
    names.insert(0, HOOK);
    names.push(SYN);
    let lines: Result<String> = names
        .iter()
        .map(|name| Ok(format!("{:x} {name}\n", symbols.address(name)?)))
        .collect();
    fs::write(&marks, lines?)?;
    let words = format!(
        "-plugin {plugin},marks={},out={}",
        marks.display(),
        out.display()
    );
    let status = Command::new("qemu/run")
        .args(["--qemu", &words, latency, way.name])
        .status()
        .context("cannot run qemu/run")?;
    ensure!(status.success(), "qemu/run failed");
    fs::read_to_string(&out).context("the plugin wrote nothing")
}

/// The mean instructions of each hop over all connections that took the whole way.
fn print(way: &Way, trace: &str) -> Result<u64> {
    let mut sums = vec![0; way.hops.len()];
    let mut connections = 0u64;
    let mut counts: Vec<u64> = Vec::new();
    for line in trace.lines().filter(|line| !line.starts_with("block ")) {
        let (name, count) = line.split_once(' ').context("a line without a count")?;
        if name == HOOK {
            counts.clear();
        } else if counts.is_empty() || way.hops[counts.len() - 1].1 != name {
            continue;
        }
        counts.push(count.parse()?);
        if counts.len() > way.hops.len() {
            let hops = counts.windows(2).map(|pair| pair[1] - pair[0]);
            sums.iter_mut().zip(hops).for_each(|(sum, hop)| *sum += hop);
            connections += 1;
            counts.clear();
        }
    }
    if connections == 0 {
        bail!("no connection took the whole way");
    }
    println!(
        "\n{}: mean of {connections} connections, in instructions",
        way.name
    );
    for ((what, end), sum) in way.hops.iter().zip(&sums) {
        println!("{:>8}  {what} ({end})", sum / connections);
    }
    let total: u64 = sums.iter().sum();
    println!("{:>8}  from hook to SYN\n", total / connections);
    Ok(connections)
}

/// The functions in which most instructions were, between hook and SYN.
fn print_functions(symbols: &Symbols, trace: &str, connections: u64) -> Result<()> {
    const SHOWN: usize = 60;
    let mut functions: BTreeMap<&str, u64> = BTreeMap::new();
    for line in trace.lines().filter_map(|line| line.strip_prefix("block ")) {
        let (address, count) = line.split_once(' ').context("a block without a count")?;
        let address = u64::from_str_radix(address, 16)?;
        *functions.entry(symbols.function(address)).or_default() += count.parse::<u64>()?;
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    for (name, count) in functions.iter().take(SHOWN) {
        println!("{:>8}  {name}", count / connections);
    }
    Ok(())
}

/// The functions of the kernel by their addresses.
struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    fn read(map: &str) -> Result<Self> {
        let text = fs::read_to_string(map).with_context(|| format!("cannot read {map}"))?;
        let symbols = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?;
            matches!(kind, "t" | "T" | "W" | "w").then_some((address, words.next()?.to_owned()))
        });
        Ok(Self(symbols.collect()))
    }

    fn address(&self, name: &str) -> Result<u64> {
        let mut symbols = self.0.iter();
        // The compiler may have added to it.
        let found = symbols
            .find(|(_, known)| known.split('.').next() == Some(name) && !known.ends_with(".cold"));
        let (&address, _) = found.with_context(|| format!("the kernel has no {name}"))?;
        Ok(address)
    }

    fn function(&self, address: u64) -> &str {
        const MODULES: u64 = 0xffff_ffff_a000_0000;
        match self.0.range(..=address).next_back() {
            _ if address < 1 << 47 => "(user space)",
            _ if address >= MODULES => "(smapp_pm)",
            Some((_, name)) => name,
            None => "(unknown)",
        }
    }
}
