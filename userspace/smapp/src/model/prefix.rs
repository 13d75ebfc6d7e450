// SPDX-License-Identifier: GPL-2.0
//! Prefixes of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

/// An address, or a prefix of addresses like `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(IpNet);

impl Prefix {
    /// What an error says that the text has to be.
    pub const EXPECTED: &str =
        "an address, or a prefix like 10.0.0.0/8 without bits after its length";

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("`{text}`: expected {}", Self::EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Prefix {
    fn parse(text: &str) -> Option<Self> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().into(),
            Err(_) => text.parse::<IpNet>().ok()?,
        };
        // A mapped prefix is one of IPv4: no address in the model is mapped.
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

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
