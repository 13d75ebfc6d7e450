// SPDX-License-Identifier: GPL-2.0
//! What goes wrong between this library and a kernel.

use std::io;

use crate::model::{Errno, Token};
use crate::netlink;

/// Whatever goes wrong between this library and a kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// The kernel refused a command.
    #[error("{command}: {errno}{}", detail(.message))]
    Refused {
        /// The command, by its name in the protocol.
        command: &'static str,
        /// Why, as a number.
        errno: Errno,
        /// Why in words: the message of the extended acknowledgement.
        message: Option<String>,
    },
    /// The interface of the kernel cannot be used; `why` is an error of that interface,
    /// for example [`module::Missing`](crate::module::Missing).
    #[error("{why}")]
    Unusable {
        /// Why, and what to type.
        why: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel lets only the administrator of the network namespace do what is named here.
    #[error("{0}: not permitted, needs CAP_NET_ADMIN: run as root, for example with sudo")]
    NotPermitted(&'static str),
    /// The policy asks for subflows faster than they may be opened, on the connection or
    /// to what peers announce; the kernel was not asked.
    #[error("subflow-create: {0}")]
    Throttled(&'static str),
    /// The connection has no subflow left, and the peer has refused its joins for half of
    /// the kernel's `close_timeout`: it does not know the connection any more. The kernel was
    /// not asked: it ends the connection that long after the last try.
    #[error(
        "subflow-create: no subflow is left and the peer refuses joins, it has lost the \
         connection: the kernel ends it after net.mptcp.close_timeout"
    )]
    Disowned,
    /// The policy was not given this connection; the kernel was not asked.
    #[error("connection {0} is not one of this policy's")]
    NotOurs(Token),
    /// The connections changed too often while they were listed.
    #[error("{0}: interrupted by changes too often, try again")]
    Interrupted(&'static str),
    /// The kernel did not answer.
    #[error("{0}: the kernel gave no answer")]
    NoAnswer(&'static str),
    /// A message of the kernel is cut off or inconsistent.
    #[error("{0}")]
    Malformed(netlink::Malformed),
}

impl Error {
    /// The errno, where the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Io { source, .. } => source.raw_os_error().map(|e| Errno(e.unsigned_abs())),
            Self::NotPermitted(_) => Some(Errno::EPERM),
            _ => None,
        }
    }

    /// Whether a refusal holds for the rest of the connection: it is plain TCP, the
    /// peer denies joins, it has no longer this path manager, or is over.
    pub fn is_final(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EOPNOTSUPP | Errno::EACCES | Errno::EPERM | Errno::ESRCH)
        ) || matches!(self, Self::NotOurs(_))
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(what),
            _ => Self::Io { what, source },
        }
    }

    pub(crate) fn unusable(why: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unusable { why: Box::new(why) }
    }
}

impl From<netlink::Error> for Error {
    fn from(error: netlink::Error) -> Self {
        match error {
            netlink::Error::Io { what, source } => Self::io(what)(source),
            // With a message it is this command that is refused, not this user.
            netlink::Error::Refused {
                request,
                errno,
                message: None,
            } if Errno(errno) == Errno::EPERM => Self::NotPermitted(request),
            netlink::Error::Refused {
                request,
                errno,
                message,
            } => Self::Refused {
                command: request,
                errno: Errno(errno),
                message,
            },
            netlink::Error::Interrupted(request) => Self::Interrupted(request),
            netlink::Error::NoAnswer(request) => Self::NoAnswer(request),
            netlink::Error::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

fn detail(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or(String::new(), |m| format!(" ({m})"))
}
