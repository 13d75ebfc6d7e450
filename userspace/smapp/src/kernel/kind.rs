// SPDX-License-Identifier: GPL-2.0
//! Which interface of the running kernel is used.

use std::str::FromStr;

use super::interface::Interface;
use super::module::{Missing, Module, sysctl};
use super::stock::Stock;
use super::{Error, module};

/// An interface of the running kernel for path management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// That of the module smapp_pm.
    Module,
    /// What unmodified kernels have.
    Stock,
}

impl KernelKind {
    /// The interface whose path manager new connections of this network namespace get; if
    /// that is neither, the module's where it is loaded.
    pub fn selected() -> Self {
        let module = module::is_loaded();
        match (
            sysctl("path_manager").as_deref(),
            sysctl("pm_type").as_deref(),
        ) {
            (Some("smapp"), _) => Self::Module,
            (Some("userspace"), _) | (None, Some("1")) => Self::Stock,
            _ if module => Self::Module,
            _ => Self::Stock,
        }
    }

    /// Connects to it in the current network namespace.
    pub(crate) fn connect(self) -> Result<Box<dyn Interface>, Error> {
        match self {
            Self::Module => Ok(Box::new(Module::connect()?)),
            Self::Stock => match Stock::connect()? {
                Some(stock) => Ok(Box::new(stock)),
                None => Err(Error::unusable(Missing::Mptcp)),
            },
        }
    }
}

impl FromStr for KernelKind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "module" => Ok(Self::Module),
            "stock" => Ok(Self::Stock),
            _ => Err("no such interface, choose from module, stock".to_owned()),
        }
    }
}
