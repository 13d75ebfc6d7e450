// SPDX-License-Identifier: GPL-2.0
//! An application that controls its own connection: it sends a file's worth of bytes, and
//! when the server is too far behind it opens a second subflow, on its own decision.
//!
//! `cargo run -p smapp --example own_connection 10.0.3.2:80 10.0.2.2`, with CAP_NET_ADMIN:
//! the server, and the local address of the second subflow.
#![forbid(unsafe_code)]

use std::env::args;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use smapp::{Client, Kernel, SubflowCreate, Token};
use socket2::{Domain, Protocol, Socket, Type};

const TOTAL: usize = 2_000_000;
const BLOCK: usize = 65536;
/// Bytes written and not acknowledged that make it want a second path.
const BEHIND: u64 = 200_000;

/// Sends to `server`, over a subflow from `second` too if need be.
pub fn send(server: SocketAddr, second: IpAddr) -> Result<()> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP))?;
    socket.connect(&server.into())?;
    let mut stream: TcpStream = OwnedFd::from(socket).into();
    let mut client = Client::connect()?;
    let help = "is net.mptcp.path_manager smapp, and does the server speak Multipath TCP?";
    let token = Token::of(&stream).context(help)?;
    println!("{token}: connected");
    let (mut written, mut alone) = (0, true);
    while written < TOTAL {
        stream.write_all(&[7; BLOCK])?;
        written += BLOCK;
        let info = client.connection(token)?.info.unwrap_or_default();
        let behind = (written as u64).saturating_sub(info.bytes_acked);
        if alone && behind > BEHIND {
            let create = SubflowCreate::to(server).local_address(second);
            let subflow = client.subflow_create(token, &create)?;
            println!("{token}: {behind} bytes behind, opened {}", subflow.local());
            alone = false;
        }
    }
    println!("{token}: {written} bytes sent");
    Ok(())
}

fn main() -> Result<()> {
    let usage = "usage: own_connection SERVER:PORT LOCAL-ADDRESS";
    let mut words = args().skip(1);
    let mut word = || words.next().context(usage);
    send(
        word()?.parse().context(usage)?,
        word()?.parse().context(usage)?,
    )
}
