// SPDX-License-Identifier: GPL-2.0
//! Error numbers of the kernel.

use std::fmt;

use serde::Serialize;

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
