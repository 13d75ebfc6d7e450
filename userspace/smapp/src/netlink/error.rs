// SPDX-License-Identifier: GPL-2.0
//! What goes wrong between this host's kernel and a netlink socket.

use std::io;

/// An error of a netlink socket, or of the bytes that it gave.
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
    /// The kernel refused a request.
    #[error("{request}: errno {errno}{}", .message.as_deref().unwrap_or_default())]
    Refused {
        /// The name of the request.
        request: &'static str,
        /// Why: a positive errno.
        errno: u32,
        /// Why in words: the message of the extended acknowledgement.
        message: Option<String>,
    },
    /// What is listed changed while it was listed.
    #[error("{0}: interrupted by changes")]
    Interrupted(&'static str),
    /// The kernel did not answer the request of this name.
    #[error("{0}: the kernel gave no answer")]
    NoAnswer(&'static str),
    /// What it answered cannot be read.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

/// Bytes of a kernel that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A message is cut off or inconsistent.
    #[error("malformed {0}")]
    Inconsistent(&'static str),
    /// An attribute has a length that its type cannot have.
    #[error("malformed attribute {kind}: length {len}")]
    Length {
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
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
