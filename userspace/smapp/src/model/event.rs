// SPDX-License-Identifier: GPL-2.0
//! Events: what happens to connections, and the kinds of it.

use std::str::FromStr;

use super::{Address, AddressIds, Owner, Subflow, Token};

/// Defines the kinds of events, in the order of the protocol's multicast groups, each with
/// its word on the command line, in JSON and as a multicast group.
macro_rules! event_kinds {
    ($($(#[$doc:meta])+ $kind:ident $word:literal,)+) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])+ $kind,)+
        }

        impl EventKind {
            /// Every kind, in the order of the protocol's multicast groups.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$kind),+];

            /// The word for it on the command line, in JSON and as a multicast group.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }
    };
}

event_kinds! {
    /// A connection exists, no subflow can be added yet.
    Created "created",
    /// Both hosts have confirmed Multipath TCP (RFC 8684 section 3.1): subflows can be added.
    Established "estab",
    /// A connection is over.
    Closed "closed",
    /// A subflow has joined its connection (MP_JOIN, RFC 8684 section 3.2).
    SubflowEstablished "sub_estab",
    /// A subflow is over, or could not be set up.
    SubflowClosed "sub_closed",
    /// The retransmission timer of a subflow has expired.
    Timeout "timeout",
    /// The peer has changed the priority of a subflow (MP_PRIO, RFC 8684 section 3.3.8).
    SubflowPriority "sub_priority",
    /// The peer has announced an address (ADD_ADDR, RFC 8684 section 3.4.1).
    AddressAnnounced "add_addr",
    /// The peer has withdrawn addresses (REMOVE_ADDR, RFC 8684 section 3.4.2).
    AddressesWithdrawn "rem_addr",
    /// This host can use an address from now on.
    NewLocalAddress "new_local_addr",
    /// This host can no longer use an address.
    DelLocalAddress "del_local_addr",
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == word);
        let words = || Self::ALL.map(Self::word).join(", ");
        found.ok_or_else(|| format!("no such event, choose from {}", words()))
    }
}

/// The events that a program registers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u16);

impl EventSet {
    /// Every event.
    pub const ALL: Self = Self((1 << EventKind::ALL.len()) - 1);

    /// The life cycle of connections, of subflows and of local addresses.
    pub const LIFE_CYCLE: Self = Self::of(&[
        EventKind::Created,
        EventKind::Established,
        EventKind::Closed,
        EventKind::SubflowEstablished,
        EventKind::SubflowClosed,
        EventKind::NewLocalAddress,
        EventKind::DelLocalAddress,
    ]);

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

    /// The events of both sets.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The events that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
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

/// Something that happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// The connection that it is about.
    pub token: Token,
    /// Whether this host accepted the connection.
    pub server_side: bool,
    /// What happened.
    pub what: What,
}

/// What happened to a connection, to one of its subflows or to the peer's addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// See [`EventKind::Created`].
    Created(Start),
    /// See [`EventKind::Established`].
    Established(Start),
    /// See [`EventKind::Closed`].
    Closed,
    /// See [`EventKind::SubflowEstablished`].
    SubflowEstablished(Subflow),
    /// See [`EventKind::SubflowClosed`]; the subflow carries errno, reset
    /// reason, whether it was ever established, and its bytes.
    SubflowClosed(Subflow),
    /// See [`EventKind::Timeout`]; the subflow carries rto, backoff,
    /// retransmits, soft errno and unacknowledged bytes.
    Timeout(Subflow),
    /// See [`EventKind::SubflowPriority`]; the subflow carries backup_peer.
    SubflowPriority(Subflow),
    /// See [`EventKind::AddressAnnounced`].
    AddressAnnounced(Address),
    /// See [`EventKind::AddressesWithdrawn`]; the kernel closes the subflows
    /// to these addresses.
    AddressesWithdrawn(AddressIds),
}

/// How a connection starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// The peer refuses joins to the address and port of its initial subflow.
    pub deny_join_id0: bool,
    /// Whose connection it is.
    pub owner: Owner,
    /// The initial subflow.
    pub subflow: Subflow,
}

impl Event {
    /// What kind of event this is.
    pub fn kind(&self) -> EventKind {
        match self.what {
            What::Created(_) => EventKind::Created,
            What::Established(_) => EventKind::Established,
            What::Closed => EventKind::Closed,
            What::SubflowEstablished(_) => EventKind::SubflowEstablished,
            What::SubflowClosed(_) => EventKind::SubflowClosed,
            What::Timeout(_) => EventKind::Timeout,
            What::SubflowPriority(_) => EventKind::SubflowPriority,
            What::AddressAnnounced(_) => EventKind::AddressAnnounced,
            What::AddressesWithdrawn(_) => EventKind::AddressesWithdrawn,
        }
    }

    /// How the connection starts, if the event tells of that.
    pub fn start(&self) -> Option<&Start> {
        match &self.what {
            What::Created(start) | What::Established(start) => Some(start),
            _ => None,
        }
    }

    /// The subflow that it is about, if it is about one.
    pub fn subflow(&self) -> Option<&Subflow> {
        match &self.what {
            What::Created(start) | What::Established(start) => Some(&start.subflow),
            What::SubflowEstablished(subflow)
            | What::SubflowClosed(subflow)
            | What::Timeout(subflow)
            | What::SubflowPriority(subflow) => Some(subflow),
            What::Closed | What::AddressAnnounced(_) | What::AddressesWithdrawn(_) => None,
        }
    }
}
