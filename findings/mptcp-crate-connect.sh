#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: `TcpStream::connect_mptcp` of the crate mptcp, for tokio, fails at a closed port like tokio's
#   own connect and like the same function for std.
# In truth: it gives Ok and a stream that is not connected. It waits until the socket is writable, which one
#   with an error is too, and never asks for the error. The first read or write meets ECONNREFUSED, or
#   `take_error()` if one asks at once; nothing has been tried over TCP instead, nor the next address.
# Version: mptcp 0.1.5, tokio 1.54.1, Linux 6.18.44.
# Source: src/tokio.rs, connect_mptcp_opt(), after poll_write_ready() there is no take_error().
# Seen:
#   tokio TcpStream::connect: ConnectionRefused
#   std connect_mptcp_force: ConnectionRefused
#   tokio connect_mptcp_force: Ok
#   its peer_addr: NotConnected
#   its take_error: Some(ConnectionRefused)
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
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
mptcp = { version = "=0.1.5", features = ["tokio"] }
tokio = { version = "=1.54.1", features = ["rt", "net", "time"] }
TOML
cat >src/main.rs <<'RUST'
use mptcp::{tokio::MptcpStreamExt as _, MptcpStreamExt as _};
use std::io;

fn say<T>(who: &str, result: io::Result<T>) {
    println!("{who}: {}", result.map_or_else(|error| format!("{:?}", error.kind()), |_| "Ok".into()));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let closed = "127.0.0.1:8000";
        say("tokio TcpStream::connect", tokio::net::TcpStream::connect(closed).await);
        say("std connect_mptcp_force", std::net::TcpStream::connect_mptcp_force(closed));
        let stream = tokio::net::TcpStream::connect_mptcp_force(closed).await;
        let stream = match stream {
            Ok(stream) => stream,
            refused => return say("tokio connect_mptcp_force", refused),
        };
        println!("tokio connect_mptcp_force: Ok");
        say("its peer_addr", stream.peer_addr());
        println!("its take_error: {:?}", stream.take_error().unwrap().map(|e| e.kind()));
    });
}
RUST
cargo build --quiet --target-dir target 2>log || { cat log >&2; cannot 'mptcp 0.1.5 does not build here'; }
echo "mptcp 0.1.5, kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n sh -c 'ip link set lo up && exec target/debug/finding')
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
