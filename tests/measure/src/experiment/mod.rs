// SPDX-License-Identifier: GPL-2.0
//! The evaluation of the paper ("SMAPP: Towards Smart Multipath TCP-enabled
//! APPlications", CoNEXT 2015, section 4), measured anew.
//!
//! An experiment is one file: its runs, what a run does in the guest, and what its
//! tables say on the host. The program `experiment` is the payload of one run, the
//! program `report` makes the runs and writes the report.

pub mod backup;
mod chapter;
mod document;
pub mod host;
pub mod latency;
pub mod long_lived;
mod plot;
pub mod refresh;
mod results;
pub mod streaming;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

pub use chapter::{Chapter, Claim, Comparison, Figure};
pub use document::{Preface, write};
pub use plot::{Axis, Plot};
pub use results::{Results, Table, table};

/// All experiments, in the order of the paper.
pub const ALL: [&dyn Experiment; 5] = [
    &long_lived::LongLived,
    &backup::Backup,
    &streaming::Streaming,
    &refresh::Refresh,
    &latency::Latency,
];

/// One experiment of the evaluation.
pub trait Experiment: Sync {
    /// Its word on the command line and in the names of files.
    fn name(&self) -> &'static str;

    /// Its runs. The first one is also made a second time, to see that a seed gives
    /// the same tables again: a short one.
    fn runs(&self, scale: Scale) -> Vec<Run>;

    /// Do one run, in the guest: write [`Table`]s into the directory `out`.
    ///
    /// A table has what was on the wire or what the kernel knew, never what a
    /// controller said.
    fn measure(&self, run: &Run, out: &Path) -> Result<()>;

    /// What the tables of all runs say, on the host.
    fn chapter(&self, results: &Results) -> Result<Chapter>;
}

/// The experiment of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Experiment> {
    ALL.into_iter().find(|experiment| experiment.name() == name)
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// What the report needs.
    Full,
    /// What is enough to see who wins.
    Quick,
}

/// One boot of the guest: a seed and the parameters of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Who decides, in words of the experiment: `kernel`, `smapp` ..
    pub variant: String,
    /// Of everything random in the guest (`qemu/run --seed`).
    pub seed: u64,
    /// One instruction takes 2^shift ns (`qemu/run --shift`).
    pub shift: u32,
    /// Further words and their values.
    pub parameters: Vec<(String, String)>,
}

impl Run {
    /// A run with seed 1 in which an instruction takes 1 ns.
    pub fn new(variant: &str) -> Self {
        Run {
            variant: variant.into(),
            seed: 1,
            shift: 0,
            parameters: Vec::new(),
        }
    }

    /// With this seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With 2^`shift` ns an instruction.
    pub fn shift(mut self, shift: u32) -> Self {
        self.shift = shift;
        self
    }

    /// With one more parameter.
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.parameters.push((name.into(), value.to_string()));
        self
    }

    /// The value of a parameter.
    pub fn text(&self, name: &str) -> Result<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        let (_, value) = found.with_context(|| format!("run {self} without {name}"))?;
        Ok(value)
    }

    /// The value of a parameter that is a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let value = self.text(name)?.parse().ok();
        value.with_context(|| format!("run {self}: {name} is no number of its kind"))
    }

    /// What the program `experiment` is called with, after the experiment's name.
    pub fn arguments(&self) -> Vec<String> {
        let parameters = self.parameters.iter();
        let parameters = parameters.map(|(name, value)| format!("{name}={value}"));
        [self.variant.clone()]
            .into_iter()
            .chain(parameters)
            .collect()
    }

    /// Options of `qemu/run`.
    pub fn options(&self) -> Vec<String> {
        let (seed, shift) = (self.seed.to_string(), self.shift.to_string());
        vec!["--seed".into(), seed, "--shift".into(), shift]
    }
}

/// As it is named in reports and in file names.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.variant)?;
        for (name, value) in &self.parameters {
            write!(f, ",{name}={value}")?;
        }
        if self.shift != 0 {
            write!(f, ",shift={}", self.shift)?;
        }
        write!(f, ",seed={}", self.seed)
    }
}

/// The value that so large a part of `values`, in order and not empty, does not exceed.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let rank = (values.len() as f64 * part).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The value in the middle of `values`, in order and not empty.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let parts = [0.0, 0.25, 0.5, 0.51, 1.0];
        assert_eq!(
            parts.map(|part| quantile(&values, part)),
            [1.0, 1.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn names_of_experiments_and_runs_are_unique() {
        for scale in [Scale::Full, Scale::Quick] {
            let mut names = Vec::new();
            for experiment in ALL {
                let runs = experiment.runs(scale);
                assert!(!runs.is_empty());
                names.extend(
                    runs.iter()
                        .map(|run| format!("{} {run}", experiment.name())),
                );
            }
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
