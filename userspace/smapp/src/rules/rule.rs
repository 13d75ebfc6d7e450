// SPDX-License-Identifier: GPL-2.0
//! Rules: which connection gets which policy.
//!
//! A rule has conditions. All of them must hold, of the values of one condition
//! any; without a condition a rule holds for every connection. The facts that
//! they are held against do not change in the life of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::cgroup::Cgroups;
use super::condition::{AnyOf, Cgroup, Mark, Numbers};
use crate::model::{Connection, InterfaceName, LocalAddress, Owner, Pattern, Prefix};
use crate::policy::PolicyOptions;

/// What rules ask of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// This host accepted it.
    pub server_side: bool,
    /// Local and remote end of its initial subflow, or of the oldest one that is
    /// left; none if no subflow is.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// Whose it is.
    pub owner: Owner,
    /// The interface that its program has bound it to, if it has and its name is known.
    pub bound_interface: Option<InterfaceName>,
    /// The address that its program has bound it to, if it has.
    pub bound_address: Option<IpAddr>,
}

impl Facts {
    /// The facts about a connection of a host with these addresses.
    pub fn of(connection: &Connection, addresses: &[LocalAddress]) -> Self {
        let owner = connection.owner;
        let on_it = |local: &&LocalAddress| Some(local.ifindex) == owner.ifindex;
        let bound_address = owner.bound_address(connection);
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let first = connection.subflows.first();
        let subflow = connection.leading_subflow().or(first);
        Self {
            server_side: connection.server_side,
            ends: subflow.map(|s| (plain(s.local()), plain(s.remote()))),
            owner,
            bound_interface: addresses.iter().find(on_it).map(|a| a.interface),
            bound_address: bound_address.map(|address| address.to_canonical()),
        }
    }
}

/// Which connections, and what they get.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// What logs call it; in a file its number if it has no name.
    #[serde(default)]
    pub name: String,
    /// Which host opened the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Local TCP ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<AnyOf<Numbers<65535>>>,
    /// Remote TCP ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<AnyOf<Numbers<65535>>>,
    /// Local addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<AnyOf<Prefix>>,
    /// Remote addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<AnyOf<Prefix>>,
    /// Users, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<AnyOf<Numbers<{ u32::MAX }>>>,
    /// Marks (`SO_MARK`); a socket without one has 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<AnyOf<Mark>>,
    /// Control groups (version 2), each with those below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<AnyOf<Cgroup>>,
    /// Interfaces that programs have bound connections to (`SO_BINDTODEVICE`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_interface: Option<AnyOf<Pattern>>,
    /// Addresses that programs have bound connections to (`bind(2)`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_address: Option<AnyOf<Prefix>>,
    /// Subflows may leave the interface or address that the program is bound to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unbind: bool,
    /// What the connections get.
    pub policy: Choice,
}

impl Rule {
    /// The rule that gives every connection the same.
    pub fn every(name: &str, options: PolicyOptions) -> Self {
        Self {
            name: name.to_owned(),
            side: None,
            local_port: None,
            remote_port: None,
            local_address: None,
            remote_address: None,
            uid: None,
            mark: None,
            cgroup: None,
            bound_interface: None,
            bound_address: None,
            unbind: false,
            policy: Choice(Some(options)),
        }
    }

    /// Whether the rule holds for a connection.
    pub fn matches(&self, facts: &Facts, cgroups: &mut Cgroups) -> bool {
        let (local, remote) = (facts.ends.map(|e| e.0), facts.ends.map(|e| e.1));
        let owner = &facts.owner;
        let port = |end: Option<SocketAddr>| end.map(|end| u32::from(end.port()));
        self.side.is_none_or(|side| side.holds(facts.server_side))
            && holds(&self.local_port, port(local), Numbers::contains)
            && holds(&self.remote_port, port(remote), Numbers::contains)
            && holds(&self.local_address, local.map(|e| e.ip()), Prefix::contains)
            && holds(
                &self.remote_address,
                remote.map(|e| e.ip()),
                Prefix::contains,
            )
            && holds(&self.uid, owner.uid, Numbers::contains)
            && holds(&self.mark, Some(owner.mark.unwrap_or(0)), Mark::contains)
            && holds(&self.cgroup, owner.cgroup, |group, inode| {
                cgroups.contains(&group.0, inode)
            })
            && holds(
                &self.bound_interface,
                facts.bound_interface,
                Pattern::matches,
            )
            && holds(&self.bound_address, facts.bound_address, Prefix::contains)
    }

    /// Whether the rule holds whatever the connection.
    pub fn is_unconditional(&self) -> bool {
        self.side.is_none() && self.conditions().is_empty()
    }

    fn conditions(&self) -> Vec<String> {
        fn say<T: fmt::Display>(what: &str, condition: &Option<AnyOf<T>>) -> Option<String> {
            condition.as_ref().map(|any| format!("{what} {any}"))
        }
        [
            say("local port", &self.local_port),
            say("remote port", &self.remote_port),
            say("local address", &self.local_address),
            say("remote address", &self.remote_address),
            say("uid", &self.uid),
            say("mark", &self.mark),
            say("cgroup", &self.cgroup),
            say("bound to interface", &self.bound_interface),
            say("bound to address", &self.bound_address),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl fmt::Display for Rule {
    /// What the rule means, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.side {
            None => "every connection",
            Some(Side::Client) => "connections that this host opens",
            Some(Side::Server) => "connections that this host accepts",
        };
        write!(f, "{}: {who}", self.name)?;
        for (i, condition) in self.conditions().iter().enumerate() {
            write!(f, "{} {condition}", if i == 0 { " with" } else { "," })?;
        }
        match &self.policy.0 {
            None => f.write_str(" -> left alone"),
            Some(policy) => write!(f, " -> {}", policy.word()),
        }?;
        f.write_str(if self.unbind { ", unbound" } else { "" })
    }
}

fn holds<T, V: Copy>(
    condition: &Option<AnyOf<T>>,
    value: Option<V>,
    mut contains: impl FnMut(&T, V) -> bool,
) -> bool {
    let Some(any) = condition else {
        return true;
    };
    value.is_some_and(|value| any.0.iter().any(|one| contains(one, value)))
}

/// A policy, or none: the connection is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice(pub Option<PolicyOptions>);

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let word = self.0.as_ref().map_or("none", PolicyOptions::word);
        serializer.serialize_str(word)
    }
}

impl<'de> Deserialize<'de> for Choice {
    /// Reads a word, or a table of one word and its options.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl<'de> Visitor<'de> for Word {
            type Value = Choice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy, like \"fullmesh\" or { fullmesh = { .. } }, or \"none\"")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Choice, E> {
                if word == "none" {
                    return Ok(Choice(None));
                }
                let no_options = MapDeserializer::new(std::iter::empty::<(&str, u8)>());
                let policy = MapDeserializer::new([(word, Options(no_options))].into_iter());
                PolicyOptions::deserialize(MapAccessDeserializer::new(policy))
                    .map(|p| Choice(Some(p)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                PolicyOptions::deserialize(MapAccessDeserializer::new(map)).map(|p| Choice(Some(p)))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// Hands over a deserializer where serde expects a value.
struct Options<D>(D);

impl<'de, D: Deserializer<'de>> IntoDeserializer<'de, D::Error> for Options<D> {
    type Deserializer = D;

    fn into_deserializer(self) -> D {
        self.0
    }
}

/// Which host opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// This one.
    Client,
    /// The peer.
    Server,
}

impl Side {
    fn holds(self, server_side: bool) -> bool {
        (self == Self::Server) == server_side
    }
}
