// SPDX-License-Identifier: GPL-2.0
//! Where `smapp why` asks the daemon.
//!
//! The daemon never waits for who asks. The answer is one datagram to a socket that is
//! empty, so it has room there; an answer that has none is dropped.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::sys::stat::{Mode, umask};
use smapp::{Engine, Kernel, Policy, Token};

use crate::output;
use crate::why_protocol::{DecisionLine, socket_path};

/// Where the daemon is asked; the socket is removed when dropped.
pub struct WhySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl WhySocket {
    /// Opens the socket of this network namespace; none, with a warning, if the
    /// socket cannot be made. There can be only one: two daemons would fight.
    pub fn open() -> Result<Option<Self>> {
        let path = socket_path()?;
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
    pub fn answer<K: Kernel, P: Policy>(&self, engine: &Engine<K, P>) {
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

impl AsRawFd for WhySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for WhySocket {
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

/// The last decisions for a connection, a line of JSON each.
fn decisions<K: Kernel, P: Policy>(engine: &Engine<K, P>, token: Token) -> String {
    let (now, clock) = (output::now(), engine.kernel().now());
    let mut lines = String::new();
    for decision in engine.decisions(token) {
        let line = DecisionLine {
            time: (now.saturating_sub(clock.saturating_sub(decision.time))).as_secs_f64(),
            token: token.to_string(),
            event: decision.event.to_owned(),
            rule: decision.rule.as_deref().map(str::to_owned),
            text: decision.text.clone(),
        };
        lines.extend(serde_json::to_string(&line));
        lines.push('\n');
    }
    lines
}
