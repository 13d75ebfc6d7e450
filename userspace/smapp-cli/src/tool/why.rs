// SPDX-License-Identifier: GPL-2.0
//! `smapp why`: a question to the daemon of this network namespace, and its answer.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use smapp::Token;

use crate::output;
use crate::why_protocol::{DecisionLine, socket_path};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// In bytes: more than the decisions that the daemon keeps for a connection.
const LONGEST_ANSWER: usize = 128 * 1024;

pub fn why(token: Token, json: bool) -> Result<ExitCode> {
    let path = socket_path()?;
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
        let decision: DecisionLine = serde_json::from_str(line).context("answer of the daemon")?;
        match json {
            true => output::json(&decision)?,
            false => output::line(&text(&decision))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(decision: &DecisionLine) -> String {
    let time = output::clock(Duration::from_secs_f64(decision.time));
    let rule = decision.rule.as_ref().map(|rule| format!("[{rule}] "));
    format!("{time} {}{}", rule.unwrap_or_default(), decision.text)
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
