// SPDX-License-Identifier: GPL-2.0
//! Spans of time as people write them: `250ms`, `2.5s`, `2m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A span of time in the options of a policy; on the command line and in a file
/// a number with one of the units ms, s, m, h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// In milliseconds, which all spans are rounded to.
const UNITS: [(&str, f64); 4] = [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3)];
/// No option has a use for more than a year.
const LONGEST: f64 = 366.0 * 86400e3;

impl Span {
    /// Whole milliseconds.
    pub const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(|c: char| c.is_ascii_alphabetic());
        let (number, unit) = text.split_at(at.unwrap_or(text.len()));
        let unit = UNITS.iter().find(|(word, _)| *word == unit);
        let ms = number.parse::<f64>().ok().zip(unit).map(|(n, u)| n * u.1);
        match ms.filter(|ms| (0.0..=LONGEST).contains(ms)) {
            Some(ms) => Ok(Self::ms(ms.round() as u64)),
            None => Err(format!(
                "`{text}`: expected a number with a unit, like 250ms, 2.5s or 2m"
            )),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms < 1000 => write!(f, "{ms}ms"),
            ms if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms => write!(f, "{}s", ms as f64 / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit() {
        for (text, ms, printed) in [
            ("250ms", 250, "250ms"),
            ("2.5s", 2500, "2.5s"),
            ("3s", 3000, "3s"),
            ("120s", 120_000, "2m"),
            ("1h", 3_600_000, "60m"),
            ("0s", 0, "0ms"),
            // Found by fuzzing: it became a millisecond less.
            ("9292188871ms", 9_292_188_871, "9292188.871s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span, span.to_string()), (Span::ms(ms), printed.to_owned()));
            assert_eq!(printed.parse(), Ok(span));
        }
        for text in ["", "3", "s", "3 s", "-1s", "3y", "1e300s", "nans", "infs"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
