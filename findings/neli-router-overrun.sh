#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: the receiver of multicast messages that NlRouter::connect() returns is told when the kernel
#   had to drop some (ENOBUFS), to read the state anew; the documentation of neli::router says that errors of
#   reception are broadcast to all receivers.
# In truth: only receivers of requests in flight are told. The one for multicast has a channel of its own that
#   carries messages alone and goes on behind the hole. NlSocketHandle, in the same program, says ENOBUFS.
# Version: neli 0.7.5, Linux 6.18.44.
# Source: src/router/synchronous.rs, error_handling() sends to `senders`, never to `multicast_sender`; the
#   asynchronous router is written alike.
# Seen (600 messages sent):
#   NlSocketHandle: messages missing true, ENOBUFS told true
#   NlRouter: messages missing true, ENOBUFS told false
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
for tool in ip cargo; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
neli = "=0.7.5"
TOML
cat >src/main.rs <<'RUST'
use neli::{consts::socket::NlFamily, nl::Nlmsghdr, types::Buffer, utils::Groups};
use neli::{router::synchronous::NlRouter, socket::synchronous::NlSocketHandle};
use std::{collections::VecDeque, process::Command};

const SENT: usize = 600;

/// Messages until the interface has its alias, and whether ENOBUFS was among them.
fn read(who: &str, mut next: impl FnMut() -> Option<Result<Nlmsghdr<u16, Buffer>, String>>) {
    let (mut messages, mut told) = (0, false);
    while let Some(item) = next() {
        match item {
            Ok(message) if message.get_payload().is_some_and(|p| p.as_ref().windows(8).any(|w| w == b"the-last")) => break,
            Ok(_) => messages += 1,
            Err(error) => told |= error.contains("105"),
        }
    }
    println!("{who}: messages missing {}, ENOBUFS told {told}", messages < SENT);
}

fn sh(line: &str) {
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success());
}

fn main() {
    sh("ip link set lo up"); // or a new alias is not told
    let links = || Groups::new_groups(&[1]);
    let socket = NlSocketHandle::connect(NlFamily::Route, None, links()).unwrap();
    let (_router, mut receiver) = NlRouter::connect(NlFamily::Route, None, links()).unwrap();
    // Nobody here reads while this program is stopped. What comes after it, comes until it was read.
    sh("kill -STOP $PPID; ip -batch changes; kill -CONT $PPID");
    std::thread::spawn(|| loop {
        sh("ip link set lo alias the-last-$(date +%s%N); sleep 0.2");
    });

    let mut queue = VecDeque::new();
    read("NlSocketHandle", || {
        while queue.is_empty() {
            match socket.recv::<u16, Buffer>() {
                Ok((messages, _)) => queue.extend(messages),
                Err(error) => return Some(Err(format!("{error:?}"))),
            }
        }
        queue.pop_front().map(|message| message.map_err(|error| format!("{error:?}")))
    });
    read("NlRouter", || receiver.next_typed::<u16, Buffer>().map(|m| m.map_err(|error| format!("{error:?}"))));
}
RUST
cargo build --quiet --target-dir target 2>log || { cat log >&2; cannot 'neli 0.7.5 does not build here'; }
echo "neli 0.7.5, kernel $(uname -r)"
for ((change = 1; change <= 600; change++)); do echo "link set lo txqueuelen $change"; done >changes

# The namespace has no name and ends with the program in it.
now=$(timeout 120 unshare -n target/debug/finding) || cannot 'the program did not end well in two minutes'
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
