// SPDX-License-Identifier: GPL-2.0
//! Counts the instructions from a hook to the SYN of a second subflow, hop by hop, and from
//! each hook until its event is sent.
//!
//! Runs on the host: it has `qemu/run` run a payload with a plugin that notes how many
//! instructions the guest has executed whenever it comes to one of some functions of the
//! kernel. A connection whose functions come in the order of the hops counts; the tables have
//! the mean over all of them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const USAGE: &str = "usage: hops PLUGIN SYSTEM.MAP DIRECTORY [--functions]

DIRECTORY has the payloads that are measured, cost and latency. With --functions: in which
functions of the kernel the instructions from hook to SYN were.";

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
            ("build the message", SENT),
            ("wake the daemon, end the interrupt", SWITCHED),
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

/// The hooks that become events.
const EVENTS: [(&str, &str); 9] = [
    ("created", "mptcp_pm_new_connection"),
    ("estab", HOOK),
    ("closed", "mptcp_pm_connection_closed"),
    ("add_addr", "mptcp_pm_add_addr_received"),
    ("rem_addr", "mptcp_pm_rm_addr_received"),
    ("sub_estab", "mptcp_pm_subflow_joined"),
    ("sub_closed", "mptcp_pm_subflow_closed"),
    ("sub_priority", "mptcp_pm_mp_prio_received"),
    ("timeout", "mptcp_pm_subflow_timeout"),
];
/// Where events about local addresses come from. Others are notified before: not counted.
const NOTIFIERS: [&str; 2] = ["blocking_notifier_call_chain", "raw_notifier_call_chain"];
/// Where a message goes to its listeners, and where its sender has handed it over.
const SENT: &str = "netlink_broadcast_filtered";
const DELIVERED: &str = "sk_skb_reason_drop";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (files, functions) = match &arguments[..] {
        [plugin, map, programs] => ([plugin, map, programs], false),
        [plugin, map, programs, flag] if flag == "--functions" => ([plugin, map, programs], true),
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

fn run([plugin, map, programs]: [&String; 3], functions: bool) -> Result<()> {
    let symbols = Symbols::read(map)?;
    let measure = |payload: &str, word: &str, marks: &[&str]| {
        let directory = std::env::temp_dir().join(format!("hops-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let payload = Path::new(programs).join(payload);
        let measured = measure(
            &symbols,
            plugin,
            &[payload.as_ref(), word.as_ref()],
            marks,
            &directory,
        );
        let _ = fs::remove_dir_all(&directory);
        measured.with_context(|| word.to_owned())
    };
    for way in WAYS {
        // Only what is between the first mark and the last one counts: from hook to SYN.
        let mut marks: Vec<&str> = way.hops.iter().map(|hop| hop.1).collect();
        marks.retain(|&mark| mark != HOOK && mark != SYN);
        marks.sort();
        marks.dedup();
        marks.insert(0, HOOK);
        marks.push(SYN);
        let trace = measure("latency", way.name, &marks)?;
        let connections = print(&way, &trace)?;
        if functions {
            print_functions(&symbols, &trace, connections)?;
        }
    }
    let mut marks: Vec<&str> = EVENTS.iter().map(|event| event.1).collect();
    marks.extend(NOTIFIERS);
    marks.extend([SENT, DELIVERED]);
    print_events(&measure("cost", "life", &marks)?)
}

/// What the plugin wrote about a run of a payload.
fn measure(
    symbols: &Symbols,
    plugin: &str,
    payload: &[&OsStr],
    names: &[&str],
    directory: &Path,
) -> Result<String> {
    let [marks, out] = ["marks", "out"].map(|name| directory.join(name));
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
    // The tables alone are this program's output.
    let status = Command::new("qemu/run")
        .args(["--qemu", &words])
        .args(payload)
        .stdout(std::io::stderr())
        .status()
        .context("cannot run qemu/run")?;
    ensure!(status.success(), "qemu/run failed");
    fs::read_to_string(&out).context("the plugin wrote nothing")
}

/// The mark and the count of each line about one.
fn marks(trace: &str) -> impl Iterator<Item = Result<(&str, u64)>> {
    let lines = trace.lines().filter(|line| !line.starts_with("block "));
    lines.map(|line| {
        let (name, count) = line.split_once(' ').context("a line without a count")?;
        Ok((name, count.parse()?))
    })
}

/// The mean instructions of each hop over all connections that took the whole way.
fn print(way: &Way, trace: &str) -> Result<u64> {
    let mut sums = vec![0; way.hops.len()];
    let mut connections = 0u64;
    let mut counts: Vec<u64> = Vec::new();
    for mark in marks(trace) {
        let (name, count) = mark?;
        if name == HOOK {
            counts.clear();
        } else if counts.is_empty() || way.hops[counts.len() - 1].1 != name {
            continue;
        }
        counts.push(count);
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

/// The mean instructions from a hook until its message is made, and until its listener has it.
fn print_events(trace: &str) -> Result<()> {
    println!("\nevents: instructions until the message is made, then until a listener has it");
    let mut sums = BTreeMap::<&str, [u64; 3]>::new();
    let mut way = Vec::new();
    for mark in marks(trace) {
        let (name, count) = mark?;
        match (name, &way[..]) {
            (SENT, [_]) => way.push((name, count)),
            (DELIVERED, &[(hook, called), (_, sent)]) => {
                let [number, made, delivered] = sums.entry(hook).or_default();
                *number += 1;
                *made += sent - called;
                *delivered += count - sent;
                way.clear();
            }
            (SENT | DELIVERED, _) => (),
            (hook, _) => way = vec![(hook, count)],
        }
    }
    for (event, hook) in EVENTS {
        let sums = sums.get(hook);
        let [number, made, delivered] = sums.with_context(|| format!("no {event} was sent"))?;
        println!(
            "{:>8}{:>8}  {event} ({hook}), mean of {number}",
            made / number,
            delivered / number
        );
    }
    Ok(())
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
