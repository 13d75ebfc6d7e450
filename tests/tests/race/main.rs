// SPDX-License-Identifier: GPL-2.0
//! What must not break when things happen at the same time.
//!
//! Each test is a race that goes on for some seconds of real time, on two CPUs; how it
//! runs is another each time. After it there must be no splat and no leak, everything
//! that was attached must be released, and no connection broken that nobody closed.

mod closing;
mod daemons;
mod module;
mod namespaces;
mod overrun;
mod race;
mod reuse;
mod storm;

use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use smapp::SubflowCreate;
use smapp_tests::{Connection, Family, Path};
use socket2::SockRef;

/// A subflow from the client's second address to where the initial one leads.
fn over_second_path(connection: &Connection) -> Result<SubflowCreate> {
    Ok(SubflowCreate::to(connection.server_address()?)
        .local_address(Path::Second.client(Family::V4)))
}

/// Close an end so that the peer gets an MP_FASTCLOSE.
fn abort(end: TcpStream) -> Result<()> {
    Ok(SockRef::from(&end).set_linger(Some(Duration::ZERO))?)
}
