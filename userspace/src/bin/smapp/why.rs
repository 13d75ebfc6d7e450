// SPDX-License-Identifier: GPL-2.0
//! `smapp why`: a question to the daemon of this network namespace, and its answer.
//!
//! Both are one datagram of a unix socket: a token, and a line of JSON for each
//! decision. The daemon sends without waiting; the socket of who asks is empty,
//! so the answer has room in it, and one that finds none is dropped.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use smapp::{Backend, Controller, Engine, Token};

use crate::output;

/// Where the sockets are, one a network namespace.
const DIRECTORY: &str = "/run/smapp";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than an answer has.
const LONGEST_ANSWER: usize = 128 * 1024;

/// A decision as it is told.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Told {
    /// Seconds since 1970.
    time: f64,
    token: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    text: String,
}

/// Where the daemon is asked; the socket is removed when dropped.
pub struct Desk {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Desk {
    /// Opens the desk of this network namespace; none, with a warning, if the
    /// socket cannot be made. There can be only one: two daemons would fight.
    pub fn open() -> Result<Option<Self>> {
        let path = path()?;
        if UnixDatagram::unbound()?.connect(&path).is_ok() {
            bail!(
                "another `smapp run` works in this network namespace, at {}: stop it first",
                path.display()
            );
        }
        match listen(&path) {
            Ok(socket) => Ok(Some(Self { socket, path })),
            Err(error) => {
                log::warn!("{}: {error}: `smapp why` will not work", path.display());
                Ok(None)
            }
        }
    }

    /// Answers all who have asked.
    pub fn answer<B: Backend, C: Controller>(&self, engine: &Engine<B, C>) {
        let mut question = [0; 64];
        while let Ok((length, from)) = self.socket.recv_from(&mut question) {
            let text = String::from_utf8_lossy(&question[..length]);
            let Ok(token) = text.parse::<Token>() else {
                continue;
            };
            let answer = decisions(engine, token);
            if let Err(error) = self.socket.send_to_addr(answer.as_bytes(), &from) {
                log::warn!("`smapp why {token}`: the answer is dropped: {error}");
            }
        }
    }
}

impl AsRawFd for Desk {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Only its owner, and root, may ask.
    let before = umask(Mode::from_bits_truncate(0o177));
    let socket = UnixDatagram::bind(path);
    umask(before);
    let socket = socket?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The socket of the daemon in this network namespace.
fn path() -> Result<PathBuf> {
    let directory = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or(DIRECTORY.into());
    let namespace = fs::metadata("/proc/thread-self/ns/net").context("network namespace")?;
    Ok(Path::new(&directory).join(format!("{}.sock", namespace.ino())))
}

/// The last decisions for a connection, a line of JSON each.
fn decisions<B: Backend, C: Controller>(engine: &Engine<B, C>, token: Token) -> String {
    let (now, clock) = (output::now(), engine.backend().now());
    let mut lines = String::new();
    for decision in engine.decisions(token) {
        let told = Told {
            time: (now.saturating_sub(clock.saturating_sub(decision.time))).as_secs_f64(),
            token: token.to_string(),
            event: decision.event.to_owned(),
            rule: decision.rule.as_deref().map(str::to_owned),
            text: decision.text.clone(),
        };
        lines.extend(serde_json::to_string(&told));
        lines.push('\n');
    }
    lines
}

pub fn why(token: Token, json: bool) -> Result<ExitCode> {
    let path = path()?;
    let answer = match ask(&path, token) {
        Ok(answer) => answer,
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => bail!(
                "no daemon runs in this network namespace (nobody at {}): \
                 start one, for example with `smapp run fullmesh`",
                path.display()
            ),
            ErrorKind::PermissionDenied => bail!(
                "{}: only root and the user of the daemon may ask: try sudo",
                path.display()
            ),
            ErrorKind::WouldBlock => bail!("the daemon at {} does not answer", path.display()),
            _ => return Err(error).with_context(|| path.display().to_string()),
        },
    };
    if answer.is_empty() {
        bail!("{token}: nothing was decided (`smapp connection list` shows what exists)");
    }
    for line in answer.lines() {
        let told: Told = serde_json::from_str(line).context("answer of the daemon")?;
        match json {
            true => output::json(&told)?,
            false => output::line(&text(&told))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(told: &Told) -> String {
    let time = output::clock(Duration::from_secs_f64(told.time));
    let rule = told.rule.as_ref().map(|rule| format!("[{rule}] "));
    format!("{time} {}{}", rule.unwrap_or_default(), told.text)
}

fn ask(path: &Path, token: Token) -> io::Result<String> {
    // A name for the answer to come to, which the kernel chooses.
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
    let socket = UnixDatagram::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(path)?;
    socket.send(token.to_string().as_bytes())?;
    let mut answer = vec![0; LONGEST_ANSWER];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    String::from_utf8(answer).map_err(|_| ErrorKind::InvalidData.into())
}
