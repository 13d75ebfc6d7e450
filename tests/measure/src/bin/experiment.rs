// SPDX-License-Identifier: GPL-2.0
//! One run of an experiment, in the guest: the payload of `qemu/run`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use smapp_measure::experiment::{self, Run};

/// Do one run of an experiment; works in the guest only.
///
///   qemu/run --out DIR --seed 3 .../experiment backup smapp loss=30
///
/// leaves its tables in DIR. `make experiments` does all runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The experiment
    name: String,
    /// Who decides: a word of the experiment
    variant: String,
    /// Parameters, NAME=VALUE
    parameters: Vec<String>,
    /// Where the tables go
    #[arg(long, default_value = "/out")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("experiment: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let Arguments { name, variant, .. } = arguments;
    let names = experiment::ALL.map(|known| known.name()).join(", ");
    let experiment = experiment::by_name(name)
        .with_context(|| format!("no experiment {name}, there are: {names}"))?;
    ensure!(
        std::process::id() != 1 && std::fs::exists("/lib/smapp")?,
        "this is no guest: use qemu/run"
    );
    let mut run = Run::new(variant);
    for parameter in &arguments.parameters {
        let (name, value) = parameter
            .split_once('=')
            .with_context(|| format!("{parameter} is not NAME=VALUE"))?;
        run = run.with(name, value);
    }
    let what = || format!("{name} {}", run.arguments().join(" "));
    experiment.measure(&run, &arguments.out).with_context(what)
}
