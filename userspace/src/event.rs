// SPDX-License-Identifier: GPL-2.0
//! Events, and the names of things that events and commands share.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::message::{Address, AddressIds, Connection, Owner, Part, Subflow};
use crate::netlink::Attributes;
use crate::uapi::{self, cmd};

/// Local token of a connection (RFC 8684 section 3.2), unique in its network
/// namespace as long as the connection lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u32);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Token {
    type Err = String;

    /// Reads hexadecimal digits, with or without `0x`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let number = u32::from_str_radix(s.strip_prefix("0x").unwrap_or(s), 16);
        number
            .map(Self)
            .map_err(|_| "a token is 1 to 8 hexadecimal digits".to_owned())
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Number of a subflow, unique in its connection and never reused.
    SubflowId(u32)
);
number!(
    /// Address ID (RFC 8684 section 3.4.1); 0 is the address of the initial subflow.
    AddressId(u8)
);
number!(
    /// Index of a network interface in its network namespace.
    IfIndex(u32)
);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// A connection exists, no subflow can be added yet.
    Created,
    /// Both hosts have confirmed Multipath TCP, subflows can be added.
    Established,
    /// A connection is over.
    Closed,
    /// A subflow has joined its connection.
    SubflowEstablished,
    /// A subflow is over, or could not be set up.
    SubflowClosed,
    /// The retransmission timer of a subflow has expired.
    Timeout,
    /// The peer has changed the priority of a subflow.
    SubflowPriority,
    /// The peer has announced an address.
    AddressAnnounced,
    /// The peer has withdrawn addresses.
    AddressesWithdrawn,
    /// This host can use an address from now on.
    NewLocalAddress,
    /// This host can no longer use an address.
    DelLocalAddress,
}

impl EventKind {
    /// Every kind, in the order of the protocol's multicast groups.
    pub const ALL: [Self; 11] = [
        Self::Created,
        Self::Established,
        Self::Closed,
        Self::SubflowEstablished,
        Self::SubflowClosed,
        Self::Timeout,
        Self::SubflowPriority,
        Self::AddressAnnounced,
        Self::AddressesWithdrawn,
        Self::NewLocalAddress,
        Self::DelLocalAddress,
    ];

    /// The word for it on the command line, in JSON and as a multicast group.
    pub const fn word(self) -> &'static str {
        uapi::GROUPS[self as usize]
    }

    /// The kind of an event about a connection.
    fn from_command(command: u8) -> Option<Self> {
        Some(match command {
            cmd::CREATED => Self::Created,
            cmd::ESTAB => Self::Established,
            cmd::CLOSED => Self::Closed,
            cmd::SUB_ESTAB => Self::SubflowEstablished,
            cmd::SUB_CLOSED => Self::SubflowClosed,
            cmd::TIMEOUT => Self::Timeout,
            cmd::SUB_PRIORITY => Self::SubflowPriority,
            cmd::ADD_ADDR => Self::AddressAnnounced,
            cmd::REM_ADDR => Self::AddressesWithdrawn,
            _ => return None,
        })
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == word);
        found.ok_or_else(|| format!("no such event, choose from {}", uapi::GROUPS.join(", ")))
    }
}

/// The events that a program registers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u16);

impl EventSet {
    /// Every event.
    pub const ALL: Self = Self((1 << EventKind::ALL.len()) - 1);

    /// These events.
    pub const fn of(kinds: &[EventKind]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    /// This set and `kind`.
    pub const fn with(self, kind: EventKind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }

    /// The kinds in the set.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL
            .into_iter()
            .filter(move |&k| self.contains(k))
    }
}

/// What happened to a connection, to one of its subflows or to the peer's addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are those of Connection
pub enum Event {
    /// See [`EventKind::Created`]; the subflow is the initial one.
    Created {
        token: Token,
        server_side: bool,
        deny_join_id0: bool,
        owner: Owner,
        subflow: Subflow,
    },
    /// See [`EventKind::Established`]; the subflow is the initial one.
    Established {
        token: Token,
        server_side: bool,
        deny_join_id0: bool,
        owner: Owner,
        subflow: Subflow,
    },
    /// See [`EventKind::Closed`].
    Closed { token: Token, server_side: bool },
    /// See [`EventKind::SubflowEstablished`].
    SubflowEstablished {
        token: Token,
        server_side: bool,
        subflow: Subflow,
    },
    /// See [`EventKind::SubflowClosed`]; the subflow carries errno, reset
    /// reason, whether it was ever established, and its bytes.
    SubflowClosed {
        token: Token,
        server_side: bool,
        subflow: Subflow,
    },
    /// See [`EventKind::Timeout`]; the subflow carries rto, backoff,
    /// retransmits, soft errno and unacknowledged bytes.
    Timeout {
        token: Token,
        server_side: bool,
        subflow: Subflow,
    },
    /// See [`EventKind::SubflowPriority`]; the subflow carries backup_peer.
    SubflowPriority {
        token: Token,
        server_side: bool,
        subflow: Subflow,
    },
    /// See [`EventKind::AddressAnnounced`].
    AddressAnnounced {
        token: Token,
        server_side: bool,
        address: Address,
    },
    /// See [`EventKind::AddressesWithdrawn`]; the kernel closes the subflows
    /// to these addresses.
    AddressesWithdrawn {
        token: Token,
        server_side: bool,
        remote_ids: AddressIds,
    },
}

impl Event {
    /// Reads the event that the kernel sent as `command`; none if it is not about
    /// a connection (see [`AddressChange`](crate::AddressChange)), or if this
    /// version of the library does not know it.
    pub fn decode(command: u8, attributes: Attributes<'_>) -> Result<Option<Self>, Error> {
        let Some(kind) = EventKind::from_command(command) else {
            return Ok(None);
        };
        let (mut subflow, mut address, mut ids) = (None, None, None);
        let connection = Connection::decode_with(attributes, |part| match part {
            Part::Subflow(nest) => Subflow::decode(nest).map(|s| subflow = Some(s)),
            Part::Address(nest) => Address::decode(nest).map(|a| address = Some(a)),
            Part::RemoteIds(i) => {
                ids = Some(i);
                Ok(())
            }
        })?;
        let Connection {
            token,
            server_side,
            deny_join_id0,
            owner,
            ..
        } = connection;
        let subflow = subflow.ok_or(Error::Absent("subflow"));
        Ok(Some(match kind {
            EventKind::Created => Self::Created {
                token,
                server_side,
                deny_join_id0,
                owner,
                subflow: subflow?,
            },
            EventKind::Established => Self::Established {
                token,
                server_side,
                deny_join_id0,
                owner,
                subflow: subflow?,
            },
            EventKind::Closed => Self::Closed { token, server_side },
            EventKind::SubflowEstablished => Self::SubflowEstablished {
                token,
                server_side,
                subflow: subflow?,
            },
            EventKind::SubflowClosed => {
                let subflow = subflow?;
                // A flag: here its absence says something.
                let established = Some(subflow.established.unwrap_or(false));
                Self::SubflowClosed {
                    token,
                    server_side,
                    subflow: Subflow {
                        established,
                        ..subflow
                    },
                }
            }
            EventKind::Timeout => Self::Timeout {
                token,
                server_side,
                subflow: subflow?,
            },
            EventKind::SubflowPriority => Self::SubflowPriority {
                token,
                server_side,
                subflow: subflow?,
            },
            EventKind::AddressAnnounced => Self::AddressAnnounced {
                token,
                server_side,
                address: address.ok_or(Error::Absent("address"))?,
            },
            EventKind::AddressesWithdrawn => Self::AddressesWithdrawn {
                token,
                server_side,
                remote_ids: ids.ok_or(Error::Absent("remote-ids"))?,
            },
            EventKind::NewLocalAddress | EventKind::DelLocalAddress => return Ok(None),
        }))
    }

    /// What kind of event this is.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Created { .. } => EventKind::Created,
            Self::Established { .. } => EventKind::Established,
            Self::Closed { .. } => EventKind::Closed,
            Self::SubflowEstablished { .. } => EventKind::SubflowEstablished,
            Self::SubflowClosed { .. } => EventKind::SubflowClosed,
            Self::Timeout { .. } => EventKind::Timeout,
            Self::SubflowPriority { .. } => EventKind::SubflowPriority,
            Self::AddressAnnounced { .. } => EventKind::AddressAnnounced,
            Self::AddressesWithdrawn { .. } => EventKind::AddressesWithdrawn,
        }
    }

    /// The connection that it is about.
    pub fn token(&self) -> Token {
        self.connection().0
    }

    /// Whether this host accepted the connection.
    pub fn server_side(&self) -> bool {
        self.connection().1
    }

    fn connection(&self) -> (Token, bool) {
        match *self {
            Self::Created {
                token, server_side, ..
            }
            | Self::Established {
                token, server_side, ..
            }
            | Self::Closed { token, server_side }
            | Self::SubflowEstablished {
                token, server_side, ..
            }
            | Self::SubflowClosed {
                token, server_side, ..
            }
            | Self::Timeout {
                token, server_side, ..
            }
            | Self::SubflowPriority {
                token, server_side, ..
            }
            | Self::AddressAnnounced {
                token, server_side, ..
            }
            | Self::AddressesWithdrawn {
                token, server_side, ..
            } => (token, server_side),
        }
    }

    /// The subflow that it is about, if it is about one.
    pub fn subflow(&self) -> Option<&Subflow> {
        match self {
            Self::Created { subflow, .. }
            | Self::Established { subflow, .. }
            | Self::SubflowEstablished { subflow, .. }
            | Self::SubflowClosed { subflow, .. }
            | Self::Timeout { subflow, .. }
            | Self::SubflowPriority { subflow, .. } => Some(subflow),
            Self::Closed { .. }
            | Self::AddressAnnounced { .. }
            | Self::AddressesWithdrawn { .. } => None,
        }
    }
}
