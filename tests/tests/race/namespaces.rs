// SPDX-License-Identifier: GPL-2.0
//! Network namespaces that end with everything in them.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::{scope, spawn};

use anyhow::{Context, Result};
use smapp::SubflowCreate;
use smapp_tests::traffic::{connect, listen};
use smapp_tests::{Netns, PathManager, Process};
use socket2::Protocol;

use super::race::{Race, Random, hurry};

/// A client with two addresses, a server with one, gone soon.
fn pair(number: u32) -> Result<[Netns; 2]> {
    let [a, b] = Netns::add([&format!("a{number}"), &format!("b{number}")])?;
    let name = b.name();
    a.ip(&format!(
        "link set lo up\n\
         link add eth0 type veth peer name eth0 netns {name}\n\
         link add eth1 type veth peer name eth1 netns {name}\n\
         link set eth0 up\nlink set eth1 up\n\
         address add 10.0.1.2/24 dev eth0\naddress add 10.0.2.2/24 dev eth1\n"
    ))?;
    b.ip("link set lo up\nlink set eth0 up\nlink set eth1 up\n\
         address add 10.0.1.1/24 dev eth0\naddress add 10.0.2.1/24 dev eth1\n")?;
    for host in [&a, &b] {
        hurry(host)?;
        host.manage_by_smapp()?;
    }
    Ok([a, b])
}

#[test]
fn namespaces_end_with_connections_and_daemons_in_them() -> Result<()> {
    const CONNECTIONS: usize = 6;
    let race = Race::start()?;
    let mut random = Random::new(2);
    let mut ended = 0;
    for number in 0.. {
        if !race.goes_on() {
            break;
        }
        let [a, b] = pair(number)?;
        let listener = listen(&b, [10, 0, 1, 1].into(), Protocol::MPTCP)?;
        let to = listener.local_addr()?;
        let daemons = [
            Process::start(&a, "smapp", &["run", "fullmesh"])?,
            Process::start(&b, "smapp", &["monitor"])?,
        ];
        let mut manager = PathManager::of(&a)?;
        let mut ends: Vec<TcpStream> = Vec::new();
        for _ in 0..CONNECTIONS {
            ends.push(connect(&a, to, b"!")?);
            ends.push(listener.accept().context("cannot accept")?.0);
        }
        // Handshakes that are under way at the end.
        for connection in manager.connections()? {
            let remote: SocketAddr = (IpAddr::from([10, 0, 2, 1]), to.port()).into();
            let _ = manager.create(connection.token, SubflowCreate::to(remote));
        }
        drop(manager);
        let links = spawn({
            let order = random.below(3);
            move || match order {
                // The names first, then what keeps the namespaces alive, or with it.
                0 => drop((a, b)),
                1 => drop((b, a)),
                _ => {
                    let _ = a.ip("link delete eth0\n");
                    let _ = b.ip("link delete eth1\n");
                }
            }
        });
        random.nap(3_000);
        scope(|scope| {
            scope.spawn(|| drop(daemons));
            scope.spawn(|| drop(ends));
        });
        drop(listener);
        links.join().expect("no panic");
        ended += CONNECTIONS;
        race.cycle();
    }
    println!("{ended} connections ended with their namespaces");
    race.end("pairs of namespaces deleted")
}
