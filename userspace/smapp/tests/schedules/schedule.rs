// SPDX-License-Identifier: GPL-2.0
//! Schedules: what can happen, and a world in which it does and then calms down.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use smapp::sim::{Outcome, Sim};
use smapp::{Address, AddressId, Connection, Errno, Token};

use crate::world::{self, ip, local, seconds};

/// The client's addresses: three of IPv4, two of IPv6.
pub const LOCALS: [&str; 5] = ["10.0.1.1", "10.0.2.1", "10.0.4.1", "fd00:1::1", "fd00:2::1"];
pub const CONNECTIONS: u32 = 8;
/// The schedule is over, nothing is broken any more.
const CALM: f64 = 60.0;
/// The applications write for the last time, and some time later all promises are kept.
const LAST_WRITE: f64 = 380.0;
pub const KEPT: f64 = 399.0;
/// The connections are closed, and the world ends long after.
pub const CLOSED: f64 = 400.0;
const END: f64 = 2000.0;

/// What can happen.
#[derive(Clone, Debug)]
pub enum Happening {
    Open {
        token: u32,
        server_side: bool,
        v6: bool,
    },
    Close(u32),
    Write(u32, u64),
    /// The part of what is sent from an address that is lost.
    Loss(usize, f64),
    /// How fast subflows from an address are.
    Outcome(usize, Option<Outcome>),
    SubflowClosed(u32, usize, Errno),
    /// A reset with a reason of RFC 8684.
    Reset(u32, usize, u8, bool),
    /// A NAT forgets, and says so or not.
    Forget(usize, bool),
    Down(usize),
    Up(usize),
    Announce(u32, u8),
    Withdraw(u32, u8),
    /// The peer opens a subflow, to a connection that this host has accepted.
    PeerJoins(u32, u8),
    Priority(u32, usize, bool),
    LoseEvents(bool),
    /// So many events are lost out of the middle.
    LoseNext(u32),
    /// From now on a loss is told so many milliseconds late.
    Lag(u64),
}

fn errno() -> impl Strategy<Value = Errno> {
    prop::sample::select(vec![
        Errno(0),
        Errno::ECONNRESET,
        Errno::ECONNREFUSED,
        Errno::ETIMEDOUT,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::EPIPE,
    ])
}

/// Refusals that may pass; EINVAL says that the socket is of the other family.
fn refusal() -> impl Strategy<Value = Errno> {
    prop::sample::select(vec![
        Errno::ENETUNREACH,
        Errno::EADDRNOTAVAIL,
        Errno::EADDRINUSE,
        Errno::ENOSPC,
        Errno::ENOTCONN,
        Errno::ENOBUFS,
    ])
}

pub fn outcome() -> impl Strategy<Value = Option<Outcome>> {
    let after = || (0u64..3000).prop_map(Duration::from_millis);
    prop_oneof![
        Just(None),
        after().prop_map(|after| Some(Outcome::Joins(after))),
        (errno(), after()).prop_map(|(errno, after)| Some(Outcome::Fails(errno, after))),
        // It fails at once: the event is there when the command returns.
        errno().prop_map(|errno| Some(Outcome::Fails(errno, Duration::ZERO))),
        refusal().prop_map(|errno| Some(Outcome::Refused(errno))),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let (token, at) = (|| 0..CONNECTIONS, || 0..LOCALS.len());
    let yes = any::<bool>;
    prop_oneof![
        4 => (token(), prop::bool::weighted(0.2), yes())
            .prop_map(|(token, server_side, v6)| Open { token, server_side, v6 }),
        1 => token().prop_map(Close),
        4 => (token(), 1u64..1_000_000).prop_map(|(token, bytes)| Write(token, bytes)),
        3 => (at(), prop::sample::select(vec![0.0, 0.3, 1.0])).prop_map(|(a, part)| Loss(a, part)),
        2 => (at(), outcome()).prop_map(|(a, outcome)| Outcome(a, outcome)),
        2 => (token(), at(), errno()).prop_map(|(t, a, errno)| SubflowClosed(t, a, errno)),
        1 => (token(), at(), 0u8..8, yes()).prop_map(|(t, a, why, soon)| Reset(t, a, why, soon)),
        2 => (at(), yes()).prop_map(|(a, reset)| Forget(a, reset)),
        2 => at().prop_map(Down),
        2 => at().prop_map(Up),
        1 => (token(), 1u8..6).prop_map(|(t, id)| Announce(t, id)),
        1 => (token(), 1u8..6).prop_map(|(t, id)| Withdraw(t, id)),
        2 => (token(), 0u8..3).prop_map(|(t, host)| PeerJoins(t, host)),
        1 => (token(), at(), yes()).prop_map(|(t, a, backup)| Priority(t, a, backup)),
        1 => yes().prop_map(LoseEvents),
        2 => (1u32..4).prop_map(LoseNext),
        1 => (0u64..3000).prop_map(Lag),
    ]
}

/// A time before the calm.
fn when() -> impl Strategy<Value = f64> {
    (0u32..(CALM as u32 * 20)).prop_map(|step| f64::from(step) / 20.0)
}

pub fn schedule() -> impl Strategy<Value = Vec<(f64, Happening)>> {
    prop::collection::vec((when(), happening()), 1..60)
}

/// What can happen to a server: above all that its peers open subflows.
pub fn visits() -> impl Strategy<Value = Vec<(f64, Happening)>> {
    use Happening::*;
    let token = || 0..CONNECTIONS / 2;
    let visit = prop_oneof![
        2 => (token(), any::<bool>()).prop_map(|(token, v6)| Open { token, server_side: true, v6 }),
        8 => (token(), 0u8..3).prop_map(|(t, host)| PeerJoins(t, host)),
        1 => (token(), errno()).prop_map(|(t, errno)| SubflowClosed(t, 0, errno)),
        1 => any::<bool>().prop_map(LoseEvents),
        1 => (1u32..4).prop_map(LoseNext),
        1 => (0u64..3000).prop_map(Lag),
    ];
    prop::collection::vec((when(), visit), 1..80)
}

/// Where a connection begins, and where it leads.
fn ends(v6: bool) -> (IpAddr, SocketAddr) {
    let (from, to) = match v6 {
        true => ("fd00:1::1", "[fd00:3::1]:80"),
        false => ("10.0.1.1", "10.0.3.1:80"),
    };
    (ip(from), to.parse().unwrap())
}

/// The same of one that this module has opened.
pub fn ends_of(connection: &Connection) -> (IpAddr, SocketAddr) {
    ends(connection.owner.mark == Some(1))
}

pub fn open(sim: &mut Sim, token: u32, server_side: bool, v6: bool) {
    let token = Token(token);
    if sim.live().any(|c| c.token == token) {
        return;
    }
    let (from, to) = ends(v6);
    let from = SocketAddr::new(from, 33000);
    // As of a socket in the kernel, unlike any other.
    let now = smapp::Kernel::now(sim);
    let mut connection = world::connection(token, server_side);
    connection.owner.cookie = Some(now.as_nanos() as u64);
    connection.owner.mark = Some(v6.into());
    sim.created(connection, from, to);
    sim.at(now + Duration::from_millis(20), move |sim| {
        sim.established(token)
    });
}

fn announced(id: u8) -> Address {
    let address = match id % 2 {
        0 => IpAddr::from([10, 0, 5, id]),
        _ => format!("fd00:5::{id}").parse().unwrap(),
    };
    Address {
        id: AddressId(id),
        address,
        port: None,
    }
}

fn happen(sim: &mut Sim, happening: Happening) {
    use Happening::*;
    match happening {
        Open {
            token,
            server_side,
            v6,
        } => open(sim, token, server_side, v6),
        Close(token) => sim.closed(Token(token)),
        Write(token, bytes) => sim.write(Token(token), bytes),
        Loss(at, part) => sim.loss(ip(LOCALS[at]), part),
        Outcome(at, outcome) => set_path(sim, at, outcome),
        SubflowClosed(token, at, errno) => {
            sim.subflow_closed(Token(token), ip(LOCALS[at]), errno);
        }
        Reset(token, at, reason, transient) => {
            sim.subflow_reset(Token(token), ip(LOCALS[at]), reason, transient);
        }
        Forget(at, true) => sim.forget(ip(LOCALS[at])),
        Forget(at, false) => sim.forget_silently(ip(LOCALS[at])),
        Down(at) => sim.address_down(local(LOCALS[at])),
        Up(at) => {
            let address = local(LOCALS[at]);
            if !sim.has_address(address) {
                sim.address_up(address);
            }
        }
        Announce(token, id) => sim.address_announced(Token(token), announced(id)),
        Withdraw(token, id) => {
            let ids = [AddressId(id)].into_iter().collect();
            sim.addresses_withdrawn(Token(token), ids);
        }
        PeerJoins(token, host) => {
            let accepted = sim.live().any(|c| c.token == Token(token) && c.server_side);
            if accepted {
                let to = SocketAddr::new(ip(LOCALS[0]), 80);
                let from = SocketAddr::new([10, 0, 6, host].into(), 40000);
                sim.peer_joins(Token(token), to, from);
            }
        }
        Priority(token, at, backup) => {
            sim.subflow_priority(Token(token), ip(LOCALS[at]), backup);
        }
        LoseEvents(losing) => sim.lose_events(losing),
        LoseNext(count) => sim.lose_next(count),
        Lag(ms) => sim.tell_losses_after(Duration::from_millis(ms)),
    }
}

/// No outcome: as paths are by themselves.
pub fn set_path(sim: &mut Sim, at: usize, outcome: Option<Outcome>) {
    let plain = Outcome::Joins(Duration::from_millis(10));
    sim.path(ip(LOCALS[at]), outcome.unwrap_or(plain));
}

/// The world of a schedule.
pub fn build(schedule: &[(f64, Happening)]) -> Sim {
    let mut sim = Sim::new(seconds(END));
    LOCALS.iter().for_each(|text| sim.address_up(local(text)));
    // A token is random: it does not come again.
    let mut used = BTreeSet::new();
    let mut schedule = schedule.to_vec();
    schedule.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (time, happening) in schedule {
        if let Happening::Open { token, .. } = happening {
            if !used.insert(token) {
                continue;
            }
        }
        sim.at(seconds(time), move |sim| happen(sim, happening));
    }
    sim.at(seconds(CALM), |sim| {
        sim.lose_next(0);
        sim.lose_events(false);
        for (at, text) in LOCALS.iter().enumerate() {
            sim.loss(ip(text), 0.0);
            set_path(sim, at, None);
            happen(sim, Happening::Up(at));
        }
        // What waits for a change of addresses has it.
        happen(sim, Happening::Down(2));
        happen(sim, Happening::Up(2));
    });
    // Data flow again, so that what does not work shows.
    for second in CALM as u32..LAST_WRITE as u32 {
        sim.at(seconds(second.into()), |sim| {
            (0..CONNECTIONS).for_each(|token| sim.write(Token(token), 1000));
        });
    }
    sim.at(seconds(CLOSED), |sim| {
        (0..CONNECTIONS).for_each(|token| sim.closed(Token(token)));
    });
    sim
}
