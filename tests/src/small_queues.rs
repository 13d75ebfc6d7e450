// SPDX-License-Identifier: GPL-2.0
//! Queues that run over soon.

use std::fs;

use anyhow::Result;

const LIMIT: &str = "/proc/sys/net/core/rmem_max";

/// While it lives, listeners that start have queues for a few events only.
#[derive(Debug)]
pub struct SmallQueues {
    before: String,
}

impl SmallQueues {
    /// Queues of the least size from now on.
    pub fn new() -> Result<Self> {
        let before = fs::read_to_string(LIMIT)?;
        fs::write(LIMIT, "16384")?;
        Ok(SmallQueues { before })
    }
}

impl Drop for SmallQueues {
    fn drop(&mut self) {
        fs::write(LIMIT, &self.before).expect("what was read can be written");
    }
}
