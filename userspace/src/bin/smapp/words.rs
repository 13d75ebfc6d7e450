// SPDX-License-Identifier: GPL-2.0
//! What the words of a command say of a subflow or an address.

use std::net::{IpAddr, SocketAddr};

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: Option<u16>,
}

/// What `subflow add` says of the subflow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubflowWords {
    pub from: Option<Endpoint>,
    pub to: Option<Endpoint>,
    pub dev: Option<String>,
    pub backup: bool,
}

impl SubflowWords {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("`{word}` needs a value after it"))
            };
            let repeated = match word.as_str() {
                "from" => parsed.from.replace(endpoint(value()?)?).is_some(),
                "to" => parsed.to.replace(endpoint(value()?)?).is_some(),
                "dev" => parsed.dev.replace(value()?.clone()).is_some(),
                "backup" => std::mem::replace(&mut parsed.backup, true),
                _ => return Err(format!("`{word}`: expected from, to, dev or backup")),
            };
            if repeated {
                return Err(format!("`{word}` is given twice"));
            }
        }
        Ok(parsed)
    }
}

/// What `subflow remove` says of the subflow.
#[derive(Debug, PartialEq, Eq)]
pub struct RemoveWords {
    pub which: Which,
    pub reset: bool,
}

/// How a subflow is named.
#[derive(Debug, PartialEq, Eq)]
pub enum Which {
    Id(u32),
    Ends(SocketAddr, SocketAddr),
}

impl RemoveWords {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let end = |text: &String| {
            text.parse::<SocketAddr>()
                .map_err(|_| format!("`{text}`: expected ADDRESS:PORT or [IPV6]:PORT"))
        };
        let (which, reset) = match words {
            [which @ .., last] if last == "reset" => (which, true),
            which => (which, false),
        };
        let which = match which {
            [id, number] if id == "id" => Which::Id(
                number
                    .parse()
                    .map_err(|_| format!("`{number}`: expected the number of a subflow"))?,
            ),
            [from, local, to, remote] if from == "from" && to == "to" => {
                Which::Ends(end(local)?, end(remote)?)
            }
            _ => {
                return Err("expected id NUMBER, or from ADDRESS:PORT to ADDRESS:PORT, \
                            then maybe reset"
                    .to_owned());
            }
        };
        Ok(Self { which, reset })
    }
}

/// Reads an address with or without a port.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Endpoint {
            address,
            port: None,
        });
    }
    let error = |_| format!("`{text}`: expected ADDRESS or ADDRESS:PORT or [IPV6]:PORT");
    let both = text.parse::<SocketAddr>().map_err(error)?;
    Ok(Endpoint {
        address: both.ip(),
        port: Some(both.port()),
    })
}
