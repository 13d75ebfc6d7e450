// SPDX-License-Identifier: GPL-2.0
//! The words of a command line: addresses, a subflow to open, a subflow to close.

use std::net::{IpAddr, SocketAddr};

use smapp::{SubflowDestroy, SubflowId};

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

/// What `subflow remove` says: which subflow, and how it is closed.
pub fn subflow_to_remove(words: &[String]) -> Result<SubflowDestroy, String> {
    let end = |text: &String| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("`{text}`: expected ADDRESS:PORT or [IPV6]:PORT"))
    };
    let (which, reset) = match words {
        [which @ .., last] if last == "reset" => (which, true),
        which => (which, false),
    };
    let destroy = match which {
        [id, number] if id == "id" => {
            let number = number.parse();
            let error = || format!("`{}`: expected the number of a subflow", which[1]);
            SubflowDestroy::id(SubflowId(number.map_err(|_| error())?))
        }
        [from, local, to, remote] if from == "from" && to == "to" => {
            SubflowDestroy::ends(end(local)?, end(remote)?)
        }
        _ => {
            return Err("expected id NUMBER, or from ADDRESS:PORT to ADDRESS:PORT, \
                        then maybe reset"
                .to_owned());
        }
    };
    Ok(destroy.reset(reset))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<SubflowWords, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        SubflowWords::parse(&words)
    }

    fn remove(line: &str) -> Result<SubflowDestroy, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        subflow_to_remove(&words)
    }

    #[test]
    fn a_subflow_is_removed_by_its_id_or_its_ends() {
        let ends = SubflowDestroy::ends(
            "10.0.2.1:4000".parse().unwrap(),
            "10.0.3.1:80".parse().unwrap(),
        );
        for (line, which, reset) in [
            ("id 7", SubflowDestroy::id(SubflowId(7)), false),
            ("id 7 reset", SubflowDestroy::id(SubflowId(7)), true),
            ("from 10.0.2.1:4000 to 10.0.3.1:80 reset", ends, true),
        ] {
            assert_eq!(remove(line), Ok(which.reset(reset)));
        }
        for (line, named) in [
            ("no 7", "expected id"),
            ("id seven", "`seven`"),
            ("from 10.0.2.1 to 10.0.3.1:80", "`10.0.2.1`"),
            ("reset", "expected id"),
        ] {
            assert!(remove(line).unwrap_err().contains(named), "{line}");
        }
    }

    #[test]
    fn the_words_of_a_subflow_come_in_any_order() {
        let expected = SubflowWords {
            from: Some(Endpoint {
                address: "10.0.2.1".parse().unwrap(),
                port: Some(4000),
            }),
            to: Some(Endpoint {
                address: "10.0.3.1".parse().unwrap(),
                port: None,
            }),
            dev: Some("eth1".to_owned()),
            backup: true,
        };
        assert_eq!(
            parsed("from 10.0.2.1:4000 to 10.0.3.1 dev eth1 backup").unwrap(),
            expected
        );
        assert_eq!(
            parsed("backup dev eth1 to 10.0.3.1 from 10.0.2.1:4000").unwrap(),
            expected
        );
        assert_eq!(parsed("").unwrap(), SubflowWords::default());
    }

    #[test]
    fn ipv6_has_its_port_behind_brackets() {
        let from = |line| parsed(line).unwrap().from.unwrap();
        assert_eq!(from("from fd00::1").port, None);
        assert_eq!(from("from [fd00::1]:80").port, Some(80));
        assert_eq!(
            from("from [fd00::1]:80").address,
            from("from fd00::1").address
        );
    }

    #[test]
    fn wrong_words_are_named() {
        assert!(parsed("from").unwrap_err().contains("`from` needs a value"));
        assert!(parsed("via 10.0.0.1").unwrap_err().contains("`via`"));
        assert!(parsed("from 10.0.0").unwrap_err().contains("`10.0.0`"));
        assert!(parsed("backup backup").unwrap_err().contains("twice"));
    }
}
