// SPDX-License-Identifier: GPL-2.0
//! The tool `smapp`.
#![forbid(unsafe_code)]

mod cli;
mod connection;
mod logger;
mod monitor;
mod output;
mod run;
mod signal;
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
        Command::Monitor { events } => monitor::monitor(events, cli.json),
        Command::Connection(command) => connection::connection(command, cli.json),
        Command::Subflow(command) => subflow::subflow(command, cli.json),
        Command::Run(policy) => run::run(policy),
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
