// SPDX-License-Identifier: GPL-2.0
//! A shell on the client of the two-path topology, with everything loaded.
#![forbid(unsafe_code)]

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::process::Signal;
use smapp_tests::{Shape, Topology, web};

const WELCOME: &str = "
  eth0 10.0.1.2 ---- path 1 ----.
       fd00:1::2                 \\
  client                        router ---- server  10.0.3.2
       fd00:2::2                 /                  fd00:3::2
  eth1 10.0.2.2 ---- path 2 ----'         each path: 20 Mbit/s, 1 ms each way

You are root on the client; `router COMMAND` and `server COMMAND` run a command there.
New connections of client and server use the path manager smapp. Things to try:

  smapp status
  smapp monitor &
  smapp run fullmesh &
  mptcpize run curl -o /dev/null http://10.0.3.2/file &     20 MB, lighttpd is there
  smapp connection list
  cut 1, mend 1                                 let the packets of path 1 vanish, or not
  server tcpdump -ni eth0 &
";

/// What the shell knows beside its own words. `cut` is what `Topology::break_path`
/// does, for IPv4.
const PROFILE: &str = r#"
PS1='client# '
router() { ip netns exec router "$@"; }
server() { ip netns exec server "$@"; }
rules() {
	ip -n router rule $1 from 10.0.$2.2 iif c$(($2 - 1)) table 11
	ip -n router rule $1 to 10.0.$2.2 iif s0 table 11
}
cut() { rules add "$1"; }
mend() { rules delete "$1"; }
"#;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("shell") => match shell() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("topology: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: topology shell");
            ExitCode::from(2)
        }
    }
}

fn shell() -> Result<()> {
    let topology = Topology::with_plain_names([Shape::default(); 2])?;
    for host in [&topology.client, &topology.server] {
        host.manage_by_smapp()?;
    }
    let mut web = web::serve(&topology.server, 20_000_000)?;
    let profile = "/tmp/profile";
    fs::write(profile, PROFILE).with_context(|| format!("cannot write {profile}"))?;
    println!("{WELCOME}");
    let run = || Command::new("dash").arg("-i").env("ENV", profile).status();
    topology.client.enter(run).context("cannot run dash")?;
    web.signal(Signal::TERM)?;
    web.wait()?;
    Ok(())
}
