// SPDX-License-Identifier: GPL-2.0
//! Values with a range, for the options of policies.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A time in the options of a policy: from a millisecond to a year, as text a number with
/// one of the units ms, s, m, h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(Duration);

/// In milliseconds, which all times are rounded to.
const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3)];
/// No option has a use for more than a year, in milliseconds.
const LONGEST: u64 = 366 * 86_400_000;

impl Time {
    /// So many milliseconds. Panics if they are out of range: for constants.
    pub const fn ms(ms: u64) -> Self {
        assert!(1 <= ms && ms <= LONGEST, "a time is 1 ms to 366 days");
        Self(Duration::from_millis(ms))
    }

    /// The time.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = text.split_at(at.unwrap_or(text.len()));
        let unit = UNITS.iter().find(|(word, _)| *word == unit);
        let ms = number.parse::<f64>().ok().zip(unit).map(|(n, u)| n * u.1);
        let ms = ms.filter(|ms| (1.0..=LONGEST as f64).contains(ms));
        ms.map(|ms| Self::ms(ms.round() as u64)).ok_or_else(|| {
            format!(
                "`{text}`: expected a time from 1ms to 8784h, with a unit like 250ms, 2.5s or 2m"
            )
        })
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms < 1000 => write!(f, "{ms}ms"),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms => write!(f, "{}s", ms as f64 / 1000.0),
        }
    }
}

/// A part of something: more than 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Fraction(f64);

impl Fraction {
    /// The part. Panics if it is out of range: for constants.
    pub const fn new(part: f64) -> Self {
        assert!(
            0.0 < part && part <= 1.0,
            "a part is more than 0, at most 1"
        );
        Self(part)
    }

    /// The part.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = text.parse::<f64>().ok();
        let part = part.filter(|&part| 0.0 < part && part <= 1.0);
        part.map(Self)
            .ok_or_else(|| format!("`{text}`: expected a part of more than 0, at most 1, like 0.5"))
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count<const MAX: u64>(u64);

impl<const MAX: u64> Count<MAX> {
    /// The number. Panics if it is out of range: for constants.
    pub const fn new(number: u64) -> Self {
        assert!(1 <= number && number <= MAX, "a count is 1 to its maximum");
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl<const MAX: u64> From<Count<MAX>> for usize {
    /// The number, or the largest that fits.
    fn from(count: Count<MAX>) -> Self {
        count.0.try_into().unwrap_or(Self::MAX)
    }
}

impl<const MAX: u64> FromStr for Count<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<u64>().ok();
        let number = number.filter(|number| (1..=MAX).contains(number));
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}`: expected a whole number from 1 to {MAX}"))
    }
}

impl<const MAX: u64> fmt::Display for Count<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a value of a file, text or number, as the same text on a command line.
struct AsText<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for AsText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! deserialize_as_text {
    ($([$($bound:tt)*] $name:ty),*) => {$(
        impl<'de, $($bound)*> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(AsText(std::marker::PhantomData))
            }
        }
    )*};
}

deserialize_as_text!([] Time, [] Fraction, [const MAX: u64] Count<MAX>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, ms, printed) in [
            ("250ms", 250, "250ms"),
            ("2.5s", 2500, "2.5s"),
            ("3s", 3000, "3s"),
            ("120s", 120_000, "2m"),
            ("1h", 3_600_000, "60m"),
            // Found by fuzzing: it became a millisecond less.
            ("9292188871ms", 9_292_188_871, "9292188.871s"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!((time, time.to_string()), (Time::ms(ms), printed.to_owned()));
            assert_eq!(printed.parse(), Ok(time));
        }
        for text in [
            "", "3", "s", "3 s", "-1s", "3y", "1e300s", "nans", "infs", "0s", "0.4ms",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_is_more_than_nothing_and_at_most_all() {
        for text in ["0.01", "0.5", "1"] {
            assert!(text.parse::<Fraction>().is_ok(), "{text}");
        }
        for text in ["", "0", "-0.1", "1.01", "nan", "inf", "1e18", "half"] {
            assert!(text.parse::<Fraction>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_count_has_a_range() {
        assert_eq!("1".parse(), Ok(Count::<9>::new(1)));
        assert_eq!("9".parse(), Ok(Count::<9>::new(9)));
        for text in ["", "0", "10", "-1", "1.5", "nan", "1000000000000000000"] {
            assert!(text.parse::<Count<9>>().is_err(), "{text}");
        }
    }
}
