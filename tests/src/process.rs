// SPDX-License-Identifier: GPL-2.0
//! Processes that run beside a test and are read line by line.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::netns::Netns;
use crate::wait::{DEADLINE, wait_for};

/// A process in a network namespace; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Start a program. What it writes to stdout and to stderr is collected, in
    /// the order in which it comes.
    pub fn start(host: &Netns, program: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(args);
        Self::start_command(host, command)
    }

    /// As [`Process::start`], for a command prepared by the caller.
    pub fn start_command(host: &Netns, mut command: Command) -> Result<Self> {
        let name = format!("{:?}", command.get_program());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = host
            .enter(|| command.spawn())
            .with_context(|| format!("cannot run {name}"))?;
        let (sender, lines) = channel();
        read_lines(
            child.stdout.take().expect("stdout is piped"),
            sender.clone(),
        );
        read_lines(child.stderr.take().expect("stderr is piped"), sender);
        Ok(Process {
            name,
            child,
            lines,
            seen: Vec::new(),
        })
    }

    /// The next line, or `None` when none came in time or none will come.
    pub fn line(&mut self, deadline: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(deadline).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Read lines until one is wanted.
    pub fn expect(
        &mut self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let end = Instant::now() + deadline;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "{}: expected {what} within {} s, seen:\n{}",
                    self.name,
                    deadline.as_secs_f32(),
                    self.seen.join("\n")
                ),
                Err(RecvTimeoutError::Disconnected) => bail!(
                    "{}: expected {what}, but it ended, seen:\n{}",
                    self.name,
                    self.seen.join("\n")
                ),
            }
        }
    }

    /// All lines read so far.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Wait for its end, which must be near, and read the rest of its lines.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = wait_for(&format!("the end of {}", self.name), DEADLINE, || {
            self.child.try_wait()?.context("it still runs")
        })?;
        self.seen.extend(self.lines.iter());
        Ok(status)
    }

    /// Stop it as Ctrl-C does, wait for its end: it must end by itself.
    pub fn interrupt(&mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let status = self.wait()?;
        // Either way is clean: to handle the signal or to die of it.
        if status.success() || status.signal() == Some(Signal::INT.as_raw()) {
            return Ok(());
        }
        bail!(
            "{}: {status} after SIGINT, seen:\n{}",
            self.name,
            self.seen.join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.seen.extend(self.lines.try_iter());
            eprintln!("{} wrote:\n{}", self.name, self.seen.join("\n"));
        }
    }
}

fn read_lines(pipe: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        let lines = BufReader::new(pipe).lines();
        lines
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
}
