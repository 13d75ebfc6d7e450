// SPDX-License-Identifier: GPL-2.0
//! Requests that are no requests: each is refused with an errno, and the kernel
//! says which attribute is wrong or missing.

use std::net::IpAddr;

use anyhow::Result;
use smapp::Errno;
use smapp::wire::Request;
use smapp::wire::uapi::{address, cmd, connection, subflow};
use smapp_tests::{Family, PathManager, Topology};

use super::connect;

const EINVAL: Errno = Errno::EINVAL;
const ERANGE: Errno = Errno(34);
const EAFNOSUPPORT: Errno = Errno(97);
/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
/// What the module itself does not look at is refused by the kernel's netlink, in its own words.
const CORE: &str = "";

/// A request: its command, what is in it beside the token, why it is refused, the
/// attribute at fault and how the words name it.
type Row = (u8, Fill, Errno, u16, &'static str);
type Fill = for<'a> fn(Request<'a>) -> Request<'a>;

/// A row for a request about a subflow.
macro_rules! subflow {
    ($cmd:ident, $fill:expr, $errno:expr, $attribute:ident, $word:expr) => {
        (
            cmd::$cmd,
            |r| r.nest(connection::SUBFLOW, $fill),
            $errno,
            subflow::$attribute,
            $word,
        )
    };
}

/// A row for a request about an address.
macro_rules! address {
    ($cmd:ident, $fill:expr, $errno:expr, $attribute:ident, $word:expr) => {
        (
            cmd::$cmd,
            |r| r.nest(connection::ADDRESS, $fill),
            $errno,
            address::$attribute,
            $word,
        )
    };
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The remote end of a good subflow-create.
fn remote(r: Request<'_>) -> Request<'_> {
    r.address(subflow::REMOTE_ADDRESS, ip("10.0.3.2"))
        .port(subflow::REMOTE_PORT, 80)
}

const ROWS: &[Row] = &[
    // Missing.
    (
        cmd::SUBFLOW_CREATE,
        |r| r,
        EINVAL,
        connection::SUBFLOW,
        "subflow",
    ),
    (
        cmd::SUBFLOW_DESTROY,
        |r| r,
        EINVAL,
        connection::SUBFLOW,
        "subflow",
    ),
    (
        cmd::SUBFLOW_SET,
        |r| r,
        EINVAL,
        connection::SUBFLOW,
        "subflow",
    ),
    (cmd::ANNOUNCE, |r| r, EINVAL, connection::ADDRESS, "address"),
    (cmd::WITHDRAW, |r| r, EINVAL, connection::ADDRESS, "address"),
    subflow!(
        SUBFLOW_CREATE,
        |r| r,
        EINVAL,
        REMOTE_ADDRESS,
        "remote-address"
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| r.address(subflow::REMOTE_ADDRESS, ip("10.0.3.2")),
        EINVAL,
        REMOTE_PORT,
        "remote-port"
    ),
    subflow!(SUBFLOW_DESTROY, |r| r, EINVAL, LOCAL_ADDRESS, "id"),
    subflow!(SUBFLOW_DESTROY, remote, EINVAL, LOCAL_ADDRESS, "addresses"),
    subflow!(
        SUBFLOW_DESTROY,
        |r| remote(r).address(subflow::LOCAL_ADDRESS, ip("10.0.1.2")),
        EINVAL,
        LOCAL_PORT,
        "ports"
    ),
    subflow!(
        SUBFLOW_SET,
        |r| r.flag(subflow::BACKUP, true),
        EINVAL,
        ID,
        "id"
    ),
    address!(ANNOUNCE, |r| r, EINVAL, ADDRESS, "address"),
    address!(
        WITHDRAW,
        |r| r.attribute(address::ID, &[1]),
        EINVAL,
        ADDRESS,
        "address"
    ),
    address!(
        WITHDRAW,
        |r| r.address(address::ADDRESS, ip("10.0.2.2")),
        EINVAL,
        ID,
        "id"
    ),
    // Too short, too long, of a length between.
    subflow!(
        SUBFLOW_SET,
        |r| r.attribute(subflow::ID, &[1; 2]),
        EINVAL,
        ID,
        CORE
    ),
    subflow!(
        SUBFLOW_SET,
        |r| r.attribute(subflow::ID, &[1; 8]),
        EINVAL,
        ID,
        CORE
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| r.attribute(subflow::REMOTE_PORT, &[1]),
        EINVAL,
        REMOTE_PORT,
        CORE
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| r.attribute(subflow::REMOTE_ID, &[]),
        EINVAL,
        REMOTE_ID,
        CORE
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).attribute(subflow::BACKUP, &[1]),
        ERANGE,
        BACKUP,
        CORE
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| r.attribute(subflow::REMOTE_ADDRESS, &[1; 17]),
        ERANGE,
        REMOTE_ADDRESS,
        CORE
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).attribute(subflow::REMOTE_ADDRESS, &[1; 5]),
        EINVAL,
        REMOTE_ADDRESS,
        "remote-address"
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).attribute(subflow::LOCAL_ADDRESS, &[1; 15]),
        EINVAL,
        LOCAL_ADDRESS,
        "local-address"
    ),
    address!(
        ANNOUNCE,
        |r| r.attribute(address::ADDRESS, &[]),
        EINVAL,
        ADDRESS,
        "address"
    ),
    address!(
        ANNOUNCE,
        |r| r.attribute(address::ADDRESS, &[1; 200]),
        ERANGE,
        ADDRESS,
        CORE
    ),
    address!(
        WITHDRAW,
        |r| r.attribute(address::ID, &[1; 4]),
        EINVAL,
        ID,
        CORE
    ),
    // Unknown, or for answers only.
    (cmd::CONN_GET, |r| r.u32(99, 1), EINVAL, 99, CORE),
    (
        cmd::CONN_GET,
        |r| r.u32(connection::UID, 1),
        EINVAL,
        connection::UID,
        CORE,
    ),
    (cmd::STATS_GET, |r| r, EINVAL, connection::TOKEN, CORE),
    (
        cmd::SUBFLOW_DESTROY,
        |r| r.nest(connection::SUBFLOW, |r| r.u32(99, 1)),
        EINVAL,
        99,
        CORE,
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| r.u32(subflow::ERRNO, 1),
        EINVAL,
        ERRNO,
        CORE
    ),
    // Wrong nesting.
    (
        cmd::SUBFLOW_CREATE,
        |r| r.attribute(connection::SUBFLOW, &[]),
        EINVAL,
        connection::SUBFLOW,
        CORE,
    ),
    (
        cmd::ANNOUNCE,
        |r| r.u32(connection::ADDRESS, 0),
        EINVAL,
        connection::ADDRESS,
        CORE,
    ),
    subflow!(
        SUBFLOW_SET,
        |r| r.nest(subflow::ID, |r| r),
        EINVAL,
        ID,
        CORE
    ),
    (
        cmd::CONN_GET,
        |r| r.u32(connection::TOKEN | NESTED, 1),
        EINVAL,
        connection::TOKEN,
        CORE,
    ),
    // Values that cannot be.
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).port(subflow::REMOTE_PORT, 0),
        EINVAL,
        REMOTE_PORT,
        "remote-port"
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).port(subflow::LOCAL_PORT, 0),
        EINVAL,
        LOCAL_PORT,
        "local-port"
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).u32(subflow::IFINDEX, u32::MAX),
        EINVAL,
        IFINDEX,
        "ifindex"
    ),
    subflow!(
        SUBFLOW_CREATE,
        |r| remote(r).address(subflow::LOCAL_ADDRESS, ip("fd00:2::2")),
        EAFNOSUPPORT,
        LOCAL_ADDRESS,
        "local-address"
    ),
    address!(
        ANNOUNCE,
        |r| r
            .address(address::ADDRESS, ip("10.0.2.2"))
            .port(address::PORT, 0),
        EINVAL,
        PORT,
        "port"
    ),
    address!(
        ANNOUNCE,
        |r| r
            .attribute(address::ID, &[1])
            .address(address::ADDRESS, ip("10.0.2.2")),
        EINVAL,
        ID,
        "id"
    ),
];

/// What no host has: any, multicast, broadcast, IPv4 mapped into IPv6.
const NO_HOST: [&str; 6] = [
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "ff02::1",
    "::ffff:10.0.2.2",
];

#[test]
fn every_malformed_request_is_refused_by_name() -> Result<()> {
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let (mut connection, token) = connect(&topology, Family::V4, &mut client)?;
    let mut failures = Vec::new();
    let mut check = |command: u8,
                     fill: &dyn for<'a> Fn(Request<'a>) -> Request<'a>,
                     (errno, attribute, word): (Errno, u16, &str),
                     what: &str|
     -> Result<()> {
        match client.refusal(command, fill) {
            Ok(refusal)
                if (refusal.errno, refusal.attribute) == (errno, Some(attribute))
                    && !refusal.text.is_empty()
                    && refusal.text.contains(word) => {}
            other => failures.push(format!(
                "command {command}, {what}: expected {errno}, attribute {attribute}, \
                 {word:?}; got {other:?}"
            )),
        }
        Ok(())
    };
    for command in cmd::CONN_GET..=cmd::WITHDRAW {
        let named = (EINVAL, connection::TOKEN, "token");
        check(command, &|r| r, named, "no token")?;
        let named = (Errno::ESRCH, connection::TOKEN, "token");
        check(
            command,
            &|r| r.u32(connection::TOKEN, !token.0),
            named,
            "a bad token",
        )?;
        for wrong in [&[][..], &[1; 2], &[1; 5]] {
            let named = (EINVAL, connection::TOKEN, CORE);
            check(
                command,
                &|r| r.attribute(connection::TOKEN, wrong),
                named,
                "a token of another length",
            )?;
        }
    }
    for (number, &(command, fill, errno, attribute, word)) in ROWS.iter().enumerate() {
        check(
            command,
            &|r| fill(r.u32(connection::TOKEN, token.0)),
            (errno, attribute, word),
            &format!("row {number}"),
        )?;
    }
    for text in NO_HOST {
        for (attribute, word) in [
            (subflow::REMOTE_ADDRESS, "remote-address"),
            (subflow::LOCAL_ADDRESS, "local-address"),
        ] {
            check(
                cmd::SUBFLOW_CREATE,
                &|r| {
                    r.u32(connection::TOKEN, token.0)
                        .nest(connection::SUBFLOW, |r| {
                            remote(r).address(attribute, ip(text))
                        })
                },
                (EINVAL, attribute, word),
                text,
            )?;
        }
        let named = (EINVAL, address::ADDRESS, "address");
        check(
            cmd::ANNOUNCE,
            &|r| {
                r.u32(connection::TOKEN, token.0)
                    .nest(connection::ADDRESS, |r| {
                        r.address(address::ADDRESS, ip(text))
                    })
            },
            named,
            text,
        )?;
        check(
            cmd::WITHDRAW,
            &|r| {
                r.u32(connection::TOKEN, token.0)
                    .nest(connection::ADDRESS, |r| {
                        r.attribute(address::ID, &[1])
                            .address(address::ADDRESS, ip(text))
                    })
            },
            named,
            text,
        )?;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // And none of them did anything.
    client.wait_for_subflows(token, 1)?;
    connection.exchange(1000)
}
