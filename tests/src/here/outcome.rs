// SPDX-License-Identifier: GPL-2.0
//! What came of tests, for people and for programs.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::here::limits::{Lack, Setting};

/// What came of a test.
#[derive(Debug)]
pub enum Outcome {
    /// It has passed.
    Passed,
    /// It has failed, and what it said.
    Failed(String),
    /// It has failed, as the list says.
    Cannot(Lack),
    /// It has passed, though the list says that it cannot.
    PassedAllTheSame(Lack),
    /// It would take too long.
    NotTried(Lack),
}

impl Outcome {
    /// For programs: a word, and what is lacking.
    fn word(&self) -> (&'static str, Option<Lack>) {
        match self {
            Outcome::Passed => ("passed", None),
            Outcome::Failed(_) => ("failed", None),
            Outcome::Cannot(lack) => ("cannot", Some(*lack)),
            Outcome::PassedAllTheSame(lack) => ("passed-all-the-same", Some(*lack)),
            Outcome::NotTried(lack) => ("not-tried", Some(*lack)),
        }
    }

    fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::PassedAllTheSame(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => write!(f, "ok"),
            Outcome::Failed(_) => write!(f, "FAILED"),
            Outcome::Cannot(lack) => write!(f, "cannot: {lack}"),
            Outcome::PassedAllTheSame(lack) => {
                write!(f, "FAILED: it passes, though limits.rs says: {lack}")
            }
            Outcome::NotTried(lack) => write!(f, "not tried: {lack}"),
        }
    }
}

/// Print what has failed and how many have not; an error if one has failed.
pub fn summary(outcomes: &[(String, Outcome)], took: Duration) -> Result<()> {
    for (name, outcome) in outcomes {
        if let Outcome::Failed(output) = outcome {
            println!("\n---- {name} ----\n{}", output.trim_end());
        }
    }
    let count = |word| {
        let words = outcomes.iter().map(|(_, outcome)| outcome.word().0);
        words.filter(|other| *other == word).count()
    };
    let passed = count("passed");
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_failure());
    let failed: Vec<_> = failed.map(|(name, _)| name.as_str()).collect();
    println!(
        "\n{passed} passed, {} failed, {} cannot here and {} not tried (tests/src/here/limits.rs), \
         in {:.1} s",
        failed.len(),
        count("cannot"),
        count("not-tried"),
        took.as_secs_f32()
    );
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    ensure!(passed > 0, "no test has passed: does none have this name?");
    Ok(())
}

/// Write a table: kernel, its interface, test, outcome, what is lacking.
pub fn write(file: &Path, setting: Setting, outcomes: &[(String, Outcome)]) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let (release, interface) = (release.trim(), setting.interface.word());
    let lines = outcomes.iter().map(|(name, outcome)| {
        let (word, lack) = outcome.word();
        let lack = lack.map(|lack| lack.to_string()).unwrap_or_default();
        format!("{release}\t{interface}\t{name}\t{word}\t{lack}\n")
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    fs::write(file, lines.concat()).with_context(|| format!("cannot write {}", file.display()))
}
