// SPDX-License-Identifier: GPL-2.0

//! What the module has counted since it was loaded.

use crate::uapi::cmd;
use kernel::sync::atomic::{Atomic, Relaxed};

/// Sockets that were given to the path manager.
pub(crate) static ATTACHED: Atomic<i64> = Atomic::new(0);
/// Those of them that are gone.
pub(crate) static RELEASED: Atomic<i64> = Atomic::new(0);
/// What has happened that makes two listings of the connections differ.
pub(crate) static CHANGES: Atomic<i64> = Atomic::new(0);

/// How often an event or a command went well, and how often not.
pub(crate) struct Counter {
    pub(crate) done: Atomic<i64>,
    pub(crate) failed: Atomic<i64>,
}

/// By the number of the event or command.
pub(crate) static OPERATIONS: [Counter; cmd::MAX as usize + 1] = [const {
    Counter {
        done: Atomic::new(0),
        failed: Atomic::new(0),
    }
}; cmd::MAX as usize + 1];

/// Counts an event or a command. Any context.
pub(crate) fn count(operation: u8, well: bool) {
    if let Some(counter) = OPERATIONS.get(usize::from(operation)) {
        let counter = if well { &counter.done } else { &counter.failed };
        counter.fetch_add(1, Relaxed);
    }
}
