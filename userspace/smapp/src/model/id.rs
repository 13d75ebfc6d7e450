// SPDX-License-Identifier: GPL-2.0
//! Names of things that events and commands share.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

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

/// A set of address IDs; there are no more than 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressIds([u64; 4]);

impl AddressIds {
    /// The IDs in the set, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = AddressId> {
        (0..=u8::MAX)
            .map(AddressId)
            .filter(move |&id| self.contains(id))
    }

    /// Whether `id` is in the set.
    pub fn contains(self, AddressId(id): AddressId) -> bool {
        self.0[usize::from(id / 64)] & 1 << (id % 64) != 0
    }
}

impl FromIterator<AddressId> for AddressIds {
    fn from_iter<I: IntoIterator<Item = AddressId>>(ids: I) -> Self {
        let mut set = Self::default();
        for AddressId(id) in ids {
            set.0[usize::from(id / 64)] |= 1 << (id % 64);
        }
        set
    }
}

impl Serialize for AddressIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
