// SPDX-License-Identifier: GPL-2.0
//! The running kernel, as far as the current network namespace goes.
//!
//! There is one thread and one poll; sockets are emptied before it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Poll};

use super::interface::Interface;
use super::module::Module;
use super::route::Route;
use super::{CLOSE_TIMEOUT, Capabilities, Error, Input, Kernel};
use crate::model::{Answer, Command, Connection, EventSet, LocalAddress, Statistics, Token};

const EVENTS: mio::Token = mio::Token(0);
const STOP: mio::Token = mio::Token(1);
const WAKE: mio::Token = mio::Token(2);

#[cfg(test)]
mod tests;

/// So many inputs are told at most before signals, questions and the time are looked at:
/// events that keep coming do not put them off.
const BATCH: u32 = 64;

/// The running kernel, in the network namespace of the thread that connects.
pub struct Client {
    interface: Box<dyn Interface>,
    route: Option<Route>,
    poll: Poll,
    ready: mio::Events,
    pending: VecDeque<Input>,
    /// Whether the interface may have something queued.
    readable: bool,
    stop: bool,
    wake: bool,
    /// Inputs told since the last poll.
    told: u32,
    start: Instant,
}

impl Client {
    /// Connects in the current network namespace. Needs CAP_NET_ADMIN in the user
    /// namespace that owns it, for all that follows.
    pub fn connect() -> Result<Self, Error> {
        Self::over(Box::new(Module::connect()?))
    }

    fn over(interface: Box<dyn Interface>) -> Result<Self, Error> {
        Ok(Self {
            interface,
            route: None,
            poll: Poll::new().map_err(Error::io("poll"))?,
            ready: mio::Events::with_capacity(4),
            pending: VecDeque::with_capacity(64),
            readable: false,
            stop: false,
            wake: false,
            told: 0,
            start: Instant::now(),
        })
    }

    /// Makes [`wait`](Kernel::wait) return [`Input::Stop`] once `fd`, for
    /// example a signalfd, is readable.
    pub fn stop_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), STOP)
    }

    /// Makes [`wait`](Kernel::wait) return [`Input::Wake`] when `fd`, which must
    /// not block, becomes readable. The caller reads it until it is empty: only
    /// then it is waited for again.
    pub fn wake_on(&self, fd: &impl AsRawFd) -> Result<(), Error> {
        self.watch(fd.as_raw_fd(), WAKE)
    }

    /// Gets what the kernel side has counted since it was loaded.
    pub fn statistics(&mut self) -> Result<Statistics, Error> {
        self.interface.statistics()
    }

    fn watch(&self, fd: RawFd, token: mio::Token) -> Result<(), Error> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(Error::io("poll"))
    }

    /// Polls, at most for this long, and notes what is ready.
    fn poll(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.told = 0;
        match self.poll.poll(&mut self.ready, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result.map_err(Error::io("poll"))?,
        }
        for ready in &self.ready {
            match ready.token() {
                STOP => self.stop = true,
                WAKE => self.wake = true,
                _ => self.readable = true,
            }
        }
        Ok(())
    }
}

impl AsRawFd for Client {
    /// A descriptor that becomes readable once there is an input again, after
    /// [`wait`](Kernel::wait) has told them all.
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("capabilities", &self.capabilities())
            .finish_non_exhaustive()
    }
}

impl Kernel for Client {
    fn capabilities(&self) -> Capabilities {
        self.interface.capabilities()
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn close_timeout(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/sys/net/mptcp/close_timeout");
        let seconds = text.ok().and_then(|text| text.trim().parse().ok());
        seconds.map_or(CLOSE_TIMEOUT, Duration::from_secs)
    }

    fn listen(&mut self, events: EventSet) -> Result<(), Error> {
        for descriptor in self.interface.listen(events)? {
            self.watch(descriptor, EVENTS)?;
            self.readable = true;
        }
        Ok(())
    }

    fn wait(&mut self, until: Option<Duration>) -> Result<Input, Error> {
        loop {
            let more = self.readable || !self.pending.is_empty();
            if more && self.told < BATCH {
                if let Some(input) = self.pending.pop_front() {
                    self.told += 1;
                    return Ok(input);
                }
                self.readable = self.interface.receive(&mut self.pending)?;
                continue;
            }
            let left = until.map(|until| until.saturating_sub(self.now()));
            self.poll(if more { Some(Duration::ZERO) } else { left })?;
            if self.stop {
                return Ok(Input::Stop);
            }
            if std::mem::take(&mut self.wake) {
                return Ok(Input::Wake);
            }
            // What is there by then is told before the time, up to a batch of it.
            let is_due = until.is_some_and(|until| self.now() >= until);
            if is_due && (more || !self.readable) {
                return Ok(Input::Time);
            }
        }
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        self.interface.connections()
    }

    fn connection(&mut self, token: Token) -> Result<Connection, Error> {
        self.interface.connection(token)
    }

    fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        let route = match &mut self.route {
            Some(route) => route,
            none => none.insert(Route::open()?),
        };
        Ok(route.addresses()?)
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        self.interface.command(command)
    }

    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        self.interface.commands(commands)
    }
}
