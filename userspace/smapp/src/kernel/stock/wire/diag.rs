// SPDX-License-Identifier: GPL-2.0
//! `sock_diag`: the sockets of connections (IPPROTO_MPTCP) and of subflows (TCP).
//!
//! C headers: `linux/sock_diag.h`, `linux/inet_diag.h`, `linux/mptcp.h`

use std::net::SocketAddr;

use super::ends::{AF_INET, AF_INET6, Ends, padded, unpadded};
use crate::kernel::tcp_info::{decode_mptcp_info, decode_tcp_info};
use crate::model::{AddressId, IfIndex, MptcpInfo, Owner, TcpInfo, TcpState, Token};
use crate::netlink::{self, Attributes, Malformed, Request};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`
const DESTROY: u16 = 21;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

const REQ_PROTOCOL: u16 = 3;
/// `idiag_ext`: struct tcp_info or mptcp_info, and what the ULP says.
const WITH_INFO: u8 = 1 << (INFO - 1);
/// All states but those that are no connection: LISTEN, TIME_WAIT, NEW_SYN_RECV.
const STATES: u32 = !(1 << 10 | 1 << 6 | 1 << 12);
const SYN_SENT: u32 = 1 << 2;

const INFO: u16 = 2;
const MARK: u16 = 15;
const ULP_INFO: u16 = 19;
const CGROUP_ID: u16 = 21;

const ULP_MPTCP: u16 = 3;
const ULP_TOKEN_LOC: u16 = 2;
const ULP_FLAGS: u16 = 8;
const ULP_ID_REM: u16 = 9;
const ULP_ID_LOC: u16 = 10;

/// `struct inet_diag_msg`
const HEADER: usize = 72;

/// A question; the answers of a dump come for one family at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// All connections.
    Connections { family: u16 },
    /// One of them.
    Connection(Token),
    /// All TCP sockets, with what they know of the path and of their connection, or
    /// without: then the kernel needs to lock none of them.
    Subflows { family: u16, info: bool },
    /// Those whose SYN is not answered.
    Connecting { family: u16 },
    /// One of them; one that is bound is found by its interface only.
    Subflow(Ends, Option<IfIndex>),
    /// Not a question: reset it.
    Reset(Ends, Option<IfIndex>),
}

/// The families to ask for.
pub(crate) const FAMILIES: [u16; 2] = [AF_INET, AF_INET6];

impl Question {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connections { .. } | Self::Connection(_) => "sock_diag of MPTCP",
            Self::Subflows { .. } | Self::Connecting { .. } | Self::Subflow(..) => {
                "sock_diag of TCP"
            }
            Self::Reset(..) => "subflow-destroy (sock_diag)",
        }
    }

    /// Writes the request into `buffer`, numbered `seq`.
    pub fn encode<'a>(&self, buffer: &'a mut Vec<u8>, seq: u32) -> &'a [u8] {
        let (kind, flags) = match self {
            Self::Reset(..) => (DESTROY, netlink::ACK),
            Self::Connection(_) | Self::Subflow(..) => (BY_FAMILY, 0),
            _ => (BY_FAMILY, netlink::DUMP),
        };
        let (family, protocol, ext, states) = match self {
            Self::Connections { family } => (*family, IPPROTO_MPTCP, WITH_INFO, STATES),
            // Of either family.
            Self::Connection(_) => (AF_INET, IPPROTO_MPTCP, WITH_INFO, STATES),
            Self::Subflows { family, info: true } => (*family, IPPROTO_TCP, WITH_INFO, STATES),
            Self::Subflows { family, .. } => (*family, IPPROTO_TCP, 0, STATES),
            Self::Connecting { family } => (*family, IPPROTO_TCP, WITH_INFO, SYN_SENT),
            Self::Subflow(ends, _) => (ends.family(), IPPROTO_TCP, WITH_INFO, STATES),
            Self::Reset(ends, _) => (ends.family(), IPPROTO_TCP, 0, STATES),
        };
        // struct inet_diag_req_v2, with its sockid
        let mut body = [0; 56];
        body[0] = family as u8;
        body[1] = protocol as u8;
        body[2] = ext;
        body[4..8].copy_from_slice(&states.to_ne_bytes());
        if let Self::Subflow(ends, ifindex) | Self::Reset(ends, ifindex) = self {
            let [local, remote] = ends.on_the_socket();
            body[8..10].copy_from_slice(&ends.local.port().to_be_bytes());
            body[10..12].copy_from_slice(&ends.remote.port().to_be_bytes());
            body[12..28].copy_from_slice(&padded(local));
            body[28..44].copy_from_slice(&padded(remote));
            body[44..48].copy_from_slice(&ifindex.map_or(0, |i| i.0).to_ne_bytes());
        }
        // Whatever its cookie is: INET_DIAG_NOCOOKIE.
        body[48..].fill(0xff);
        if let Self::Connection(Token(token)) = self {
            body[48..52].copy_from_slice(&token.to_ne_bytes());
            body[52..].fill(0);
        }
        let request = Request::new(buffer, kind, flags, seq).body(&body);
        match protocol {
            // The number does not fit into the header.
            IPPROTO_MPTCP => request.u32(REQ_PROTOCOL, protocol).finish(),
            _ => request.finish(),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_ne_bytes(field))
}

/// What both kinds of sockets have in common: `struct inet_diag_msg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    ends: Ends,
    state: TcpState,
    ifindex: Option<IfIndex>,
    cookie: u64,
    /// How often the timer of retransmissions has expired in a row.
    retransmits: u8,
    /// Bytes that are not acknowledged, sent or not.
    queued: u32,
    uid: u32,
    inode: u32,
}

impl Header {
    fn decode(payload: &[u8]) -> Result<(Self, Attributes<'_>), Malformed> {
        let read = || {
            let (header, rest) = payload.split_at_checked(HEADER)?;
            let &[family, state, timer, retransmits, s0, s1, d0, d1] = header.first_chunk()?;
            let family = u16::from(family);
            let end = |address: usize, port| {
                let bytes = header.get(address..address + 16)?.try_into().ok()?;
                Some(SocketAddr::new(
                    unpadded(family, bytes)?,
                    u16::from_be_bytes(port),
                ))
            };
            /// `IDIAG_TIMER_ON`: the number beside it is that of another timer otherwise.
            const RETRANSMISSION: u8 = 1;
            let this = Self {
                ends: Ends::new(family, end(8, [s0, s1])?, end(24, [d0, d1])?),
                state: TcpState(state),
                retransmits: match timer {
                    RETRANSMISSION => retransmits,
                    _ => 0,
                },
                ifindex: Some(IfIndex(u32_at(header, 40)?)).filter(|index| index.0 != 0),
                cookie: u64_at(header, 44)?,
                queued: u32_at(header, 60)?,
                uid: u32_at(header, 64)?,
                inode: u32_at(header, 68)?,
            };
            Some((this, Attributes::new(rest)))
        };
        read().ok_or(Malformed::Inconsistent("answer of sock_diag"))
    }
}

/// The socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionSocket {
    pub token: Token,
    pub state: TcpState,
    /// Those of its initial subflow.
    pub ends: Ends,
    pub owner: Owner,
    /// The application has closed it, or has not accepted it yet.
    pub orphan: bool,
    pub fallback: bool,
    /// The peer has Multipath TCP: it has sent its key.
    pub capable: bool,
    pub extra_subflows: u8,
    pub info: MptcpInfo,
    /// First unacknowledged byte of the connection.
    pub snd_una: u64,
    /// Length of the kernel's struct mptcp_info.
    pub info_len: usize,
}

impl ConnectionSocket {
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        /// `MPTCP_INFO_FLAG_FALLBACK`
        const FALLBACK: u32 = 1;
        /// `MPTCP_INFO_FLAG_REMOTE_KEY_RECEIVED`
        const KEY_RECEIVED: u32 = 2;
        let (header, attributes) = Header::decode(payload)?;
        let mut owner = Owner {
            uid: Some(header.uid),
            ifindex: header.ifindex,
            cookie: Some(header.cookie),
            ..Owner::default()
        };
        let mut info: &[u8] = &[];
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                INFO => info = a.payload,
                MARK => owner.mark = Some(a.u32()?).filter(|&mark| mark != 0),
                CGROUP_ID => owner.cgroup = Some(a.u64()?),
                _ => {}
            }
        }
        let known = decode_mptcp_info(info);
        Ok(Self {
            token: Token(u32_at(info, 12).ok_or(Malformed::Absent("token"))?),
            state: header.state,
            ends: header.ends,
            owner,
            orphan: header.inode == 0,
            fallback: known.flags & FALLBACK != 0,
            capable: known.flags & KEY_RECEIVED != 0,
            extra_subflows: info.first().copied().unwrap_or_default(),
            info: known,
            snd_una: u64_at(info, 24).unwrap_or_default(),
            info_len: info.len(),
        })
    }
}

/// A TCP socket; a subflow if it belongs to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubflowSocket {
    pub ends: Ends,
    pub state: TcpState,
    pub ifindex: Option<IfIndex>,
    /// How often the timer of retransmissions has expired in a row.
    pub retransmits: u8,
    /// Bytes that are not acknowledged, sent or not.
    pub queued: u32,
    /// It belongs to no application: not yet, or no longer.
    orphan: bool,
    /// What was asked for with info: none otherwise.
    pub path: Option<Path>,
    /// None for a socket of plain TCP.
    pub subflow: Option<Ulp>,
}

/// What TCP knows of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub info: TcpInfo,
    pub backoff: u8,
    /// Bytes that are not sent yet.
    pub unsent: u32,
}

/// What Multipath TCP knows of a subflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ulp {
    pub token: Token,
    pub local_id: AddressId,
    pub remote_id: AddressId,
    flags: u32,
}

impl Ulp {
    /// It opened the connection.
    pub fn initial(&self) -> bool {
        const MCAP_REM: u32 = 0x1;
        const MCAP_LOC: u32 = 0x2;
        self.flags & (MCAP_REM | MCAP_LOC) != 0
    }

    /// This host opened it.
    pub fn active(&self) -> bool {
        const MCAP_LOC: u32 = 0x2;
        const JOIN_LOC: u32 = 0x8;
        self.flags & (MCAP_LOC | JOIN_LOC) != 0
    }

    /// The peer asked for it as backup.
    pub fn backup_peer(&self) -> bool {
        const BKUP_REM: u32 = 0x10;
        self.flags & BKUP_REM != 0
    }

    /// This host asked for it as backup.
    pub fn backup(&self) -> bool {
        const BKUP_LOC: u32 = 0x20;
        self.flags & BKUP_LOC != 0
    }

    fn decode(attributes: Attributes<'_>) -> Result<Option<Self>, Malformed> {
        let mut ulp = None;
        for attribute in attributes {
            let attribute = attribute?;
            if attribute.kind != ULP_MPTCP {
                continue;
            }
            let this: &mut Self = ulp.insert(Self::default());
            for part in attribute.nest() {
                let part = part?;
                match part.kind {
                    ULP_TOKEN_LOC => this.token = Token(part.u32()?),
                    ULP_FLAGS => this.flags = part.u32()?,
                    ULP_ID_REM => this.remote_id = AddressId(part.u8()?),
                    ULP_ID_LOC => this.local_id = AddressId(part.u8()?),
                    _ => {}
                }
            }
        }
        Ok(ulp)
    }
}

impl SubflowSocket {
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let (header, attributes) = Header::decode(payload)?;
        let (mut path, mut subflow) = (None, None);
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                INFO => {
                    path = Some(Path {
                        info: decode_tcp_info(a.payload),
                        backoff: a.payload.get(4).copied().unwrap_or_default(),
                        unsent: u32_at(a.payload, 144).unwrap_or_default(),
                    });
                }
                ULP_INFO => subflow = Ulp::decode(a.nest())?,
                _ => {}
            }
        }
        Ok(Self {
            ends: header.ends,
            state: header.state,
            ifindex: header.ifindex,
            retransmits: header.retransmits,
            queued: header.queued,
            orphan: header.inode == 0,
            path,
            subflow,
        })
    }

    /// Whether its connection still has it. What has been closed lives on without it for a
    /// while, the initial one stays with it for ever.
    pub fn is_live(&self) -> bool {
        match self.state {
            TcpState::CLOSE => false,
            TcpState::ESTABLISHED | TcpState::SYN_SENT => true,
            _ => !self.orphan,
        }
    }

    /// Bytes in flight; none if nobody asked for the path.
    pub fn unacked(&self) -> Option<u32> {
        Some(self.queued.saturating_sub(self.path?.unsent))
    }
}

#[cfg(test)]
mod tests {
    use super::super::captured::{self, bytes};
    use super::*;
    use crate::netlink::Messages;
    use proptest::prelude::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection() {
        let socket = ConnectionSocket::decode(&bytes(captured::CONNECTION)).unwrap();
        assert_eq!(socket.state, TcpState::ESTABLISHED);
        assert_eq!(socket.ends.remote, end("10.71.1.2:7001"));
        assert_eq!((socket.fallback, socket.extra_subflows), (false, 1));
        assert_eq!((socket.owner.uid, socket.owner.mark), (Some(0), None));
        assert!(socket.owner.cookie.is_some());
        assert_eq!(socket.owner.cgroup, Some(1));
        assert_eq!((socket.info_len, socket.info.bytes_acked), (96, 1));
    }

    #[test]
    fn its_subflows() {
        let connection = ConnectionSocket::decode(&bytes(captured::CONNECTION)).unwrap();
        let initial = SubflowSocket::decode(&bytes(captured::INITIAL)).unwrap();
        let ulp = initial.subflow.unwrap();
        assert_eq!(ulp.token, connection.token);
        assert!(ulp.initial() && ulp.active());
        assert_eq!(initial.ends, connection.ends);
        assert_eq!(initial.path.unwrap().info.rto, 204_000);
        let join = SubflowSocket::decode(&bytes(captured::JOIN)).unwrap();
        let ulp = join.subflow.unwrap();
        assert_eq!(ulp.token, connection.token);
        assert!(!ulp.initial() && ulp.active() && !ulp.backup() && !ulp.backup_peer());
        assert_eq!((ulp.local_id, ulp.remote_id), (AddressId(1), AddressId(1)));
        assert_eq!(join.ends.local.ip().to_string(), "10.71.2.1");
        assert_eq!((join.retransmits, join.unacked()), (0, Some(0)));
    }

    #[test]
    fn mapped_addresses_are_those_of_ipv4() {
        let socket = SubflowSocket::decode(&bytes(captured::INITIAL_MAPPED)).unwrap();
        assert_eq!(socket.ends.remote, end("10.71.1.2:7001"));
        assert!(socket.ends.mapped);
    }

    #[test]
    fn questions_name_a_socket_as_it_is() {
        let ends = SubflowSocket::decode(&bytes(captured::INITIAL_MAPPED)).unwrap();
        let mut buffer = Vec::new();
        let question = Question::Subflow(ends.ends, Some(IfIndex(7)));
        let request = question.encode(&mut buffer, 1);
        let message = Messages::new(request).next().unwrap().unwrap();
        let id = &bytes(captured::INITIAL_MAPPED)[4..40];
        assert_eq!(message.payload[0], 10);
        assert_eq!(&message.payload[8..44], id);
        assert_eq!(message.payload[44..48], 7u32.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0usize..500) {
            let whole = captured::bytes(captured::INITIAL);
            let part = &whole[..whole.len().min(cut)];
            for payload in [&bytes[..], part] {
                let _ = ConnectionSocket::decode(payload);
                let _ = SubflowSocket::decode(payload).map(|socket| socket.unacked());
            }
        }
    }
}
