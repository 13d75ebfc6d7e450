// SPDX-License-Identifier: GPL-2.0
//! What a kernel interface has counted.

use serde::Serialize;

/// What a kernel interface has counted since it was loaded, in all network namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Sockets that were given this path manager, those that listen included.
    pub attached: u64,
    /// Those of them that are gone.
    pub released: u64,
    /// Every command and every event.
    #[serde(rename = "operation")]
    pub operations: Vec<OperationStatistics>,
}

/// How often an event was sent or a command run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OperationStatistics {
    /// The word for the command or event, or its number if it has none here.
    pub operation: String,
    /// Events sent because somebody listened, or commands that succeeded.
    pub done: u64,
    /// Events lost for want of memory, or commands refused.
    pub failed: u64,
}

impl Statistics {
    /// The counters of the command or event with this word; all 0 if there is none.
    pub fn operation(&self, word: &str) -> OperationStatistics {
        let found = self.operations.iter().find(|o| o.operation == word);
        found.cloned().unwrap_or_default()
    }
}
