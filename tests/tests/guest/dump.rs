// SPDX-License-Identifier: GPL-2.0
//! Listings of very many connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use rustix::fs::OFlags;
use rustix::net::connect_unspec;
use smapp::wire::uapi::{cmd, connection};
use smapp::wire::{self, DONE, DUMP, ERROR, Messages, Request};
use smapp::{EventKind, EventSet, Token};
use smapp_tests::traffic::{Crowd, allow_files, connect, listen};
use smapp_tests::{Netns, PathManager};
use socket2::Protocol;

#[test]
fn ten_thousand_connections_are_listed_once_each() -> Result<()> {
    const COUNT: usize = 10_000;
    let host = Netns::loopback("many")?;
    host.manage_by_smapp()?;
    let mut manager = PathManager::with_events(&host, EventSet::of(&[EventKind::Created]))?;
    let mut crowd = Crowd::new(&host, Ipv4Addr::LOCALHOST)?;
    let mut created = BTreeSet::new();
    // Both ends of a connection are in the one namespace: two for one.
    while created.len() < COUNT {
        crowd.grow(1)?;
        for _ in 0..2 {
            created.insert(manager.created()?);
        }
    }
    let listed = manager.connections()?;
    assert_eq!(listed.len(), COUNT);
    let tokens: BTreeSet<_> = listed.iter().map(|connection| connection.token).collect();
    assert_eq!(tokens, created);
    for connection in listed {
        let [subflow] = connection.subflows[..] else {
            anyhow::bail!("{connection:?}");
        };
        subflow.tcp_info.context("conn-get without tcp_info")?;
    }
    Ok(())
}

/// The kernel makes pages of this size for who reads that much. Small: there are many ends of pages.
const PAGE: usize = 8192;

/// A listing that waits before each of its pages.
struct Pages {
    socket: NlSocket,
    family: u16,
}

impl Pages {
    fn begin(host: &Netns) -> Result<Self> {
        let mut buffer = Vec::new();
        let family = host.enter(|| -> Result<_> {
            let mut socket = wire::Socket::open(NlFamily::Generic)?;
            Ok(wire::Family::resolve(&mut socket, &mut buffer)?.id)
        })?;
        let socket = host.enter(|| NlSocket::connect(NlFamily::Generic, None, Groups::empty()))?;
        // Room for one page: the kernel makes the next when this one is taken.
        socket.set_recv_buffer_size(1)?;
        buffer.clear();
        let request = Request::generic(&mut buffer, family, DUMP, 1, cmd::CONN_GET, 1).finish();
        socket.send(request, Msg::empty())?;
        Ok(Pages { socket, family })
    }

    /// The tokens on the page that is ready, which stays so; none if it is the last.
    fn look(&self) -> Result<Vec<Token>> {
        let mut buffer = [0; PAGE];
        let (length, _) = self.socket.recv(&mut buffer, Msg::PEEK)?;
        let mut tokens = Vec::new();
        for message in Messages::new(&buffer[..length]) {
            let message = message?;
            ensure!(message.kind != ERROR, "the listing failed");
            if message.kind == DONE {
                continue;
            }
            assert_eq!(message.kind, self.family);
            for attribute in message.generic()?.1 {
                let attribute = attribute?;
                if attribute.kind == connection::TOKEN {
                    tokens.push(Token(attribute.u32()?));
                }
            }
        }
        Ok(tokens)
    }

    /// Take the page, which makes the next.
    fn turn(&self) -> Result<()> {
        self.socket.recv(&mut [0; PAGE], Msg::empty())?;
        Ok(())
    }
}

/// In how many slots the kernel keeps the tokens, as it says when it boots.
fn slots() -> Result<u32> {
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open("/dev/kmsg")?;
    let mut record = [0; 8192];
    loop {
        let length = log.read(&mut record).context("no word of the table")?;
        let line = String::from_utf8_lossy(&record[..length]);
        if let Some((_, rest)) = line.split_once("MPTCP token hash table entries: ") {
            let number = rest.split(' ').next().unwrap_or_default();
            return Ok(number.parse()?);
        }
    }
}

/// A connection of a host with itself, and the tokens of its two ends.
fn loop_back(
    host: &Netns,
    listener: &TcpListener,
    manager: &mut PathManager,
) -> Result<([TcpStream; 2], [Token; 2])> {
    let mut near = connect(host, listener.local_addr()?, b"!")?;
    let (far, _) = listener.accept()?;
    near.flush()?;
    Ok(([near, far], [manager.created()?, manager.created()?]))
}

/// The table has the connections of all namespaces. What another namespace closes where a page
/// ends must not hide what comes next in the same slot.
#[test]
fn what_other_namespaces_close_hides_nothing_in_a_listing() -> Result<()> {
    const COUNT: usize = 1_500;
    allow_files()?;
    let slots = slots()?;
    let slot = |token: Token| token.0 & (slots - 1);
    let mut ends = Vec::new();
    let mut listeners = Vec::new();
    let (host, other) = (Netns::loopback("listed")?, Netns::loopback("other")?);
    let created = EventSet::of(&[EventKind::Created]);
    let mut known = [BTreeSet::new(), BTreeSet::new()];
    // Those of the other namespace come later, so they are before the others in their slots.
    let mut others = BTreeMap::new();
    for (netns, tokens) in [&host, &other].into_iter().zip(&mut known) {
        netns.set_sysctl("mptcp/path_manager", "smapp")?;
        let mut manager = PathManager::with_events(netns, created)?;
        let listener = listen(netns, Ipv4Addr::LOCALHOST.into(), Protocol::MPTCP)?;
        for _ in 0..COUNT {
            let (pair, both) = loop_back(netns, &listener, &mut manager)?;
            for token in both {
                tokens.insert(token);
                if netns.name() == other.name() {
                    others.insert(slot(token), ends.len());
                }
            }
            ends.push(Some(pair));
        }
        listeners.push(listener);
    }
    let [known, _] = known;
    let pages = Pages::begin(&host)?;
    let mut listed = Vec::new();
    let mut endangered = 0;
    loop {
        let page = pages.look()?;
        let Some(&last) = page.last() else { break };
        listed.extend(page);
        if let Some(pair) = others.get(&slot(last)).and_then(|&at| ends[at].take()) {
            for end in &pair {
                connect_unspec(end)?;
            }
            let mut rest = known.iter().filter(|token| !listed.contains(token));
            endangered += usize::from(rest.any(|&token| slot(token) == slot(last)));
        }
        pages.turn()?;
    }
    ensure!(endangered > 0, "nothing was in danger");
    let missing: Vec<_> = known
        .iter()
        .filter(|token| !listed.contains(token))
        .collect();
    ensure!(
        missing.is_empty(),
        "skipped {missing:?}, {endangered} endangered"
    );
    assert_eq!(listed.len(), known.len(), "some came twice");
    Ok(())
}
