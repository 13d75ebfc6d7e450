#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: netlink-packet-sock-diag asks for the sockets of any protocol that the kernel's sock_diag
#   knows, and reads the answers.
# In truth: it can do neither for MPTCP. `protocol` is a u8, 262 does not fit, and a request has no attributes,
#   so that INET_DIAG_REQ_PROTOCOL cannot be given either. With the feature rich_nlas the kernel's answer to
#   such a request (made by hand here) is an error as a whole: INET_DIAG_INFO is taken for struct tcp_info,
#   but of an MPTCP socket it is struct mptcp_info.
# Version: netlink-packet-sock-diag 0.5.0, Linux 6.18.44.
# Source: src/inet/request.rs, InetRequest; src/inet/nlas.rs, TcpInfo::parse(). The kernel reads the attribute in
#   net/ipv4/inet_diag.c, inet_diag_get_protocol().
# Seen:
#   TCP: protocol of 1 byte, 56 bytes emitted; answer: read true
#   MPTCP: protocol of 1 byte, 56 bytes emitted; answer: invalid INET_DIAG_INFO value
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
netlink-packet-core = "0.9"
netlink-packet-sock-diag = { version = "=0.5.0", features = ["rich_nlas"] }
socket2 = { version = "=0.6.5", features = ["all"] }
TOML
cat >src/main.rs <<'RUST'
use netlink_packet_core::{Emitable, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagMessage, AF_INET};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{error::Error, io::Read, net::SocketAddrV4};

fn connect(protocol: Protocol) -> Result<[Socket; 2], Box<dyn Error>> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
    listener.bind(&SockAddr::from("127.0.0.1:0".parse::<SocketAddrV4>()?))?;
    listener.listen(1)?;
    let client = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
    client.connect(&listener.local_addr()?)?;
    Ok([client, listener])
}
/// Reads the first answer to the crate's request, behind which an attribute is put.
fn ask(protocol: u8, attribute: &[u8]) -> Result<String, Box<dyn Error>> {
    let (family, extensions, states) = (AF_INET, ExtensionFlags::INFO, StateFlags::ESTABLISHED);
    let request = InetRequest { family, protocol, extensions, states, socket_id: SocketId::new_v4() };
    let length = 16 + request.buffer_len() + attribute.len();
    // nlmsghdr: SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP
    let header = [&(length as u32).to_ne_bytes()[..], &20u16.to_ne_bytes(), &0x301u16.to_ne_bytes(), &[0; 8]].concat();
    let mut body = vec![0; request.buffer_len()];
    request.emit(&mut body);
    let diag = Socket::new(Domain::from(16), Type::DGRAM, Some(Protocol::from(4)))?; // NETLINK_SOCK_DIAG
    diag.send(&[&header, &body, attribute].concat())?;
    let mut answer = vec![0; 65536];
    let length = (&diag).read(&mut answer)?;
    let read = match NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..length]) {
        Ok(message) => format!("read {}", matches!(message.payload, NetlinkPayload::InnerMessage(_))),
        Err(error) if error.to_string().contains("invalid INET_DIAG_INFO value") => "invalid INET_DIAG_INFO value".into(),
        Err(error) => error.to_string(),
    };
    Ok(format!("protocol of {} byte, {} bytes emitted; answer: {read}", size_of_val(&request.protocol), body.len()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let _ends = [connect(Protocol::TCP)?, connect(Protocol::MPTCP)?];
    let protocol = [&[8, 0, 3, 0][..], &262u32.to_ne_bytes()].concat(); // INET_DIAG_REQ_PROTOCOL
    println!("TCP: {}", ask(6, &[])?);
    println!("MPTCP: {}", ask(0, &protocol)?);
    Ok(())
}
RUST
cargo build --quiet --target-dir target 2>log || { cat log >&2; cannot 'netlink-packet-sock-diag 0.5.0 does not build here'; }
echo "netlink-packet-sock-diag 0.5.0, kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n sh -c 'ip link set lo up && exec target/debug/finding')
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
