// SPDX-License-Identifier: GPL-2.0
//! What a kernel can do.

use crate::model::EventSet;

/// What a kernel can do. It is found out by trying, not by the version of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The kernel interface: `smapp_pm`, `mptcp_pm` (an unmodified kernel), or `simulated`.
    pub interface: &'static str,
    /// Version of the protocol that the interface speaks, if it has versions.
    pub version: Option<u32>,
    /// The events that it tells.
    pub events: EventSet,
    /// The commands that it knows, by their names in the protocol.
    pub commands: &'static [&'static str],
    /// Who numbers the subflows.
    pub subflow_ids: SubflowIds,
    /// What it cannot do, or not well.
    pub lacks: Vec<Lack>,
}

/// Something that this kernel, or this user, cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lack {
    /// What it lacks: `timeouts (BPF)`.
    pub what: &'static str,
    /// Why, as far as the kernel says.
    pub why: String,
    /// What that means for policies.
    pub cost: &'static str,
    /// What to type to change it.
    pub remedy: &'static str,
}

/// Who numbers the subflows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubflowIds {
    /// The kernel: every program sees the same numbers.
    Kernel,
    /// This library: the numbers are those of this process.
    Library,
}

impl Capabilities {
    /// Every command of the protocol.
    pub const COMMANDS: &'static [&'static str] = &[
        "subflow-create",
        "subflow-destroy",
        "subflow-set",
        "announce",
        "withdraw",
    ];

    /// An interface that can do all of it.
    pub(crate) fn all(interface: &'static str) -> Self {
        Self {
            interface,
            version: None,
            events: EventSet::ALL,
            commands: Self::COMMANDS,
            subflow_ids: SubflowIds::Kernel,
            lacks: Vec::new(),
        }
    }
}
