// SPDX-License-Identifier: GPL-2.0
//! The tests of a test binary, each in a sandbox of its own, several at a time.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::here::limits::{self, Lack};
use crate::here::sandbox::Sandbox;
use crate::kernel_interface::KernelInterface;

/// How to go about it.
#[derive(Debug)]
pub struct Suite {
    /// The test binary.
    pub binary: PathBuf,
    /// Where the programs under test are.
    pub programs: PathBuf,
    /// What the tests are about.
    pub interface: KernelInterface,
    /// Parts of names; none: all tests.
    pub filters: Vec<String>,
    /// Run those as well that wait for minutes.
    pub slow: bool,
    /// Tests at a time.
    pub jobs: usize,
    /// How long one may take.
    pub timeout: Duration,
}

/// What came of a test.
#[derive(Debug)]
enum Outcome {
    Passed,
    Failed(String),
    /// As it is on the list.
    Cannot(Lack),
    /// Though it is on the list.
    PassedAllTheSame(Lack),
    NotTried(Lack),
}

impl Outcome {
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

impl Suite {
    /// Run the tests and print what came of them; an error if not all is well.
    pub fn run(&self) -> Result<()> {
        let all = self.names()?;
        let stale = limits::stale(&all);
        ensure!(stale.is_empty(), "limits.rs names no test: {stale:?}");
        let chosen = |name: &String| {
            let mut filters = self.filters.iter();
            self.filters.is_empty() || filters.any(|filter| name.contains(filter))
        };
        let tests: VecDeque<_> = all.into_iter().filter(chosen).collect();
        println!(
            "running {} tests on this kernel, over its interface \"{}\", {} at a time",
            tests.len(),
            self.interface.word(),
            self.jobs
        );
        let since = Instant::now();
        let queue = Mutex::new(tests);
        let outcomes = Mutex::new(Vec::new());
        let work = || -> Result<()> {
            while let Some(name) = take(&queue) {
                let since = Instant::now();
                let outcome = self.judge(&name)?;
                println!(
                    "test {name} ... {outcome} ({:.1} s)",
                    since.elapsed().as_secs_f32()
                );
                outcomes
                    .lock()
                    .expect("no thread panics")
                    .push((name, outcome));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("no thread panics"))
        })?;
        summary(&outcomes.into_inner()?, since.elapsed())
    }

    /// The names of all tests.
    fn names(&self) -> Result<Vec<String>> {
        let list = Command::new(&self.binary)
            .args(["--list", "--format", "terse"])
            .output();
        let list = list.with_context(|| format!("cannot run {}", self.binary.display()))?;
        let text = String::from_utf8(list.stdout)?;
        let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
        let names: Vec<_> = names.map(str::to_string).collect();
        ensure!(!names.is_empty(), "{} has no tests", self.binary.display());
        Ok(names)
    }

    fn judge(&self, name: &str) -> Result<Outcome> {
        let lack = limits::lack(name, self.interface);
        if let (Some(lack @ Lack::VirtualTime), false) = (lack, self.slow) {
            return Ok(Outcome::NotTried(lack));
        }
        let (passed, output) = self.test(name)?;
        Ok(match (lack, passed) {
            (None | Some(Lack::VirtualTime), true) => Outcome::Passed,
            (None | Some(Lack::VirtualTime), false) => Outcome::Failed(output),
            (Some(lack), true) => Outcome::PassedAllTheSame(lack),
            (Some(lack), false) => Outcome::Cannot(lack),
        })
    }

    /// Run one test; whether it has passed, and what it said.
    fn test(&self, name: &str) -> Result<(bool, String)> {
        let sandbox = Sandbox {
            programs: &self.programs,
            timeout: self.timeout,
            interface: self.interface,
        };
        let binary = self
            .binary
            .to_str()
            .context("the path of the tests is not UTF-8")?;
        let output = sandbox.output(&[binary, "--exact", name])?;
        let text = [output.stdout, output.stderr].concat();
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if output.status.code() == Some(KILLED) {
            text += &format!("no end within {} s\n", self.timeout.as_secs());
        }
        Ok((output.status.success(), text))
    }
}

/// What is said of a process that was killed.
const KILLED: i32 = 137;

fn take(queue: &Mutex<VecDeque<String>>) -> Option<String> {
    queue.lock().expect("no thread panics").pop_front()
}

fn summary(outcomes: &[(String, Outcome)], took: Duration) -> Result<()> {
    let mut counts = [0; 4];
    for (name, outcome) in outcomes {
        let (index, trouble) = match outcome {
            Outcome::Passed => (0, None),
            Outcome::Failed(output) => (1, Some(output)),
            Outcome::PassedAllTheSame(_) => (1, None),
            Outcome::Cannot(_) => (2, None),
            Outcome::NotTried(_) => (3, None),
        };
        counts[index] += 1;
        if let Some(output) = trouble {
            println!("\n---- {name} ----\n{}", output.trim_end());
        }
    }
    let [passed, failed, cannot, not_tried] = counts;
    println!(
        "\n{passed} passed, {failed} failed, {cannot} cannot here and {not_tried} not tried \
         (tests/src/here/limits.rs), in {:.1} s",
        took.as_secs_f32()
    );
    let told = outcomes.iter().filter(|(_, outcome)| outcome.is_failure());
    let told: Vec<_> = told.map(|(name, _)| name.as_str()).collect();
    ensure!(told.is_empty(), "failed: {}", told.join(", "));
    ensure!(passed > 0, "no test has passed: none has this name?");
    Ok(())
}
