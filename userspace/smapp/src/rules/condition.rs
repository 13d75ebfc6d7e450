// SPDX-License-Identifier: GPL-2.0
//! The conditions of a rule, as a file has them.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::{Pattern, Prefix};

/// One value or a list of them, of which any may fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnyOf<T>(pub(super) Vec<T>);

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

/// One element of a list, read by itself so that an error has its position.
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
    /// Whether a number is among them.
    pub fn contains(&self, number: u32) -> bool {
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

impl Value for Prefix {
    const EXPECTED: &str = Prefix::EXPECTED;

    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for Pattern {
    const EXPECTED: &str = Pattern::EXPECTED;

    fn text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A mark, or some bits of it like `0x10/0xf0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// Whether a mark has these bits.
    pub fn contains(&self, mark: u32) -> bool {
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
pub struct Cgroup(pub(super) PathBuf);

impl Value for Cgroup {
    const EXPECTED: &str = "the path of a control group, like /system.slice/nginx.service";

    fn text(text: &str) -> Option<Self> {
        // People copy the path of its directory, too.
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

serialize_as_text!([const MAX: u32] Numbers<MAX>, [] Mark, [] Cgroup);
