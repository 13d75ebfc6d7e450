// SPDX-License-Identifier: GPL-2.0
//! `smapp run`: policies for the connections of a network namespace, until it is told to
//! end.

mod notify;
mod privileges;
mod why_socket;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use smapp::policy::PolicyOptions;
use smapp::rules::{Config, Dispatch, Invalid, Rule};
use smapp::{Client, Engine, Kernel};

use self::notify::Manager;
use self::privileges::{TO_BEGIN, TO_GO_ON};
use self::why_socket::WhySocket;
use crate::cli::Cli;
use crate::interface::{Choice, other_path_manager};
use crate::logger::STATUS;
use crate::signal;

/// Where the rules come from.
enum Source<'a> {
    File(&'a Path),
    Line(&'a PolicyOptions),
}

impl Source<'_> {
    fn rules(&self) -> Result<Vec<Rule>, Invalid> {
        match self {
            Self::File(path) => {
                let config = Config::read(path)?;
                for doubt in config.doubts() {
                    log::warn!("{}: {doubt}", path.display());
                }
                Ok(config.rules)
            }
            Self::Line(policy) => Ok(vec![Rule::every("command line", (*policy).clone())]),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Line(policy) => policy.word().to_owned(),
        }
    }
}

/// Runs until SIGTERM or SIGINT. Fails if the rules are wrong, if the kernel cannot be
/// used, or if another daemon runs in this network namespace.
pub fn run(
    kernel: Choice,
    config: Option<&Path>,
    policy: Option<&PolicyOptions>,
    seed: Option<u64>,
) -> Result<ExitCode> {
    let source = match (config, policy) {
        (Some(path), None) => Source::File(path),
        (None, Some(policy)) => Source::Line(policy),
        _ => Cli::command()
            .error(
                ErrorKind::ArgumentConflict,
                "expected a policy, like `smapp run fullmesh`, or --config FILE; not both",
            )
            .exit(),
    };
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let rules = source.rules()?;
    privileges::keep(TO_BEGIN)?;
    let signals = signal::end_and_reload()?;
    let client = kernel.connect()?;
    client.wake_on(&signals)?;
    let why_socket = WhySocket::open()?;
    if let Some(why_socket) = &why_socket {
        client.wake_on(why_socket)?;
    }
    if let Some(problem) = other_path_manager(kernel.kind()) {
        log::warn!("{problem}");
    }
    let mut daemon = Daemon {
        engine: Engine::new(client, Dispatch::new(rules, seed)),
        source,
        signals,
        why_socket,
        manager: Manager::find(),
    };
    daemon.engine.attach()?;
    privileges::keep(TO_GO_ON)?;
    for lack in daemon.engine.kernel().capabilities().lacks {
        log::warn!("without {}: {}", lack.what, lack.cost);
    }
    daemon.serve()
}

struct Daemon<'a> {
    engine: Engine<Client, Dispatch>,
    source: Source<'a>,
    signals: SignalFd,
    why_socket: Option<WhySocket>,
    manager: Manager,
}

impl Daemon<'_> {
    fn serve(&mut self) -> Result<ExitCode> {
        let status = self.status();
        self.tell(&status);
        while self.engine.step(None)? {
            if self.engine.woken() && self.wake()? {
                break;
            }
        }
        self.manager.stopping();
        Ok(ExitCode::SUCCESS)
    }

    /// Logs the state, and tells it to the service manager.
    fn tell(&self, status: &str) {
        log::info!(target: STATUS, "{status}");
        self.manager.ready(status);
    }

    fn status(&self) -> String {
        let attached = self.engine.connections().count();
        let name = self.source.name();
        format!("{name} is running, {attached} connections attached")
    }

    /// Acts on signals and answers questions; true to end.
    fn wake(&mut self) -> Result<bool> {
        let (mut reload, mut end) = (false, false);
        while let Some(info) = self.signals.read_signal()? {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => reload = true,
                _ => end = true,
            }
        }
        if let Some(why_socket) = &self.why_socket {
            why_socket.answer(&self.engine);
        }
        if reload && !end {
            self.manager.reloading();
            let status = match self.reload() {
                Ok(()) => format!("{}, reloaded", self.status()),
                Err(error) => {
                    log::error!("the old rules stay in force: {error}");
                    let error = error.to_string();
                    let first = error.lines().next().unwrap_or_default();
                    format!("not reloaded: {first}")
                }
            };
            self.tell(&status);
        }
        Ok(end)
    }

    fn reload(&mut self) -> Result<()> {
        if let Source::Line(_) = self.source {
            bail!("started without --config, there is nothing to read again");
        }
        let rules = self.source.rules()?;
        let engine = &mut self.engine;
        engine.control(|dispatch, context| dispatch.reload(context, rules))?;
        Ok(())
    }
}
