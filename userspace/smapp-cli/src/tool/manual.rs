// SPDX-License-Identifier: GPL-2.0
//! `smapp completions` and `smapp man`: what the grammar says, for shells and for man.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "smapp", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(directory: &Path) -> Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("man pages in {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
