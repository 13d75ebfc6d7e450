// SPDX-License-Identifier: GPL-2.0
//! The one error type of the library.

use std::fmt;
use std::io;

use serde::Serialize;

use crate::family::Missing;

/// An errno as the kernel gives it, positive; 0 is no error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Errno(pub u32);

#[allow(missing_docs)] // the names of errno(3)
impl Errno {
    pub const EPERM: Self = Self(1);
    pub const ENOENT: Self = Self(2);
    pub const ESRCH: Self = Self(3);
    pub const EACCES: Self = Self(13);
    pub const EBUSY: Self = Self(16);
    pub const EINVAL: Self = Self(22);
    pub const ENOSPC: Self = Self(28);
    pub const EPIPE: Self = Self(32);
    pub const EPROTONOSUPPORT: Self = Self(93);
    pub const EOPNOTSUPP: Self = Self(95);
    pub const EADDRINUSE: Self = Self(98);
    pub const EADDRNOTAVAIL: Self = Self(99);
    pub const ENETDOWN: Self = Self(100);
    pub const ENETUNREACH: Self = Self(101);
    pub const ECONNRESET: Self = Self(104);
    pub const ENOBUFS: Self = Self(105);
    pub const ENOTCONN: Self = Self(107);
    pub const ETIMEDOUT: Self = Self(110);
    pub const ECONNREFUSED: Self = Self(111);
    pub const EHOSTDOWN: Self = Self(112);
    pub const EHOSTUNREACH: Self = Self(113);
}

impl fmt::Display for Errno {
    /// Name, number and text: `ECONNREFUSED (111): connection refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use nix::errno::Errno as Known;
        match Known::from_raw(self.0 as i32) {
            _ if self.0 == 0 => f.write_str("no error (0)"),
            Known::UnknownErrno => write!(f, "errno {}", self.0),
            known => {
                let text = known.desc();
                let first = text.chars().take(1).map(|c| c.to_ascii_lowercase());
                let text: String = first.chain(text.chars().skip(1)).collect();
                write!(f, "{known:?} ({}): {text}", self.0)
            }
        }
    }
}

/// Whatever goes wrong between this library and the kernel.
#[derive(Debug, thiserror::Error)]
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
        /// Why.
        errno: Errno,
        /// Why in words: the message of the extended acknowledgement.
        message: Option<String>,
    },
    /// The generic netlink family cannot be used.
    #[error("{0}")]
    Missing(Missing),
    /// The module speaks another version of the protocol.
    #[error(
        "module smapp_pm speaks protocol version {0}, this program speaks {ours}: \
         use the module and the program of one release",
        ours = crate::uapi::VERSION
    )]
    Version(u32),
    /// The kernel lets only the administrator of the network namespace do this.
    #[error("{0}: not permitted, needs CAP_NET_ADMIN: run as root, for example with sudo")]
    NotPermitted(&'static str),
    /// The policy asks for subflows faster than they may be opened, on the connection or
    /// to what peers announce; the kernel was not asked.
    #[error("subflow-create: {0}")]
    Throttled(&'static str),
    /// The connections changed too often while they were listed.
    #[error("connection list: interrupted by changes too often, try again")]
    DumpInterrupted,
    /// The kernel did not answer.
    #[error("{0}: the kernel gave no answer")]
    NoAnswer(&'static str),
    /// A message is cut off or inconsistent.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// An attribute has a length that its type cannot have.
    #[error("malformed attribute {kind}: length {len}")]
    Attribute {
        /// Its type.
        kind: u16,
        /// The length of its value in bytes.
        len: usize,
    },
    /// A message lacks something that every such message has.
    #[error("message without attribute {0}")]
    Absent(&'static str),
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

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted(what),
            _ => Self::Io { what, source },
        }
    }
}

fn detail(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or(String::new(), |m| format!(" ({m})"))
}
