// SPDX-License-Identifier: GPL-2.0
//! The tool `smapp`.
#![forbid(unsafe_code)]

mod cli;
mod command_words;
mod daemon;
mod interface;
mod logger;
mod namespace;
mod output;
mod policy_arguments;
mod signal;
mod tool;
mod why_protocol;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use cli::{Cli, Command};
use interface::Choice;
use tool::{address, config, connection, manual, monitor, stats, status, subflow, why};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::install(cli.verbose, cli.json);
    let result = match &cli.namespace {
        Some(name) => namespace::enter(name).and_then(|()| command(&cli)),
        None => command(&cli),
    };
    match result {
        Ok(code) => code,
        // The reader of our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "smapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(cli: &Cli) -> Result<ExitCode> {
    let kernel = Choice(cli.kernel);
    match &cli.command {
        Command::Status => status::status(kernel, cli.json),
        Command::Monitor { events, connection } => {
            monitor::monitor(kernel, events, *connection, cli.json)
        }
        Command::Connection(command) => connection::connection(kernel, command, cli.json),
        Command::Subflow(command) => subflow::subflow(kernel, command, cli.json),
        Command::Address(command) => address::address(kernel, command, cli.json),
        Command::Stats => stats::stats(kernel, cli.json),
        Command::Run {
            config,
            seed,
            policy,
        } => daemon::run(
            kernel,
            config.as_deref(),
            policy.as_ref().map(|p| &p.0),
            *seed,
        ),
        Command::Why { token } => why::why(*token, cli.json),
        Command::Config(cli::Config::Check { file }) => config::check(file, cli.json),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { directory } => manual::man(directory),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}
