// SPDX-License-Identifier: GPL-2.0
//! Rules: different policies for different connections, from a configuration file.

mod cgroup;
mod condition;
mod config;
mod dispatch;
mod rule;

pub use cgroup::Cgroups;
pub use condition::{AnyOf, Cgroup, Mark, Numbers};
pub use config::{Config, Invalid};
pub use dispatch::Dispatch;
pub use rule::{Choice, Facts, Rule, Side};
