// SPDX-License-Identifier: GPL-2.0
//! The tool `smapp`.
#![forbid(unsafe_code)]

mod address;
mod cli;
mod connection;
mod logger;
mod manual;
mod monitor;
mod output;
mod run;
mod signal;
mod stats;
mod status;
mod subflow;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::install(cli.verbose);
    let result = match &cli.command {
        Command::Status => status::status(cli.json),
        Command::Monitor { events, connection } => monitor::monitor(events, *connection, cli.json),
        Command::Connection(command) => connection::connection(command, cli.json),
        Command::Subflow(command) => subflow::subflow(command, cli.json),
        Command::Address(command) => address::address(command, cli.json),
        Command::Stats => stats::stats(cli.json),
        Command::Run { seed, policy } => run::run(policy, *seed),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { directory } => manual::man(directory),
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

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}
