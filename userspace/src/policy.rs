// SPDX-License-Identifier: GPL-2.0
//! The policies by their names, for the command line and for configuration files.

use clap::Subcommand;
use serde::Deserialize;

use crate::controller::{Controller, fullmesh};

/// A policy with its options. In a file it is a table whose key `policy` has
/// the word for it and whose other keys are its options.
#[derive(Clone, Debug, PartialEq, Subcommand, Deserialize)]
#[serde(tag = "policy", rename_all = "kebab-case")]
pub enum Policy {
    /// A subflow between every local address and every address of the server
    ///
    /// For each connection that this host opens, and for those that are open
    /// already: one subflow from each usable local address to the server and to
    /// each address that it announces. A subflow that is lost is opened again,
    /// after a delay that depends on why it was lost.
    Fullmesh(fullmesh::Options),
}

impl Policy {
    /// The word for it on the command line and in files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fullmesh(_) => "fullmesh",
        }
    }

    /// A controller that acts on it; `seed` determines what is random in it.
    pub fn controller(&self, seed: u64) -> Box<dyn Controller> {
        match self.clone() {
            Self::Fullmesh(options) => Box::new(fullmesh::Fullmesh::new(options, seed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        policy: Policy,
    }

    const WORDS: [&str; 1] = ["fullmesh"];

    fn line(words: &[&str]) -> Policy {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words).unwrap().policy
    }

    fn file(json: &str) -> Result<Policy, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn line_and_file_have_the_same_words_and_defaults() {
        for word in WORDS {
            let policy = file(&format!(r#"{{"policy": "{word}"}}"#)).unwrap();
            assert_eq!(policy, line(&[word]));
            assert_eq!(policy.word(), word);
        }
    }

    #[test]
    fn an_option_that_does_not_exist_is_refused() {
        for word in WORDS {
            let error = file(&format!(r#"{{"policy": "{word}", "lunch": 1}}"#)).unwrap_err();
            assert!(error.to_string().contains("lunch"), "{error}");
        }
    }

    #[test]
    fn options_read_the_same_in_both() {
        assert_eq!(
            line(&["fullmesh", "--except", "wg*,tun0", "--reset-delay", "250ms"]),
            file(r#"{"policy": "fullmesh", "except": ["wg*", "tun0"], "reset-delay": "250ms"}"#)
                .unwrap()
        );
    }
}
