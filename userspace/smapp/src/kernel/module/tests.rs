// SPDX-License-Identifier: GPL-2.0
//! Bytes of the protocol, both ways, good and bad.
#![cfg(target_endian = "little")] // the golden bytes are; the code is not

mod golden;

use std::net::IpAddr;

use self::golden::*;
use super::decode::{decode_connection, decode_event, decode_statistics};
use super::encode::{Query, encode_command};
use super::uapi::{VERSION, cmd, connection, operation_stats, stats, subflow};
use crate::kernel::tcp_info::decode_tcp_info;
use crate::kernel::{Error, Input};
use crate::model::{
    Address, AddressChange, AddressId, Command, Errno, Event, EventKind, IfIndex, InterfaceName,
    LocalAddress, Owner, Subflow, SubflowCreate, SubflowDestroy, SubflowId, TcpState, Token, What,
};
use crate::netlink::{Attributes, Malformed, Message, Messages, Request};

const TOKEN: Token = Token(0x1a2b_3c4d);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    Messages::new(bytes).next().expect("at least one message")
}

fn event(bytes: &[u8]) -> Result<Option<Event>, Malformed> {
    Ok(input(bytes)?.and_then(|input| match input {
        Input::Event(event) => Some(event),
        _ => None,
    }))
}

fn input(bytes: &[u8]) -> Result<Option<Input>, Malformed> {
    let (command, attributes) = message(bytes)?.generic()?;
    decode_event(command, attributes)
}

/// An event with whatever attributes `fill` adds to its subflow.
fn event_with(fill: impl FnOnce(Request<'_>) -> Request<'_>) -> Result<Option<Event>, Malformed> {
    let mut bytes = Vec::new();
    Request::generic(&mut bytes, FAMILY, 0, 0, cmd::SUB_ESTAB, VERSION)
        .u32(connection::TOKEN, TOKEN.0)
        .nest(connection::SUBFLOW, fill)
        .finish();
    event(&bytes)
}

#[test]
fn an_ipv4_event_is_read() {
    let expected = Subflow {
        id: SubflowId(2),
        local_address: address("10.0.2.1"),
        local_port: 40001,
        local_id: AddressId(1),
        remote_address: address("10.0.3.1"),
        remote_port: 80,
        ifindex: Some(IfIndex(3)),
        errno: Some(Errno::ECONNREFUSED),
        reset_reason: Some(3),
        established: Some(false),
        ..Subflow::default()
    };
    assert_eq!(
        event(&SUB_CLOSED_V4).unwrap(),
        Some(Event {
            token: TOKEN,
            server_side: false,
            what: What::SubflowClosed(expected),
        })
    );
}

#[test]
fn an_ipv6_event_is_read() {
    let expected = Subflow {
        id: SubflowId(1),
        local_address: address("fd00:3::1"),
        local_port: 80,
        remote_address: address("fd00:2::1"),
        remote_port: 40001,
        initial: true,
        rto: Some(404_032),
        backoff: Some(1),
        retransmits: Some(2),
        ..Subflow::default()
    };
    assert_eq!(
        event(&TIMEOUT_V6).unwrap(),
        Some(Event {
            token: TOKEN,
            server_side: true,
            what: What::Timeout(expected),
        })
    );
}

#[test]
fn an_announced_address_is_read() {
    let expected = Address {
        id: AddressId(9),
        address: address("fd00:3::1"),
        port: Some(8080),
    };
    let event = event(&ADD_ADDR_V6).unwrap().unwrap();
    let (token, What::AddressAnnounced(address)) = (event.token, event.what) else {
        panic!("not add_addr");
    };
    assert_eq!((token, address), (TOKEN, expected));
    assert_eq!(address.to_string(), "id 9 [fd00:3::1]:8080");
}

#[test]
fn withdrawn_addresses_are_read() {
    let What::AddressesWithdrawn(remote_ids) = event(&REM_ADDR).unwrap().unwrap().what else {
        panic!("not rem_addr");
    };
    let ids: Vec<_> = remote_ids.iter().map(|id| id.0).collect();
    assert_eq!(ids, [1, 9, 255]);
    assert!(remote_ids.contains(AddressId(9)) && !remote_ids.contains(AddressId(2)));
}

#[test]
fn the_owner_of_a_connection_is_read() {
    let event = event(&CREATED).unwrap().unwrap();
    assert_eq!(event.kind(), EventKind::Created);
    let owner = event.start().unwrap().owner;
    let expected = Owner {
        uid: Some(1000),
        mark: Some(7),
        ifindex: Some(IfIndex(3)),
        bound_to_address: false,
        cookie: Some(1 << 63 | 1),
        cgroup: Some(42),
    };
    assert_eq!(owner, expected);
}

fn address_change(bytes: &[u8]) -> Result<Option<AddressChange>, Malformed> {
    Ok(input(bytes)?.and_then(|input| match input {
        Input::Address(change) => Some(change),
        _ => None,
    }))
}

#[test]
fn a_local_address_is_read() {
    let change = address_change(&NEW_LOCAL_ADDR).unwrap();
    let expected = LocalAddress {
        address: "fd00:2::1".parse().unwrap(),
        ifindex: IfIndex(3),
        interface: InterfaceName::new(b"eth1"),
        deprecated: false,
    };
    assert_eq!(change, Some(AddressChange::Up(expected)));
    assert_eq!(event(&NEW_LOCAL_ADDR).unwrap(), None);
}

#[test]
fn a_local_address_of_a_link_is_not_usable() {
    const RT_SCOPE_LINK: u8 = 253;
    let mut bytes = NEW_LOCAL_ADDR;
    bytes[68] = RT_SCOPE_LINK;
    assert_eq!(address_change(&bytes).unwrap(), None);
}

#[test]
fn a_local_address_without_an_interface_is_an_error() {
    let mut bytes = NEW_LOCAL_ADDR;
    bytes[46] = 0x7f; // no known attribute
    assert!(matches!(
        address_change(&bytes),
        Err(Malformed::Absent("ifindex"))
    ));
}

#[test]
fn the_fate_of_a_subflow_is_read() {
    let closed = event(&SUB_CLOSED_RESET).unwrap().unwrap();
    let expected = Subflow {
        id: SubflowId(2),
        errno_soft: Some(Errno::EHOSTUNREACH),
        reset_reason: Some(2),
        reset_transient: true,
        unacked: Some(5),
        established: Some(true),
        bytes_acked: Some(1 << 32),
        ..Subflow::default()
    };
    assert_eq!(closed.subflow(), Some(&expected));
}

#[test]
fn stats_are_read() {
    let mut bytes = Vec::new();
    Request::generic(&mut bytes, FAMILY, 0, 0, cmd::STATS_GET, VERSION)
        .attribute(stats::ATTACHED, &7u64.to_ne_bytes())
        .attribute(stats::RELEASED, &3u64.to_ne_bytes())
        .nest(stats::OPERATION, |r| {
            r.attribute(operation_stats::OPERATION, &[cmd::SUB_CLOSED])
                .attribute(operation_stats::DONE, &5u64.to_ne_bytes())
                .attribute(operation_stats::FAILED, &1u64.to_ne_bytes())
        })
        .finish();
    let read = decode_statistics(message(&bytes).unwrap().generic().unwrap().1).unwrap();
    assert_eq!((read.attached, read.released), (7, 3));
    let closed = read.operation("sub_closed");
    assert_eq!((closed.done, closed.failed), (5, 1));
    assert_eq!(closed.operation, "sub_closed");
    assert_eq!(read.operation("created").done, 0);
}

#[test]
fn every_kind_of_event_has_its_command() {
    let kinds = [
        (cmd::CREATED, EventKind::Created),
        (cmd::ESTAB, EventKind::Established),
        (cmd::CLOSED, EventKind::Closed),
        (cmd::SUB_ESTAB, EventKind::SubflowEstablished),
        (cmd::SUB_CLOSED, EventKind::SubflowClosed),
        (cmd::TIMEOUT, EventKind::Timeout),
        (cmd::SUB_PRIORITY, EventKind::SubflowPriority),
    ];
    for (command, kind) in kinds {
        let mut bytes = SUB_CLOSED_V4;
        bytes[16] = command;
        let event = event(&bytes).unwrap().unwrap();
        assert_eq!((event.kind(), event.token), (kind, TOKEN));
        assert_eq!(event.subflow().is_none(), kind == EventKind::Closed);
    }
    // An event without its subject is malformed.
    for command in [cmd::ADD_ADDR, cmd::REM_ADDR] {
        let mut bytes = SUB_CLOSED_V4;
        bytes[16] = command;
        assert!(matches!(event(&bytes), Err(Malformed::Absent(_))));
    }
}

#[test]
fn an_unknown_event_is_ignored() {
    let mut bytes = SUB_CLOSED_V4;
    bytes[16] = 200;
    assert_eq!(event(&bytes).unwrap(), None);
}

#[test]
fn a_datagram_that_is_cut_off_is_an_error_at_every_length() {
    for bytes in GOLDEN {
        for len in 1..bytes.len() {
            assert!(event(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
        }
    }
}

#[test]
fn attributes_that_are_cut_off_never_panic() {
    for bytes in [&SUB_CLOSED_V4[..], &TIMEOUT_V6] {
        // The payload of the subflow, cut off within a message whose own length is right.
        let nest = &bytes[if bytes.len() == 104 { 32 } else { 36 }..];
        for len in 0..nest.len() {
            let whole: Vec<_> = Attributes::new(&nest[..len]).collect();
            let errors = whole.iter().filter(|a| a.is_err()).count();
            assert!(errors <= 1, "an error ends the row");
            let _ = event_with(|r| r.body(&nest[..len]));
        }
    }
}

#[test]
fn no_byte_can_be_changed_into_a_panic() {
    for good in GOLDEN {
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bytes = good.to_vec();
                bytes[at] = value;
                for message in Messages::new(&bytes) {
                    let Ok(message) = message else { break };
                    let _ = message.error();
                    if let Ok((command, attributes)) = message.generic() {
                        let _ = decode_event(command, attributes);
                    }
                }
            }
        }
    }
}

#[test]
fn unknown_attributes_are_ignored() {
    let plain = event_with(|r| r.u32(subflow::ID, 7)).unwrap();
    let more = event_with(|r| {
        r.attribute(900, b"from a later kernel")
            .u32(subflow::ID, 7)
            .nest(901, |r| r.u32(1, 1))
    });
    assert_eq!(more.unwrap(), plain);
}

#[test]
fn of_a_repeated_attribute_the_last_counts() {
    let event = event_with(|r| r.u32(subflow::ID, 7).u32(subflow::ID, 8))
        .unwrap()
        .unwrap();
    assert_eq!(event.subflow().unwrap().id, SubflowId(8));
}

#[test]
fn a_wrong_length_is_an_error_that_names_the_attribute() {
    for (kind, len) in [
        (subflow::ID, 2),
        (subflow::LOCAL_ADDRESS, 5),
        (subflow::LOCAL_PORT, 4),
        (subflow::LOCAL_ID, 0),
        (subflow::ERRNO, 8),
    ] {
        let result = event_with(|r| r.u32(subflow::ID, 7).attribute(kind, &[1; 8][..len]));
        let Err(Malformed::Length {
            kind: named,
            len: got,
        }) = result
        else {
            panic!("{kind}: {result:?}");
        };
        assert_eq!((named, got), (kind, len));
    }
}

#[test]
fn an_event_without_token_or_subflow_id_is_an_error() {
    let mut bytes = Vec::new();
    Request::generic(&mut bytes, FAMILY, 0, 0, cmd::CLOSED, VERSION).finish();
    assert!(matches!(event(&bytes), Err(Malformed::Absent("token"))));
    assert!(matches!(
        event_with(|r| r),
        Err(Malformed::Absent("subflow id"))
    ));
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_ipv4() {
    let mapped = address("::ffff:10.0.2.1");
    let event = event_with(|r| {
        r.u32(subflow::ID, 7)
            .address(subflow::LOCAL_ADDRESS, mapped)
    });
    let event = event.unwrap().unwrap();
    assert_eq!(event.subflow().unwrap().local_address, address("10.0.2.1"));
}

#[test]
fn subflow_create_is_written() {
    let create = SubflowCreate::to("10.0.3.1:80".parse().unwrap())
        .local_address(address("10.0.2.1"))
        .ifindex(IfIndex(3))
        .backup(true);
    let mut buffer = Vec::new();
    #[rustfmt::skip]
    let expected = [
        68, 0, 0, 0,  0x20, 0,  1, 0,  7, 0, 0, 0,  0, 0, 0, 0, // length, family, request, seq
        2, 1, 0, 0,                                            // subflow-create, version
        8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,                   // token
        40, 0, 6, 0x80,                                        // subflow
        8, 0, 5, 0,  10, 0, 3, 1,                              // remote-address
        6, 0, 6, 0,  0, 80, 0, 0,                              // remote-port
        8, 0, 2, 0,  10, 0, 2, 1,                              // local-address
        8, 0, 8, 0,  3, 0, 0, 0,                               // ifindex
        4, 0, 9, 0,                                            // backup
    ];
    let bytes = encode_command(
        &Command::SubflowCreate(TOKEN, create),
        &mut buffer,
        FAMILY,
        7,
    );
    assert_eq!(bytes, expected);
}

#[test]
fn subflow_create_with_ipv6_and_ids_is_written() {
    let create = SubflowCreate::to("[fd00:3::1]:80".parse().unwrap())
        .local_address(address("fd00:2::1"))
        .local_port(4000)
        .remote_id(AddressId(9));
    let mut buffer = vec![0xff; 500]; // whatever the last command left
    let bytes = encode_command(
        &Command::SubflowCreate(TOKEN, create),
        &mut buffer,
        FAMILY,
        7,
    );
    let (command, attributes) = message(bytes).unwrap().generic().unwrap();
    let nest = attributes.last().unwrap().unwrap();
    let sent: Vec<_> = nest
        .nest()
        .map(|a| a.map(|a| (a.kind, a.payload.len())).unwrap())
        .collect();
    assert_eq!(
        (command, nest.kind),
        (cmd::SUBFLOW_CREATE, connection::SUBFLOW)
    );
    assert_eq!(
        sent,
        [
            (subflow::REMOTE_ADDRESS, 16),
            (subflow::REMOTE_PORT, 2),
            (subflow::REMOTE_ID, 1),
            (subflow::LOCAL_ADDRESS, 16),
            (subflow::LOCAL_PORT, 2),
        ]
    );
}

#[test]
fn subflow_destroy_and_conn_get_are_written() {
    let mut buffer = Vec::new();
    #[rustfmt::skip]
    let expected = [
        40, 0, 0, 0,  0x20, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0, // request, ack
        3, 1, 0, 0,
        8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
        12, 0, 6, 0x80,  8, 0, 1, 0,  2, 0, 0, 0,
    ];
    let destroy = Command::SubflowDestroy(TOKEN, SubflowId(2).into());
    assert_eq!(encode_command(&destroy, &mut buffer, FAMILY, 7), expected);
    #[rustfmt::skip]
    let expected = [
        20, 0, 0, 0,  0x20, 0,  1, 3,  8, 0, 0, 0,  0, 0, 0, 0, // request, dump
        1, 1, 0, 0,
    ];
    assert_eq!(Query::Connections.encode(&mut buffer, FAMILY, 8), expected);
}

#[test]
fn the_commands_about_subflows_are_written() {
    let ends = SubflowDestroy::ends(
        "10.0.2.1:40001".parse().unwrap(),
        "10.0.3.1:80".parse().unwrap(),
    );
    #[rustfmt::skip]
    let expected = [
        68, 0, 0, 0,  0x20, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0,
        3, 1, 0, 0,
        8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
        40, 0, 6, 0x80,
        8, 0, 2, 0,  10, 0, 2, 1,
        6, 0, 3, 0,  0x9c, 0x41, 0, 0,
        8, 0, 5, 0,  10, 0, 3, 1,
        6, 0, 6, 0,  0, 80, 0, 0,
        4, 0, 27, 0,                                           // reset
    ];
    let mut buffer = Vec::new();
    let destroy = Command::SubflowDestroy(TOKEN, ends.reset(true));
    assert_eq!(encode_command(&destroy, &mut buffer, FAMILY, 7), expected);
    for backup in [false, true] {
        let flag: &[u8] = if backup { &[4, 0, 9, 0] } else { &[] };
        let (all, nest) = (40 + flag.len() as u8, 12 + flag.len() as u8);
        #[rustfmt::skip]
        let expected = [
            all, 0, 0, 0,  0x20, 0,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0,
            4, 1, 0, 0,
            8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
            nest, 0, 6, 0x80,  8, 0, 1, 0,  2, 0, 0, 0,
        ];
        let set = Command::SubflowSet(TOKEN, SubflowId(2), backup);
        assert_eq!(
            encode_command(&set, &mut buffer, FAMILY, 7),
            [&expected, flag].concat()
        );
    }
}

#[test]
fn the_commands_about_addresses_are_written() {
    let mut buffer = Vec::new();
    #[rustfmt::skip]
    let expected = [
        40, 0, 0, 0,  0x20, 0,  1, 0,  7, 0, 0, 0,  0, 0, 0, 0, // answered, not acknowledged
        5, 1, 0, 0,
        8, 0, 1, 0,  0x4d, 0x3c, 0x2b, 0x1a,
        12, 0, 8, 0x80,  8, 0, 2, 0,  10, 0, 2, 1,
    ];
    let announce = Command::Announce(TOKEN, address("10.0.2.1"), None);
    assert_eq!(encode_command(&announce, &mut buffer, FAMILY, 7), expected);
    let known = Address {
        id: AddressId(9),
        address: address("fd00:3::1"),
        port: Some(8080),
    };
    // What the peer's event carries, as a request of this host.
    let mut expected = ADD_ADDR_V6;
    (expected[6], expected[8], expected[16]) = (5, 7, cmd::WITHDRAW);
    let withdraw = Command::Withdraw(TOKEN, known);
    assert_eq!(encode_command(&withdraw, &mut buffer, FAMILY, 7), expected);
    #[rustfmt::skip]
    let expected = [
        20, 0, 0, 0,  0x20, 0,  1, 0,  7, 0, 0, 0,  0, 0, 0, 0,
        7, 1, 0, 0,
    ];
    assert_eq!(Query::Statistics.encode(&mut buffer, FAMILY, 7), expected);
}

#[test]
fn a_connection_is_read_with_its_live_subflows() {
    fn subflow(r: Request<'_>, id: u32, flag: u16, state: TcpState) -> Request<'_> {
        r.u32(subflow::ID, id)
            .attribute(flag, &[])
            .attribute(subflow::STATE, &[state.0])
    }
    let mut bytes = Vec::new();
    // The initial one has closed.
    Request::generic(&mut bytes, FAMILY, 0, 0, cmd::CONN_GET, VERSION)
        .u32(connection::TOKEN, TOKEN.0)
        .attribute(connection::EXTRA_SUBFLOWS, &[2])
        .nest(connection::SUBFLOW, |r| {
            subflow(r, 0, subflow::INITIAL, TcpState::CLOSE)
        })
        .nest(connection::SUBFLOW, |r| {
            subflow(r, 2, subflow::ACTIVE, TcpState::ESTABLISHED)
        })
        .nest(connection::SUBFLOW, |r| {
            subflow(r, 3, subflow::ACTIVE, TcpState::SYN_SENT)
        })
        .finish();
    let (_, attributes) = message(&bytes).unwrap().generic().unwrap();
    let connection = decode_connection(attributes).unwrap();
    assert_eq!((connection.token, connection.extra_subflows), (TOKEN, 2));
    let states: Vec<_> = connection
        .subflows
        .iter()
        .map(|s| (s.id.0, s.state))
        .collect();
    let expected = [
        (2, Some(TcpState::ESTABLISHED)),
        (3, Some(TcpState::SYN_SENT)),
    ];
    assert_eq!(states, expected);
    assert_eq!(connection.leading_subflow().unwrap().id, SubflowId(2));
}

#[test]
fn tcp_info_of_any_length_is_read() {
    let bytes: Vec<u8> = (0..=255).collect();
    let at = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
    let whole = decode_tcp_info(&bytes);
    assert_eq!(
        (whole.rto, whole.rtt, whole.snd_cwnd),
        (at(8), at(68), at(80))
    );
    assert_eq!(whole.bytes_retrans as u32, at(208));
    for len in 0..bytes.len() {
        let part = decode_tcp_info(&bytes[..len]);
        assert_eq!(part.rto, if len >= 12 { whole.rto } else { 0 });
        assert_eq!(
            part.bytes_sent,
            if len >= 208 { whole.bytes_sent } else { 0 }
        );
    }
}

#[test]
fn the_kernels_words_are_kept_in_an_error() {
    let text = b"local-address: not on this host\0";
    let request = [0; 20];
    for (flags, repeated) in [(0x300, &request[..16]), (0x200, &request[..])] {
        let mut payload = (-99i32).to_ne_bytes().to_vec();
        payload.extend((request.len() as u32).to_ne_bytes());
        payload.extend(&repeated[4..]);
        payload.extend((4 + text.len() as u16).to_ne_bytes());
        payload.extend(1u16.to_ne_bytes());
        payload.extend(text);
        let message = Message {
            kind: 2,
            flags,
            seq: 1,
            payload: &payload,
        };
        let words = std::str::from_utf8(&text[..text.len() - 1]).unwrap();
        assert_eq!(
            message.error().unwrap(),
            (Errno::EADDRNOTAVAIL.0, Some(words))
        );
    }
}

#[test]
fn errors_read_well() {
    let refused = |message: Option<&str>| Error::Refused {
        command: "subflow-create",
        errno: Errno::EADDRNOTAVAIL,
        message: message.map(str::to_owned),
    };
    assert_eq!(
        refused(Some("local-address: not on this host")).to_string(),
        "subflow-create: EADDRNOTAVAIL (99): cannot assign requested address \
         (local-address: not on this host)"
    );
    assert_eq!(Errno(0).to_string(), "no error (0)");
    assert_eq!(Errno(4000).to_string(), "errno 4000");
}
