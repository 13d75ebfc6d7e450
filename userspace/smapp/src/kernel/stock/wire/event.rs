// SPDX-License-Identifier: GPL-2.0
//! The events of the family `mptcp_pm`.
//!
//! C header: `linux/mptcp_pm.h`, `enum mptcp_event_type` and `enum mptcp_event_attr`

use std::net::{IpAddr, SocketAddr};

use super::ends::Ends;
use crate::model::{AddressId, Errno, IfIndex, Token};
use crate::netlink::{Attributes, Malformed};

const CREATED: u8 = 1;
const ESTABLISHED: u8 = 2;
const CLOSED: u8 = 3;
const ANNOUNCED: u8 = 6;
const REMOVED: u8 = 7;
const SUB_ESTABLISHED: u8 = 10;
const SUB_CLOSED: u8 = 11;
const SUB_PRIORITY: u8 = 13;

const TOKEN: u16 = 1;
const FAMILY: u16 = 2;
const LOC_ID: u16 = 3;
const REM_ID: u16 = 4;
const SADDR4: u16 = 5;
const SADDR6: u16 = 6;
const DADDR4: u16 = 7;
const DADDR6: u16 = 8;
const SPORT: u16 = 9;
const DPORT: u16 = 10;
const BACKUP: u16 = 11;
const ERROR: u16 = 12;
const FLAGS: u16 = 13;
const IF_IDX: u16 = 15;
const RESET_REASON: u16 = 16;
const RESET_FLAGS: u16 = 17;
const SERVER_SIDE: u16 = 18;

/// `MPTCP_PM_EV_FLAG_DENY_JOIN_ID0`
const DENY_JOIN_ID0: u16 = 0x1;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Created,
    Established,
    Closed,
    Announced,
    Removed,
    SubflowEstablished,
    SubflowClosed,
    SubflowPriority,
}

/// An event as the kernel tells it: which of the fields it has depends on its kind and
/// on the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub kind: Kind,
    pub token: Token,
    pub server_side: bool,
    pub deny_join_id0: bool,
    family: u16,
    local_address: Option<IpAddr>,
    local_port: u16,
    pub remote_address: Option<IpAddr>,
    /// Never 0 of an address that was announced: that of the subflow if the peer named none.
    pub remote_port: u16,
    pub local_id: AddressId,
    pub remote_id: AddressId,
    /// The peer asked for the subflow as backup.
    pub backup: bool,
    pub ifindex: Option<IfIndex>,
    /// None if the socket of the subflow had no error.
    pub errno: Option<Errno>,
    /// Reason of a received MP_TCPRST, and whether it may pass.
    pub reset: Option<(u8, bool)>,
}

impl Event {
    /// Reads what came as `command`; none if it is of no use here.
    pub fn decode(command: u8, attributes: Attributes<'_>) -> Result<Option<Self>, Malformed> {
        let kind = match command {
            CREATED => Kind::Created,
            ESTABLISHED => Kind::Established,
            CLOSED => Kind::Closed,
            ANNOUNCED => Kind::Announced,
            REMOVED => Kind::Removed,
            SUB_ESTABLISHED => Kind::SubflowEstablished,
            SUB_CLOSED => Kind::SubflowClosed,
            SUB_PRIORITY => Kind::SubflowPriority,
            // Listeners, and what is not invented yet.
            _ => return Ok(None),
        };
        let mut event = Self {
            kind,
            token: Token(0),
            server_side: false,
            deny_join_id0: false,
            family: 0,
            local_address: None,
            local_port: 0,
            remote_address: None,
            remote_port: 0,
            local_id: AddressId(0),
            remote_id: AddressId(0),
            backup: false,
            ifindex: None,
            errno: None,
            reset: None,
        };
        let (mut token, mut reason, mut transient) = (None, None, false);
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                TOKEN => token = Some(Token(a.u32()?)),
                FAMILY => event.family = a.u16()?,
                LOC_ID => event.local_id = AddressId(a.u8()?),
                REM_ID => event.remote_id = AddressId(a.u8()?),
                SADDR4 | SADDR6 => event.local_address = Some(a.address()?),
                DADDR4 | DADDR6 => event.remote_address = Some(a.address()?),
                SPORT => event.local_port = a.port()?,
                DPORT => event.remote_port = a.port()?,
                BACKUP => event.backup = a.u8()? != 0,
                ERROR => event.errno = Some(Errno(a.u8()?.into())),
                FLAGS => event.deny_join_id0 = a.u16()? & DENY_JOIN_ID0 != 0,
                IF_IDX => event.ifindex = Some(IfIndex(a.u32()?)),
                RESET_REASON => reason = Some(a.u32()? as u8),
                RESET_FLAGS => transient = a.u32()? != 0,
                // 0 up to 6.12, absent since.
                SERVER_SIDE => event.server_side = a.u8()? != 0,
                _ => {}
            }
        }
        event.token = token.ok_or(Malformed::Absent("token"))?;
        event.reset = reason.map(|reason| (reason, transient));
        Ok(Some(event))
    }

    /// The ends of the subflow that it is about.
    pub fn ends(&self) -> Result<Ends, Malformed> {
        let (local, remote) = self
            .local_address
            .zip(self.remote_address)
            .ok_or(Malformed::Absent("address"))?;
        Ok(Ends::new(
            self.family,
            SocketAddr::new(local, self.local_port),
            SocketAddr::new(remote, self.remote_port),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::captured::{self, bytes};
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &str) -> Event {
        let bytes = bytes(text);
        let event = Event::decode(bytes[0], Attributes::new(&bytes[4..]));
        event.unwrap().unwrap()
    }

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection_of_each_side() {
        let client = decode(captured::CREATED);
        assert_eq!((client.kind, client.server_side), (Kind::Created, false));
        let ends = client.ends().unwrap();
        assert_eq!(ends.local.ip().to_string(), "10.71.1.1");
        assert_eq!((ends.remote, ends.mapped), (end("10.71.1.2:7001"), false));
        let server = decode(captured::CREATED_SERVER);
        assert_eq!((server.kind, server.server_side), (Kind::Created, true));
        assert_eq!(server.ends().unwrap().local, end("10.71.1.2:7001"));
        assert!(!server.deny_join_id0);
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        let ends = decode(captured::CREATED_MAPPED).ends().unwrap();
        assert_eq!((ends.remote, ends.mapped), (end("10.71.1.2:7001"), true));
        assert_eq!(ends.on_the_socket()[1].to_string(), "::ffff:10.71.1.2");
    }

    #[test]
    fn subflows() {
        let event = decode(captured::SUB_ESTABLISHED);
        assert_eq!(event.kind, Kind::SubflowEstablished);
        assert_eq!(
            (event.local_id, event.remote_id),
            (AddressId(1), AddressId(1))
        );
        assert_eq!((event.backup, event.errno), (false, None));
        let event = decode(captured::SUB_CLOSED);
        assert_eq!(event.kind, Kind::SubflowClosed);
        assert_eq!(event.errno, Some(Errno::ECONNREFUSED));
        assert_eq!(event.reset, None);
        assert_eq!(event.ends().unwrap().remote, end("10.71.2.2:7999"));
    }

    #[test]
    fn addresses_of_the_peer() {
        let event = decode(captured::ANNOUNCED);
        assert_eq!(
            (event.kind, event.remote_id),
            (Kind::Announced, AddressId(1))
        );
        assert_eq!(event.remote_address, Some("10.71.2.1".parse().unwrap()));
        // The port of the initial subflow: the ADD_ADDR had none.
        let client = decode(captured::CREATED).ends().unwrap();
        assert_eq!(event.remote_port, client.local.port());
        let event = decode(captured::REMOVED);
        assert_eq!((event.kind, event.remote_id), (Kind::Removed, AddressId(3)));
    }

    #[test]
    fn the_end_of_a_connection_is_its_token_alone() {
        let event = decode(captured::CLOSED);
        assert_eq!(event.kind, Kind::Closed);
        assert!(event.ends().is_err());
    }

    #[test]
    fn an_event_of_another_kind_is_none() {
        const LISTENER_CREATED: u8 = 15;
        let none = Event::decode(LISTENER_CREATED, Attributes::new(&[]));
        assert!(matches!(none, Ok(None)));
        assert!(Event::decode(CLOSED, Attributes::new(&[])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(command: u8, bytes: Vec<u8>, cut in 0usize..80) {
            let _ = Event::decode(command, Attributes::new(&bytes)).map(|e| e.map(|e| e.ends()));
            let whole = captured::bytes(captured::SUB_CLOSED);
            let part = &whole[4..whole.len().min(4 + cut)];
            let _ = Event::decode(command, Attributes::new(part)).map(|e| e.map(|e| e.ends()));
        }
    }
}
