// SPDX-License-Identifier: GPL-2.0
//! A hostile peer, and a network that helps it, against each policy in the simulated
//! kernel: the bytes say what they do and when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use smapp::policy::{PolicyOptions, backup, fullmesh, limit, ndiffports, refresh, streaming};
use smapp::sim::{Outcome, Sim};
use smapp::{
    Address, AddressId, Command, Connection, Engine, Errno, IfIndex, InterfaceName, LocalAddress,
    Policy, Token,
};

/// The addresses of this host.
const LOCAL: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, 2)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 2)),
];
/// Connections at a time.
const TOKENS: usize = 4;
/// Timers of a policy for a connection.
const TIMERS: usize = 4;
/// Subflows that a connection may open at once; after that one each second.
const BURST: usize = 256;
/// Where no other host is.
const NOWHERE: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/80",
    "::ffff:127.0.0.0/104",
    "64:ff9b::127.0.0.0/104",
    "fe80::/10",
    "ff00::/8",
];
/// Steps at most: all of them are over by half of [`END`].
const STEPS: usize = 100;
/// How long it lasts.
const END: Duration = Duration::from_secs(500);

/// What the bytes say next; 0 once they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.u8()) % all.len()]
    }

    fn address(&mut self) -> IpAddr {
        match self.u8() % 2 {
            0 => self.array::<4>().into(),
            _ => self.array::<16>().into(),
        }
    }

    fn end(&mut self) -> SocketAddr {
        SocketAddr::new(self.address(), u16::from_be_bytes(self.array()))
    }

    fn errno(&mut self) -> Errno {
        Errno(self.one_of(&[0, 13, 28, 32, 101, 103, 104, 105, 107, 110, 111, 113]))
    }

    fn moment(&mut self) -> Duration {
        Duration::from_millis(u64::from(self.u8()) * 10)
    }
}

/// Plays the bytes against a policy.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let policy = match bytes.u8() % 6 {
        0 => PolicyOptions::Fullmesh(fullmesh::Options::default()),
        1 => PolicyOptions::Backup(backup::Options::default()),
        2 => PolicyOptions::Streaming(streaming::Options::default()),
        3 => PolicyOptions::Refresh(refresh::Options::default()),
        4 => PolicyOptions::Ndiffports(ndiffports::Options::default()),
        _ => PolicyOptions::Limit(limit::Options::default()),
    };
    let (sim, servers) = script(&mut bytes);
    let mut engine = Engine::new(sim, policy.policy(1));
    engine.run().expect("the simulated kernel does not fail");
    check(&engine, &servers);
}

/// Holds what the policy did against what no peer may make it do.
fn check(engine: &Engine<Sim, Box<dyn Policy>>, servers: &[IpAddr]) {
    let sim = engine.kernel();
    // A policy need not hear of those that are not established yet.
    let live = |token| sim.live().any(|c| c.token == token);
    assert!(engine.connections().all(|c| live(c.token)), "one is over");
    assert!(engine.timers() <= TIMERS * TOKENS);
    let mut opened = 0;
    for (_, command) in sim.commands() {
        if let Command::SubflowCreate(_, create) = command {
            opened += 1;
            let remote = create.remote.ip();
            assert!(is_host(remote) || servers.contains(&remote), "{create:?}");
        }
    }
    let most = servers.len() * (BURST + END.as_secs() as usize);
    assert!(opened <= most, "{opened} subflows, {most} at most");
}

/// Whether an address can be that of another host.
fn is_host(address: IpAddr) -> bool {
    let nowhere = |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(&address));
    !NOWHERE.iter().any(|net| nowhere(net)) && !LOCAL.contains(&address)
}

/// What happens, and the server of each connection.
fn script(bytes: &mut Bytes<'_>) -> (Sim, Vec<IpAddr>) {
    let mut sim = Sim::new(END);
    LOCAL.iter().for_each(|&ip| sim.address_up(local(ip)));
    let (mut time, mut servers) = (Duration::ZERO, Vec::new());
    for _ in 0..STEPS {
        if bytes.0.is_empty() {
            break;
        }
        time += bytes.moment();
        servers.extend(step(&mut sim, bytes, time));
    }
    // Or the engine could not know in the end.
    sim.at(time, |sim| sim.lose_events(false));
    (sim, servers)
}

/// One thing that happens at a time; the server of a connection that it opens.
fn step(sim: &mut Sim, bytes: &mut Bytes<'_>, time: Duration) -> Option<IpAddr> {
    let kind = bytes.u8() % 16;
    let token = Token(u32::from(bytes.u8()) % TOKENS as u32);
    let from = bytes.one_of(&LOCAL);
    let flag = bytes.u8() % 2 == 1;
    match kind {
        0 => {
            let (remote, deny_join_id0) = (bytes.end(), bytes.u8() % 4 == 3);
            let connection = {
                let mut connection = Connection::default();
                connection.token = token;
                connection.server_side = flag;
                connection.deny_join_id0 = deny_join_id0;
                connection
            };
            sim.at(time, move |sim| {
                sim.closed(token);
                sim.created(connection, SocketAddr::new(from, 33000), remote);
            });
            return Some(remote.ip());
        }
        1 => sim.at(time, move |sim| sim.established(token)),
        2 => sim.at(time, move |sim| sim.closed(token)),
        3..=5 => {
            let end = bytes.end();
            let address = Address {
                id: AddressId(bytes.u8()),
                address: end.ip(),
                port: flag.then_some(end.port()),
            };
            sim.at(time, move |sim| sim.address_announced(token, address));
        }
        6 => {
            let ids = bytes.array::<4>().into_iter().map(AddressId).collect();
            sim.at(time, move |sim| sim.addresses_withdrawn(token, ids));
        }
        7 => {
            let errno = bytes.errno();
            sim.at(time, move |sim| sim.subflow_closed(token, from, errno));
        }
        8 => {
            let reason = bytes.u8() % 8;
            sim.at(time, move |sim| {
                sim.subflow_reset(token, from, reason, flag)
            });
        }
        9 => {
            let remote = bytes.end();
            let here = SocketAddr::new(from, 80);
            sim.at(time, move |sim| sim.peer_joins(token, here, remote));
        }
        10 => sim.at(time, move |sim| sim.subflow_priority(token, from, flag)),
        11 => {
            let after = bytes.moment();
            let outcome = match bytes.u8() % 3 {
                0 => Outcome::Joins(after),
                1 => Outcome::Fails(bytes.errno(), after),
                _ => Outcome::Refused(bytes.errno()),
            };
            sim.at(time, move |sim| sim.path(from, outcome));
        }
        12 => sim.at(time, move |sim| sim.lose_events(flag)),
        13 => {
            sim.at(time, move |sim| {
                sim.address_down(local(from));
                if flag {
                    sim.address_up(local(from));
                }
            });
        }
        14 => {
            let bytes = u64::from(bytes.u8()) << 12;
            sim.at(time, move |sim| sim.write(token, bytes));
        }
        _ => {
            let part = f64::from(bytes.u8()) / 255.0;
            sim.at(time, move |sim| match flag {
                true => sim.loss(from, part),
                false => sim.forget(from),
            });
        }
    }
    None
}

fn local(address: IpAddr) -> LocalAddress {
    let number = LOCAL.iter().position(|&ip| ip == address).unwrap_or(0);
    LocalAddress {
        address,
        ifindex: IfIndex(2 + number as u32),
        interface: InterfaceName::new(["wlan0", "wwan0", "eth0"][number].as_bytes()),
        deprecated: false,
    }
}
