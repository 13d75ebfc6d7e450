// SPDX-License-Identifier: GPL-2.0
//! The options of policies: how they are read from a file, and a table of each policy's
//! options from which a command line can be made.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::model::{Pattern, Prefix};

pub use super::values::{Count, Fraction, Time};

/// What a policy's option can be.
pub(crate) trait OptionValue: Sized {
    /// Whether there may be several values.
    const IS_LIST: bool = false;

    /// Reads the values that were given, at least one.
    fn read(texts: &[&str]) -> Result<Self, String>;

    /// Its text; none if it stands for the absence of a value.
    fn text(&self) -> Option<String>;
}

impl<T: FromStr<Err = String>> OptionValue for Vec<T> {
    const IS_LIST: bool = true;

    fn read(texts: &[&str]) -> Result<Self, String> {
        texts.iter().map(|text| text.parse()).collect()
    }

    fn text(&self) -> Option<String> {
        None
    }
}

impl<const MAX: u64> OptionValue for Option<Count<MAX>> {
    fn read(texts: &[&str]) -> Result<Self, String> {
        Count::read(texts).map(Some)
    }

    fn text(&self) -> Option<String> {
        self.map(|count| count.to_string())
    }
}

macro_rules! single_value {
    ($([$($bound:tt)*] $name:ty),*) => {$(
        impl<$($bound)*> OptionValue for $name {
            fn read(texts: &[&str]) -> Result<Self, String> {
                texts.last().copied().unwrap_or_default().parse()
            }

            fn text(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

single_value!([] Time, [] Fraction, [const MAX: u64] Count<MAX>);

/// Several patterns of interface names.
pub(crate) type Patterns = Vec<Pattern>;
/// Several prefixes of addresses.
pub(crate) type Prefixes = Vec<Prefix>;

/// One option of a policy, for those who make a command line from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// Its name, as in a file and behind `--`.
    pub name: String,
    /// What its value is called: `TIME`, `N`, `NAME,..`.
    pub value_name: &'static str,
    /// What it does, in lines.
    pub help: &'static [&'static str],
    /// Whether it takes several values, with commas between them.
    pub is_list: bool,
    /// What holds without it, unless its help says so.
    pub default: Option<String>,
}

/// Reads the options of a policy from a table in a file; an error names the option.
pub(crate) struct ReadOptions<T>(pub std::marker::PhantomData<T>);

/// Options of a policy that are read one by one.
pub(crate) trait NamedOptions: Default {
    /// Their names.
    const NAMES: &[&str];

    /// Takes the value of the option with a name.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, table: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: NamedOptions> Visitor<'de> for ReadOptions<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<T, A::Error> {
        let mut options = T::default();
        while let Some(name) = table.next_key_seed(OneOf(T::NAMES))? {
            options.take(name, &mut table)?;
        }
        Ok(options)
    }
}

/// One of these names.
struct OneOf(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for OneOf {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = self.0.iter().find(|known| known.replace('_', "-") == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|known| known.replace('_', "-")).collect();
            let names = names.join(", ");
            de::Error::custom(format_args!(
                "unknown field `{name}`, expected one of {names}"
            ))
        })
    }
}

/// The value of the option with this name.
pub(crate) struct Value<T>(pub &'static str, pub std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Value<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let name = self.0.replace('_', "-");
        let value = T::deserialize(deserializer);
        value.map_err(|error| de::Error::custom(format_args!("{name}: {error}")))
    }
}

/// Defines the options of a policy: the struct, its defaults, how it is read from a file,
/// and the table of it. Each has its help, its name, type, default, and the name of its value.
macro_rules! options {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr, $value_name:literal;)+) => {
        /// How the policy acts.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Options {
            $($(#[doc = $help])+ pub $field: $type,)+
        }

        impl Default for Options {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl<'de> serde::Deserialize<'de> for Options {
            fn deserialize<D: serde::Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
                table.deserialize_map($crate::policy::options::ReadOptions(Default::default()))
            }
        }

        impl $crate::policy::options::NamedOptions for Options {
            const NAMES: &[&str] = &[$(stringify!($field)),+];

            fn take<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                table: &mut A,
            ) -> Result<(), A::Error> {
                use $crate::policy::options::Value;
                match name {
                    $(stringify!($field) => {
                        let value = Value(stringify!($field), Default::default());
                        self.$field = table.next_value_seed(value)?;
                    })+
                    _ => {}
                }
                Ok(())
            }
        }

        impl Options {
            /// The options, in the order in which they are explained.
            pub(crate) fn table() -> Vec<$crate::policy::options::OptionInfo> {
                use $crate::policy::options::{OptionInfo, OptionValue};
                let default = Self::default();
                vec![$(OptionInfo {
                    name: stringify!($field).replace('_', "-"),
                    value_name: $value_name,
                    help: &[$($help),+],
                    is_list: <$type>::IS_LIST,
                    default: default.$field.text(),
                }),+]
            }

            /// Sets the option with a name; the error says what is wrong with the values.
            pub(crate) fn set(&mut self, name: &str, values: &[&str]) -> Result<(), String> {
                use $crate::policy::options::OptionValue;
                match name.replace('-', "_").as_str() {
                    $(stringify!($field) => self.$field = <$type>::read(values)?,)+
                    _ => return Err(format!("no option --{name}")),
                }
                Ok(())
            }
        }
    };
}

pub(crate) use options;
