// SPDX-License-Identifier: GPL-2.0
//! The policies by their names, for the command line and for configuration files.

use clap::Subcommand;
use serde::Deserialize;

use crate::controller::{Controller, backup, fullmesh, limit, ndiffports, refresh, streaming};

/// A policy with its options. In a file it is a table with one key, the word
/// for it, which has the table of its options.
#[derive(Clone, Debug, PartialEq, Subcommand, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A subflow between every local address and every address of the server
    ///
    /// For each connection that this host opens, and for those that are open
    /// already: one subflow from each usable local address to the server and to
    /// each address that it announces. A subflow that is lost is opened again,
    /// after a delay that depends on why it was lost.
    Fullmesh(fullmesh::Options),
    /// One path at a time, another when it is really bad
    ///
    /// For each connection that this host opens: no subflow on a backup path until
    /// the retransmission timeout of the subflow in use exceeds a threshold; then
    /// one is opened there and the bad one is closed once it works. Later the
    /// connection goes back to the primary path.
    Backup(backup::Options),
    /// A second path when a block is about to be late
    ///
    /// For applications that send a block every period: half-way through it, a
    /// subflow on another path if the peer has acknowledged less than half of the
    /// block. Subflows whose retransmission timeout is too long are closed.
    Streaming(streaming::Options),
    /// Several subflows from random ports, the slowest replaced
    ///
    /// For networks that spread flows over several paths by their ports: compares
    /// the rates of the subflows every few seconds, replaces the slowest, and
    /// rests once they are alike.
    Refresh(refresh::Options),
    /// Several subflows on the addresses of the first
    ///
    /// For networks that spread flows over several paths by their ports.
    Ndiffports(ndiffports::Options),
    /// For servers: at most so many subflows
    ///
    /// A subflow that a client opens beyond a limit is closed with a reset.
    Limit(limit::Options),
}

impl Policy {
    /// The word for it on the command line and in files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fullmesh(_) => "fullmesh",
            Self::Backup(_) => "backup",
            Self::Streaming(_) => "streaming",
            Self::Refresh(_) => "refresh",
            Self::Ndiffports(_) => "ndiffports",
            Self::Limit(_) => "limit",
        }
    }

    /// A controller that acts on it; `seed` determines what is random in it.
    pub fn controller(&self, seed: u64) -> Box<dyn Controller> {
        match self.clone() {
            Self::Fullmesh(options) => Box::new(fullmesh::Fullmesh::new(options, seed)),
            Self::Backup(options) => Box::new(backup::Backup::new(options, seed)),
            Self::Streaming(options) => Box::new(streaming::Streaming::new(options, seed)),
            Self::Refresh(options) => Box::new(refresh::Refresh::new(options, seed)),
            Self::Ndiffports(options) => Box::new(ndiffports::Ndiffports::new(options, seed)),
            Self::Limit(options) => Box::new(limit::Limit::new(options)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        policy: Policy,
    }

    const WORDS: [&str; 6] = [
        "fullmesh",
        "backup",
        "streaming",
        "refresh",
        "ndiffports",
        "limit",
    ];

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
            let policy = file(&format!(r#"{{"{word}": {{}}}}"#)).unwrap();
            assert_eq!(policy, line(&[word]));
            assert_eq!(policy.word(), word);
        }
    }

    /// What docs/controllers.md says of a policy, without the heading.
    fn section(word: &str) -> &'static str {
        let page = include_str!("../../docs/controllers.md");
        let heading = format!("\n## {word}\n");
        let (_, rest) = page.split_once(&heading).expect(word);
        rest.split("\n## ").next().unwrap()
    }

    /// The options in the table of a section, with their defaults.
    fn documented(section: &'static str) -> Vec<(&'static str, &'static str)> {
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `--"));
        let row = |line: &'static str| {
            let (option, rest) = line.split_once('`').unwrap();
            let name = option.split(' ').next().unwrap();
            (name, rest.split('|').nth(1).unwrap().trim())
        };
        rows.map(row).collect()
    }

    #[test]
    fn the_page_has_every_policy_and_option_with_its_default() {
        let line = Line::command();
        let words: Vec<_> = line
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(words, WORDS);
        for policy in line.get_subcommands() {
            let word = policy.get_name();
            let known = policy
                .get_arguments()
                .filter_map(|a| Some((a.get_long()?, a)));
            let known: Vec<_> = known.collect();
            let documented = documented(section(word));
            let names: Vec<_> = documented.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                names,
                known.iter().map(|k| k.0).collect::<Vec<_>>(),
                "{word}"
            );
            for ((name, default), (_, arg)) in documented.iter().zip(known) {
                // The others say in their help what holds without them.
                if let [value] = arg.get_default_values() {
                    assert_eq!(value.to_str(), Some(*default), "{word} --{name}");
                }
            }
        }
    }

    #[test]
    fn an_option_that_does_not_exist_is_refused() {
        for word in WORDS {
            let error = file(&format!(r#"{{"{word}": {{"lunch": 1}}}}"#)).unwrap_err();
            assert!(error.to_string().contains("lunch"), "{error}");
        }
    }

    #[test]
    fn options_read_the_same_in_both() {
        assert_eq!(
            line(&["fullmesh", "--except", "wg*,tun0", "--reset-delay", "250ms"]),
            file(r#"{"fullmesh": {"except": ["wg*", "tun0"], "reset-delay": "250ms"}}"#).unwrap()
        );
    }
}
