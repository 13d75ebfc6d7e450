// SPDX-License-Identifier: GPL-2.0
//! Names of network interfaces, and patterns of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// Longest name of an interface: `IFNAMSIZ` without the byte that ends it.
const LONGEST: usize = 15;

/// Name of a network interface: 15 bytes at most, of any kind but `/` and white space;
/// empty if it is not known. It is shown as UTF-8, with U+FFFD for what is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    bytes: [u8; LONGEST],
}

impl InterfaceName {
    /// A name as the kernel gives it; empty if it is not UTF-8, is too long or has a zero byte.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; LONGEST];
        if name.len() <= LONGEST && !name.contains(&0) {
            bytes[..name.len()].copy_from_slice(name);
        }
        Self { bytes }
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.bytes.iter().position(|&b| b == 0);
        &self.bytes[..end.unwrap_or(LONGEST)]
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
    }
}

/// A pattern of interface names: `*` is any characters, `?` is any one.
///
/// It has up to four `*`, and up to 15 bytes beside them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

impl Pattern {
    /// What the text of one is.
    pub const EXPECTED: &str = "the name of an interface, like eth0, wlan* or eth?";

    /// Whether a name fits.
    pub fn matches(&self, name: InterfaceName) -> bool {
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| fits(rest, &name[skip..])),
        ([b'?', rest @ ..], [_, tail @ ..]) => fits(rest, tail),
        ([a, rest @ ..], [b, tail @ ..]) => a == b && fits(rest, tail),
        _ => false,
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let stars = text.matches('*').count();
        let odd = |c: char| c == '/' || c.is_whitespace();
        if text.is_empty() || text.contains(odd) || text.len() - stars > LONGEST || stars > 4 {
            return Err(format!("`{text}`: expected {}", Self::EXPECTED));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_wildcards() {
        for (pattern, name, fits) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("*", "", true),
            ("e*1", "eth11", true),
            ("eth?", "eth1", true),
            ("eth?", "eth", false),
            ("*.*", "eth0.7", true),
            ("*.*", "eth0", false),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            let name = InterfaceName::new(name.as_bytes());
            assert_eq!(pattern.matches(name), fits, "{pattern} {name}");
        }
        for text in ["", "a b", "../x", "sixteencharacter", "*a*b*c*d*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_the_empty_one() {
        let longest = b"fifteencharacte";
        assert_eq!(InterfaceName::new(longest).as_bytes(), longest);
        for name in [&b"sixteencharacter"[..], b"a\0b"] {
            assert_eq!(InterfaceName::new(name), InterfaceName::default());
        }
    }

    #[test]
    fn a_name_is_bytes() {
        let [one, other] = [b"wan\xff", b"wan\xfe"].map(|name| InterfaceName::new(name));
        assert_ne!(one, other);
        assert_eq!(one.as_bytes(), b"wan\xff");
        assert_eq!(one.to_string(), "wan\u{fffd}");
        let pattern: Pattern = "wan?".parse().unwrap();
        assert!(pattern.matches(one) && pattern.matches(other));
    }
}
