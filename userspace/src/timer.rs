// SPDX-License-Identifier: GPL-2.0
//! The timers of a controller.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::event::Token;

/// Timers by the time at which they are due, those set first first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Duration, u64, Token)>>,
    count: u64,
}

impl Timers {
    pub fn set(&mut self, due: Duration, token: Token) {
        self.count += 1;
        self.heap.push(Reverse((due, self.count, token)));
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// Takes out a timer that is due.
    pub fn pop(&mut self, now: Duration) -> Option<Token> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((.., token))| token)
    }
}
