// SPDX-License-Identifier: GPL-2.0
//! The policies: what subflows should exist. One file each, and their names and options
//! for configuration files and command lines.

pub mod backup;
mod bundle;
pub mod fullmesh;
mod gone;
pub mod limit;
pub mod ndiffports;
mod options;
pub mod refresh;
mod retry;
pub mod streaming;
mod unanswered;

use serde::Deserialize;

use crate::engine::Policy;

pub use options::{Count, Fraction, OptionInfo, Time};

/// Defines [`PolicyOptions`]: each policy with its help and the module that it is in.
macro_rules! policies {
    ($($(#[doc = $help:literal])+ $variant:ident in $module:ident;)+) => {
        /// A policy by its name, with its options. In a file it is a table with one key, the
        /// word for it, which has the table of its options.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum PolicyOptions {
            $($(#[doc = $help])+ $variant($module::Options),)+
        }

        impl PolicyOptions {
            /// Every policy, in the order in which they are explained.
            pub fn table() -> Vec<PolicyInfo> {
                vec![$(PolicyInfo {
                    word: stringify!($module),
                    help: &[$($help),+],
                    options: $module::Options::table(),
                }),+]
            }

            /// The policy with this word, with the defaults of its options.
            pub fn by_word(word: &str) -> Option<Self> {
                match word {
                    $(stringify!($module) => Some(Self::$variant(Default::default())),)+
                    _ => None,
                }
            }

            /// The word for it on the command line and in files.
            pub fn word(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($module),)+
                }
            }

            /// Sets an option by its name; the error says what is wrong with its values.
            pub fn set(&mut self, name: &str, values: &[&str]) -> Result<(), String> {
                match self {
                    $(Self::$variant(options) => options.set(name, values),)+
                }
            }

            /// A policy that acts on these options; `seed` determines what is random in it.
            pub fn policy(&self, seed: u64) -> Box<dyn Policy> {
                match self.clone() {
                    $(Self::$variant(options) => Box::new($module::$variant::new(options, seed)),)+
                }
            }
        }
    };
}

policies! {
    /// A subflow between every local address and every address of the server
    ///
    /// For each connection that this host opens, and for those that are open
    /// already: one subflow from each usable local address to the server and to
    /// each address that it announces. A subflow that is lost is opened again,
    /// after a delay that depends on why it was lost.
    Fullmesh in fullmesh;
    /// One path at a time, another when it is really bad
    ///
    /// For each connection that this host opens: no subflow on a backup path until
    /// the retransmission timeout of the subflow in use exceeds a threshold; then
    /// one is opened there and the bad one is closed once it works. Later the
    /// connection goes back to the primary path.
    Backup in backup;
    /// A second path when a block is about to be late
    ///
    /// For applications that send a block every period: half-way through it, a
    /// subflow on another path if the peer has acknowledged less than half of the
    /// block. Subflows whose retransmission timeout is too long are closed.
    Streaming in streaming;
    /// Several subflows from random ports, the slowest replaced
    ///
    /// For networks that spread flows over several paths by their ports: compares
    /// the rates of the subflows every few seconds, replaces the slowest, and
    /// rests once they are alike.
    Refresh in refresh;
    /// Several subflows on the addresses of the first
    ///
    /// For networks that spread flows over several paths by their ports.
    Ndiffports in ndiffports;
    /// For servers: at most so many subflows
    ///
    /// A subflow that a client opens beyond a limit is closed with a reset.
    Limit in limit;
}

/// A policy, for those who make a command line from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyInfo {
    /// The word for it.
    pub word: &'static str,
    /// What it does, in lines: a summary, an empty line, more.
    pub help: &'static [&'static str],
    /// Its options.
    pub options: Vec<OptionInfo>,
}
