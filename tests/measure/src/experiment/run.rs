// SPDX-License-Identifier: GPL-2.0
//! One run of an experiment, and how many there are.

use std::fmt;

use anyhow::{Context, Result};

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
