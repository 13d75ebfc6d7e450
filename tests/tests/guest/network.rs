// SPDX-License-Identifier: GPL-2.0
//! The network of the tests itself: it is what the others take it for. Needs nothing but a
//! kernel with Multipath TCP, whose own path manager it uses.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use smapp_tests::segment::Request;
use smapp_tests::traffic::{self, listen};
use smapp_tests::{
    Capture, Connection, DEADLINE, Family, Fault, Path, Shape, Topology, topology, wait_for,
};
use socket2::Protocol;

/// A topology that is left to the kernel, and a listener for plain TCP on its server.
fn plain(family: Family) -> Result<(Topology, SocketAddr, std::net::TcpListener)> {
    let topology = Topology::with_shapes([Shape::default(); 2])?;
    let listener = listen(&topology.server, topology::server(family), Protocol::TCP)?;
    let to = listener.local_addr()?;
    Ok((topology, to, listener))
}

/// Connect by TCP, over a path.
fn connect_over(topology: &Topology, path: Path, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    topology.client.enter(|| {
        let socket = traffic::socket(family, Protocol::TCP).map_err(std::io::Error::other)?;
        socket.bind(&SocketAddr::new(path.client(family), 0).into())?;
        socket.connect_timeout(&to.into(), DEADLINE / 4)?;
        Ok(socket.into())
    })
}

#[test]
fn each_address_of_the_client_uses_its_own_path() -> Result<()> {
    for family in Family::BOTH {
        let (topology, to, _listener) = plain(family)?;
        for (path, other) in [(Path::First, Path::Second), (Path::Second, Path::First)] {
            topology.break_path(other, Fault::Blackhole)?;
            connect_over(&topology, path, to).with_context(|| format!("{path} {family:?}"))?;
            topology.repair_path(other, Fault::Blackhole)?;
        }
    }
    Ok(())
}

#[test]
fn each_fault_breaks_its_path_in_its_way_until_it_is_repaired() -> Result<()> {
    for family in Family::BOTH {
        let (topology, to, _listener) = plain(family)?;
        let unreachable = match family {
            Family::V4 => ErrorKind::HostUnreachable,
            Family::V6 => ErrorKind::NetworkUnreachable,
        };
        for (fault, kind) in [
            (Fault::Blackhole, ErrorKind::TimedOut),
            (Fault::Unreachable, unreachable),
            (Fault::Reset, ErrorKind::ConnectionRefused),
        ] {
            topology.break_path(Path::Second, fault)?;
            let refused = connect_over(&topology, Path::Second, to);
            let error = refused
                .err()
                .with_context(|| format!("{fault:?} breaks nothing"))?;
            ensure!(error.kind() == kind, "{fault:?}, {family:?}: {error:?}");
            connect_over(&topology, Path::First, to).context("the other path")?;
            topology.repair_path(Path::Second, fault)?;
            connect_over(&topology, Path::Second, to).with_context(|| format!("no {fault:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn without_its_options_a_connection_is_plain_tcp() -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::with_shapes([Shape::default(); 2])?;
        topology.break_path(Path::First, Fault::Strip)?;
        Connection::establish(&topology, family)?;
        let fallbacks = topology.client.counter("MPCapableFallbackSYNACK")?;
        ensure!(fallbacks == 1, "{family:?}: {fallbacks} fallbacks");
    }
    Ok(())
}

#[test]
fn the_kernels_own_path_manager_uses_both_paths_and_a_capture_sees_it() -> Result<()> {
    let topology = Topology::with_shapes([Shape::default(); 2])?;
    let second = Path::Second.client(Family::V4);
    topology.server.ip("mptcp limits set subflows 2\n")?;
    topology.client.ip(&format!(
        "mptcp limits set subflows 2\nmptcp endpoint add {second} dev eth1 subflow\n"
    ))?;
    let capture = Capture::start(&topology.client)?;
    let mut connection = Connection::establish(&topology, Family::V4)?;
    wait_for("a second subflow", DEADLINE, || {
        let joins = topology.client.counter("MPJoinSynAckRx")?;
        ensure!(joins == 1, "{joins} joins");
        Ok(())
    })?;
    let before = [Path::First, Path::Second].map(|path| topology.client.sent(path.interface()));
    connection.transfer(2_000_000)?;
    for (path, before) in [Path::First, Path::Second].into_iter().zip(before) {
        let sent = topology.client.sent(path.interface())? - before?;
        ensure!(sent > 100_000, "only {sent} bytes over {path}");
    }
    let syns = capture.stop()?;
    let requests: Vec<_> = syns
        .iter()
        .filter_map(|s| Some((s.from.ip(), s.request?)))
        .collect();
    match &requests[..] {
        [(one, Request::Capable), (other, Request::Join { .. })] => {
            ensure!(*one == Path::First.client(Family::V4) && *other == second);
            Ok(())
        }
        other => anyhow::bail!("{other:?}"),
    }
}
