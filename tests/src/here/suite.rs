// SPDX-License-Identifier: GPL-2.0
//! The tests of a test binary, each in a process of its own: several at a time, in
//! sandboxes, or one after the other on a kernel that nobody else uses.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::here::limits::{self, Lack, Setting};
use crate::here::outcome::{self, Outcome};
use crate::here::sandbox::Sandbox;
use crate::kernel_interface::KernelInterface;

/// How to go about it.
#[derive(Debug)]
pub struct Suite {
    /// The test binary.
    pub binary: PathBuf,
    /// Where the programs under test are.
    pub programs: PathBuf,
    /// What kernel it is, and what the tests are to use of it.
    pub setting: Setting,
    /// Parts of names; none: all tests.
    pub filters: Vec<String>,
    /// Show what tests say that pass.
    pub verbose: bool,
    /// Run those as well that wait for minutes.
    pub slow: bool,
    /// Where to write what came of them, for programs.
    pub results: Option<PathBuf>,
    /// Tests at a time.
    pub jobs: usize,
    /// How long one may take.
    pub timeout: Duration,
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
            self.setting.interface.word(),
            self.jobs
        );
        let since = Instant::now();
        let queue = Mutex::new(tests);
        let outcomes = Mutex::new(Vec::new());
        let work = || -> Result<()> {
            while let Some(name) = take(&queue) {
                let since = Instant::now();
                let start = format!("test {name} ...");
                // One after the other: who waits knows for what.
                let alone = self.jobs == 1;
                if alone {
                    print!("{start}");
                    std::io::stdout().flush()?;
                }
                let outcome = self.judge(&name)?;
                let start = if alone { "" } else { &start };
                println!("{start} {outcome} ({:.1} s)", since.elapsed().as_secs_f32());
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
        let outcomes = outcomes.into_inner()?;
        if let Some(file) = &self.results {
            outcome::write(file, self.setting, &outcomes)?;
        }
        outcome::summary(&outcomes, since.elapsed())
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
        let lack = limits::lack(name, self.setting);
        if let (Some(lack @ Lack::VirtualTime), false) = (lack, self.slow) {
            return Ok(Outcome::NotTried(lack));
        }
        let (passed, output) = self.test(name)?;
        if self.verbose {
            println!("{}", output.trim_end());
        }
        Ok(match (lack, passed) {
            (None | Some(Lack::VirtualTime), true) => Outcome::Passed,
            (None | Some(Lack::VirtualTime), false) => Outcome::Failed(output),
            (Some(lack), true) => Outcome::PassedAllTheSame(lack),
            (Some(lack), false) => Outcome::Cannot(lack),
        })
    }

    /// Run one test; whether it has passed, and what it said.
    fn test(&self, name: &str) -> Result<(bool, String)> {
        let interface = self.setting.interface;
        let output = if self.setting.own_kernel {
            let mut command = Command::new(&self.binary);
            command.env(KernelInterface::VARIABLE, interface.word());
            command.args(["--nocapture", "--exact", name]).output()?
        } else {
            let sandbox = Sandbox {
                programs: &self.programs,
                timeout: self.timeout,
                interface,
            };
            let binary = self
                .binary
                .to_str()
                .context("the path of the tests is not UTF-8")?;
            sandbox.output(&[binary, "--nocapture", "--exact", name])?
        };
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
