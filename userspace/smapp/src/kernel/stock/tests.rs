// SPDX-License-Identifier: GPL-2.0
//! What the events, records and sockets of a kernel mean together: the cases in which a
//! kernel tells something late, twice, wrongly or never.

use std::time::Duration;

use super::connections::Connections;
use super::wire::captured::{self, bytes};
use super::wire::diag::{ConnectionSocket, SubflowSocket};
use super::wire::ends::Ends;
use super::wire::event::Event;
use super::wire::record::{Kind, Record};
use crate::kernel::Input;
use crate::model::{Errno, SubflowId, TcpState, Token, What};
use crate::netlink::{Attributes, Messages, Request};

const SECOND: Duration = Duration::from_secs(1);

fn event(text: &str) -> Event {
    let bytes = bytes(text);
    let event = Event::decode(bytes[0], Attributes::new(&bytes[4..]));
    event.unwrap().unwrap()
}

/// An event about a subflow, with what else it says.
fn subflow_event(command: u8, token: Token, ends: &Ends, error: Option<u8>) -> Event {
    let mut buffer = Vec::new();
    let request = Request::generic(&mut buffer, 28, 0, 0, command, 1)
        .u32(1, token.0)
        .attribute(2, &ends.family().to_ne_bytes())
        .attribute(3, &[1])
        .address(5, ends.local.ip())
        .address(7, ends.remote.ip())
        .port(9, ends.local.port())
        .port(10, ends.remote.port());
    let request = match error {
        Some(error) => request.attribute(12, &[error]),
        None => request,
    };
    let message = Messages::new(request.finish()).next().unwrap().unwrap();
    let (command, attributes) = message.generic().unwrap();
    Event::decode(command, attributes).unwrap().unwrap()
}

fn sub_established(token: Token, ends: &Ends) -> Event {
    subflow_event(10, token, ends, None)
}

fn sub_closed(token: Token, ends: &Ends, error: Option<u8>) -> Event {
    subflow_event(11, token, ends, error)
}

fn ends(local: &str, remote: &str) -> Ends {
    Ends {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        mapped: false,
    }
}

fn second_path() -> Ends {
    ends("10.71.2.1:4711", "10.71.2.2:7001")
}

/// A socket that has closed, having been in `state`.
fn end(token: Option<Token>, ends: &Ends, state: TcpState, errno: Errno) -> Record {
    Record {
        kind: Kind::SubflowClosed,
        token,
        ends: *ends,
        state,
        errno,
        errno_soft: Errno(0),
        rto: 50,
        retransmits: 0,
        backoff: 0,
        snd_una: 0,
        unacked: 0,
        bytes_acked: 17,
        bytes_received: 4,
    }
}

/// A client's connection that is established.
fn established() -> (Connections, Token) {
    let mut connections = Connections::default();
    let created = event(captured::CREATED);
    let ends = created.ends().unwrap();
    let told = connections.created(&created, ends, None, true, SECOND);
    assert!(matches!(what(&told[0]), What::Created(_)));
    assert!(connections.established(&created, SECOND).is_some());
    (connections, created.token)
}

/// The same with a subflow that this host opened, and that has joined.
fn joined() -> (Connections, Token) {
    let (mut connections, token) = established();
    let known = connections.get_mut(token).unwrap();
    let opened = ends("10.71.2.1:0", "10.71.2.2:7001");
    known.subflows.add(opened).active = true;
    let event = sub_established(token, &second_path());
    let told = connections.joined(&event, &second_path(), None, SECOND);
    let What::SubflowEstablished(subflow) = what(&told.unwrap()) else {
        panic!("expected sub_estab");
    };
    assert_eq!((subflow.id, subflow.active), (SubflowId(2), true));
    assert_eq!(subflow.local().port(), 4711);
    (connections, token)
}

fn what(input: &Input) -> What {
    match input {
        Input::Event(event) => event.what,
        other => panic!("expected an event, got {other:?}"),
    }
}

fn errno_of(input: &Input) -> Option<Errno> {
    match what(input) {
        What::SubflowClosed(subflow) => subflow.errno,
        other => panic!("expected sub_closed, got {other:?}"),
    }
}

#[test]
fn what_is_about_no_connection_is_ignored() {
    let mut connections = Connections::default();
    let created = event(captured::CREATED);
    // ESTABLISHED after CLOSED, CLOSED without CREATED.
    assert_eq!(connections.established(&created, SECOND), None);
    assert_eq!(connections.closed(created.token), None);
    let closed = sub_closed(created.token, &second_path(), None);
    assert!(
        connections
            .subflow_closed(&closed, &second_path(), None, true, SECOND)
            .is_none()
    );
}

#[test]
fn what_another_path_manager_has_is_ignored() {
    let mut connections = Connections::default();
    let created = event(captured::CREATED);
    let told = connections.created(&created, created.ends().unwrap(), None, false, SECOND);
    assert_eq!(told, []);
    assert_eq!(connections.established(&created, SECOND), None);
    assert!(connections.get(created.token).is_none());
    assert!(connections.contains(created.token));
    assert_eq!(connections.closed(created.token), None);
    assert!(!connections.contains(created.token));
}

#[test]
fn a_token_that_comes_again_ends_the_connection_that_had_it() {
    let (mut connections, token) = established();
    let created = event(captured::CREATED);
    let other = ends("10.71.1.1:1", "10.71.1.2:7001");
    let told = connections.created(&created, other, None, true, SECOND);
    assert_eq!(told.len(), 2);
    assert_eq!(what(&told[0]), What::Closed);
    assert!(matches!(what(&told[1]), What::Created(_)));
    assert!(connections.get(token).is_some());
}

#[test]
fn the_error_of_an_event_is_the_reason() {
    let (mut connections, token) = joined();
    let event = sub_closed(token, &second_path(), Some(110));
    let (told, _) = connections
        .subflow_closed(&event, &second_path(), None, false, SECOND)
        .unwrap();
    assert_eq!(errno_of(&told), Some(Errno::ETIMEDOUT));
}

#[test]
fn a_refusal_after_the_handshake_is_a_reset_if_a_program_saw_it() {
    let (mut connections, token) = joined();
    let record = end(Some(token), &second_path(), TcpState::ESTABLISHED, Errno(0));
    assert_eq!(
        connections.subflow_ended(&record),
        Some((token, SubflowId(2)))
    );
    let event = sub_closed(token, &second_path(), None);
    let (told, _) = connections
        .subflow_closed(&event, &second_path(), None, true, SECOND)
        .unwrap();
    assert_eq!(errno_of(&told), Some(Errno::ECONNRESET));
    let What::SubflowClosed(subflow) = what(&told) else {
        unreachable!();
    };
    assert_eq!(
        (subflow.bytes_acked, subflow.bytes_received),
        (Some(17), Some(4))
    );
}

#[test]
fn without_a_program_a_short_life_has_no_known_reason() {
    for (lived, reason) in [(SECOND, None), (60 * SECOND, Some(Errno(0)))] {
        let (mut connections, token) = joined();
        let event = sub_closed(token, &second_path(), None);
        let (told, _) = connections
            .subflow_closed(&event, &second_path(), None, false, SECOND + lived)
            .unwrap();
        assert_eq!(errno_of(&told), reason, "after {lived:?}");
    }
}

#[test]
fn with_a_program_what_it_did_not_see_is_a_fin() {
    let (mut connections, token) = joined();
    let event = sub_closed(token, &second_path(), None);
    let (told, _) = connections
        .subflow_closed(&event, &second_path(), None, true, SECOND)
        .unwrap();
    assert_eq!(errno_of(&told), Some(Errno(0)));
}

#[test]
fn what_this_host_destroys_has_no_error() {
    let (mut connections, token) = established();
    let known = connections.get_mut(token).unwrap();
    let joining = known.subflows.add(ends("10.71.2.1:4711", "10.71.2.2:7001"));
    joining.destroyed = true;
    // In SYN_SENT the kernel says ECONNRESET, and has lost the remote port.
    let told = ends("10.71.2.1:4711", "10.71.2.2:0");
    let event = sub_closed(token, &told, Some(104));
    let (told, entry) = connections
        .subflow_closed(&event, &told, None, true, SECOND)
        .unwrap();
    assert_eq!((errno_of(&told), entry.id), (Some(Errno(0)), SubflowId(2)));
}

#[test]
fn a_subflow_of_a_half_closed_connection_ends_by_its_record() {
    let (mut connections, token) = joined();
    let record = end(
        Some(token),
        &second_path(),
        TcpState::ESTABLISHED,
        Errno::ETIMEDOUT,
    );
    let (_, id) = connections.subflow_ended(&record).unwrap();
    let told = connections.overdue(token, id, SECOND).unwrap();
    assert_eq!(errno_of(&told), Some(Errno::ETIMEDOUT));
    // Once.
    assert_eq!(connections.overdue(token, id, SECOND), None);
}

#[test]
fn the_end_of_a_connection_ends_its_subflows_with_it() {
    let (mut connections, token) = joined();
    // After MP_FASTCLOSE the sockets have no token.
    let own = connections.get(token).unwrap().ends;
    let record = Record {
        kind: Kind::ConnectionClosed,
        ..end(None, &own, TcpState::ESTABLISHED, Errno(0))
    };
    assert_eq!(connections.ended(&record), Some(token));
    let record = end(None, &second_path(), TcpState::ESTABLISHED, Errno(0));
    let (_, id) = connections.subflow_ended(&record).unwrap();
    assert_eq!(connections.overdue(token, id, SECOND), None);
    assert_eq!(
        connections.closed(token).map(|i| what(&i)),
        Some(What::Closed)
    );
}

#[test]
fn a_subflow_that_two_listings_do_not_have_is_over() {
    let (mut connections, token) = joined();
    let socket = ConnectionSocket {
        token,
        ..ConnectionSocket::decode(&bytes(captured::CONNECTION)).unwrap()
    };
    let mut initial = SubflowSocket::decode(&bytes(captured::INITIAL)).unwrap();
    initial.ends = connections.get(token).unwrap().ends;
    for told in [0, 1] {
        let listed = connections.listed(&socket, &mut [initial], SECOND).unwrap();
        assert_eq!(listed.subflows.len(), 1);
        assert_eq!(listed.subflows[0].id, SubflowId(1));
        let inputs = connections.missing();
        assert_eq!(inputs.len(), told);
        assert!(inputs.iter().all(|input| errno_of(input).is_none()));
    }
}

#[test]
fn an_address_with_the_port_of_a_subflow_was_announced_without_one() {
    let (mut connections, token) = established();
    let mut announced = event(captured::ANNOUNCED);
    announced.token = token;
    for (port, told) in [(7001, None), (9000, Some(9000))] {
        announced.remote_port = port;
        let input = connections.announced(&announced).unwrap();
        let What::AddressAnnounced(address) = what(&input) else {
            panic!("expected add_addr");
        };
        assert_eq!(address.port, told);
    }
}

#[test]
fn a_timeout_is_about_the_subflow_with_these_ends() {
    let (mut connections, token) = joined();
    let mut record = end(Some(token), &second_path(), TcpState::ESTABLISHED, Errno(0));
    record.kind = Kind::Timeout;
    record.retransmits = 2;
    let told = connections.timeout(&record, Some(408_000), None).unwrap();
    let What::Timeout(subflow) = what(&told) else {
        panic!("expected timeout");
    };
    assert_eq!(subflow.id, SubflowId(2));
    assert_eq!((subflow.rto, subflow.retransmits), (Some(408_000), Some(2)));
    // Before the backoff, and the socket could not be asked: not known.
    let told = connections.timeout(&record, None, None).unwrap();
    let What::Timeout(subflow) = what(&told) else {
        panic!("expected timeout");
    };
    assert_eq!(
        (subflow.rto, subflow.backoff, subflow.retransmits),
        (None, None, None)
    );
}
