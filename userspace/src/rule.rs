// SPDX-License-Identifier: GPL-2.0
//! Rules: which connection gets which policy.
//!
//! A rule has conditions. All of them must hold, of the values of one condition
//! any; without a condition a rule holds for every connection. The facts that
//! they are held against do not change in the life of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::cgroup::Cgroups;
use crate::message::{Connection, Owner};
use crate::policy::Policy;

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
}

impl Facts {
    /// The facts about a connection.
    pub fn of(connection: &Connection) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let subflow = connection.leading_subflow();
        Self {
            server_side: connection.server_side,
            ends: subflow.map(|s| (plain(s.local()), plain(s.remote()))),
            owner: connection.owner,
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
    /// What the connections get.
    pub policy: Choice,
}

impl Rule {
    /// The rule that gives every connection the same.
    pub fn every(name: &str, policy: Policy) -> Self {
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
            policy: Choice(Some(policy)),
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
            && holds(&self.local_address, local, Prefix::contains)
            && holds(&self.remote_address, remote, Prefix::contains)
            && holds(&self.uid, owner.uid, Numbers::contains)
            && holds(&self.mark, Some(owner.mark.unwrap_or(0)), Mark::contains)
            && holds(&self.cgroup, owner.cgroup, |group, inode| {
                cgroups.contains(&group.0, inode)
            })
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
        }
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
pub struct Choice(pub Option<Policy>);

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let word = self.0.as_ref().map_or("none", Policy::word);
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
                Policy::deserialize(MapAccessDeserializer::new(policy)).map(|p| Choice(Some(p)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                Policy::deserialize(MapAccessDeserializer::new(map)).map(|p| Choice(Some(p)))
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// A deserializer where a value is expected.
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

/// One value or a list of them, of which any may fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnyOf<T>(Vec<T>);

impl<T: fmt::Display> fmt::Display for AnyOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            write!(f, "{}{one}", if i == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

/// A value of a condition, written as a number or as a string.
trait Value: Sized {
    const EXPECTED: &str;

    fn text(text: &str) -> Option<Self>;

    fn number(_: i64) -> Option<Self> {
        None
    }
}

struct Reader<T>(std::marker::PhantomData<T>);

impl<T: Value> Reader<T> {
    fn found<E: de::Error>(value: Option<T>, what: impl fmt::Display) -> Result<T, E> {
        value.ok_or_else(|| E::custom(format_args!("`{what}`: expected {}", T::EXPECTED)))
    }
}

/// One element, so that an error has its position.
struct One<T>(T);

impl<'de, T: Value> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = deserializer.deserialize_any(Reader::<T>(std::marker::PhantomData))?;
        let [one] = <[T; 1]>::try_from(all).map_err(|_| de::Error::custom("a list in a list"))?;
        Ok(One(one))
    }
}

impl<'de, T: Value> Visitor<'de> for Reader<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of such", T::EXPECTED)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<T>, E> {
        Ok(vec![Self::found(T::number(number), number)?])
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        Ok(vec![Self::found(T::text(text), text)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(One(one)) = list.next_element()? {
            all.push(one);
        }
        if all.is_empty() {
            return Err(de::Error::custom(
                "an empty list: no connection would match",
            ));
        }
        Ok(all)
    }
}

impl<'de, T: Value> Deserialize<'de> for AnyOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reader = Reader::<T>(std::marker::PhantomData);
        deserializer.deserialize_any(reader).map(Self)
    }
}

/// A number up to `MAX`, or a range like `8000-8100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers<const MAX: u32>(RangeInclusive<u32>);

impl<const MAX: u32> Numbers<MAX> {
    fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }
}

impl<const MAX: u32> Value for Numbers<MAX> {
    const EXPECTED: &str = match MAX {
        65535 => "a port, or a range like \"8000-8100\"",
        _ => "a number, or a range like \"1000-1999\"",
    };

    fn text(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last <= MAX).then_some(Self(first..=last))
    }

    fn number(number: i64) -> Option<Self> {
        let number = u32::try_from(number).ok().filter(|&n| n <= MAX)?;
        Some(Self(number..=number))
    }
}

impl<const MAX: u32> fmt::Display for Numbers<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// An address, or a prefix of addresses like `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(IpNet);

impl Prefix {
    fn contains(&self, end: SocketAddr) -> bool {
        self.has(end.ip())
    }

    /// Whether an address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::text(text).ok_or_else(|| format!("`{text}`: expected {}", Self::EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Value for Prefix {
    const EXPECTED: &str = "an address, or a prefix like 10.0.0.0/8 without bits after its length";

    fn text(text: &str) -> Option<Self> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().into(),
            Err(_) => text.parse::<IpNet>().ok()?,
        };
        // A mapped prefix is one of IPv4: the facts have no mapped addresses.
        let mapped = match net {
            IpNet::V6(v6) => v6
                .addr()
                .to_ipv4_mapped()
                .zip(v6.prefix_len().checked_sub(96)),
            IpNet::V4(_) => None,
        };
        let net = match mapped {
            Some((address, len)) => v4(address, len)?.into(),
            None => net,
        };
        (net.trunc() == net).then_some(Self(net))
    }
}

fn v4(address: Ipv4Addr, len: u8) -> Option<Ipv4Net> {
    Ipv4Net::new(address, len).ok()
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

/// A mark, or some bits of it like `0x10/0xf0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    fn contains(&self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

impl Value for Mark {
    const EXPECTED: &str = "a mark like 7 or \"0x7\", or some bits of it like \"0x10/0xf0\"";

    fn text(text: &str) -> Option<Self> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let (value, mask) = match text.split_once('/') {
            Some((value, mask)) => (number(value)?, number(mask)?),
            None => (number(text)?, u32::MAX),
        };
        (value & mask == value).then_some(Self { value, mask })
    }

    fn number(number: i64) -> Option<Self> {
        let value = u32::try_from(number).ok()?;
        let mask = u32::MAX;
        Some(Self { value, mask })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mask {
            u32::MAX => write!(f, "{:#x}", self.value),
            mask => write!(f, "{:#x}/{mask:#x}", self.value),
        }
    }
}

/// A control group by its path, like `/system.slice/nginx.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup(PathBuf);

impl Value for Cgroup {
    const EXPECTED: &str = "the path of a control group, like /system.slice/nginx.service";

    fn text(text: &str) -> Option<Self> {
        // As the path of a directory, too.
        let path = text.strip_prefix("/sys/fs/cgroup").unwrap_or(text);
        let plain = |part: &str| part != "." && part != ".." && !part.contains('\0');
        (text.starts_with('/') && path.split('/').all(plain))
            .then(|| Self(format!("/{}", path.trim_matches('/')).into()))
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

macro_rules! serialize_as_text {
    ($([$($bound:tt)*] $name:ty),*) => {$(
        impl<$($bound)*> Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

serialize_as_text!([const MAX: u32] Numbers<MAX>, [] Prefix, [] Mark, [] Cgroup);
