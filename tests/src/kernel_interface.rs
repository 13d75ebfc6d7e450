// SPDX-License-Identifier: GPL-2.0
//! Which interface of the kernel the tests of this run are about.

use std::env;
use std::str::FromStr;

use anyhow::{Error, bail};

/// An interface over which connections can be managed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelInterface {
    /// The module smapp_pm.
    Module,
    /// What every kernel has: `mptcp_pm` with `path_manager=userspace`.
    Stock,
}

impl KernelInterface {
    /// The variable of the environment that chooses: `module` (default) or `stock`.
    pub const VARIABLE: &str = "SMAPP_KERNEL_INTERFACE";

    /// The one of this run.
    ///
    /// # Panics
    ///
    /// The variable has another value.
    pub fn of_this_run() -> Self {
        match env::var(Self::VARIABLE) {
            Ok(word) => word.parse().expect(Self::VARIABLE),
            Err(_) => KernelInterface::Module,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            KernelInterface::Module => "module",
            KernelInterface::Stock => "stock",
        }
    }
}

impl FromStr for KernelInterface {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let mut all = [KernelInterface::Module, KernelInterface::Stock].into_iter();
        match all.find(|interface| interface.word() == word) {
            Some(interface) => Ok(interface),
            None => bail!("an interface of the kernel is module or stock, not {word}"),
        }
    }
}
