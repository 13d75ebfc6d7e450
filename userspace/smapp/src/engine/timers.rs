// SPDX-License-Identifier: GPL-2.0
//! The timers of a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::Token;

/// Timers by the time at which they are due; of those that are due at the same time the one
/// that was set first comes first. There is one for a connection and a key: to set it again
/// is to move it.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(Duration, u64, Token, u32)>,
    set: BTreeMap<(Token, u32), (Duration, u64)>,
    count: u64,
}

impl Timers {
    pub fn set(&mut self, due: Duration, token: Token, key: u32) {
        self.cancel(token, key);
        self.count += 1;
        self.set.insert((token, key), (due, self.count));
        self.queue.insert((due, self.count, token, key));
    }

    pub fn cancel(&mut self, token: Token, key: u32) {
        if let Some((due, count)) = self.set.remove(&(token, key)) {
            self.queue.remove(&(due, count, token, key));
        }
    }

    /// Takes out all timers of a connection.
    pub fn end(&mut self, token: Token) {
        while let Some((&(_, key), _)) = self.set.range((token, 0)..=(token, u32::MAX)).next() {
            self.cancel(token, key);
        }
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Duration> {
        self.queue.first().map(|&(due, ..)| due)
    }

    /// Takes out a timer that is due.
    pub fn pop(&mut self, now: Duration) -> Option<(Token, u32)> {
        if self.next()? > now {
            return None;
        }
        let (_, _, token, key) = self.queue.pop_first()?;
        self.set.remove(&(token, key));
        Some((token, key))
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_again_has_moved() {
        let (mut timers, second) = (Timers::default(), Duration::from_secs);
        timers.set(second(5), Token(1), 7);
        timers.set(second(2), Token(1), 8);
        timers.set(second(1), Token(1), 7);
        assert_eq!(timers.pop(second(9)), Some((Token(1), 7)));
        assert_eq!(timers.pop(second(1)), None);
        assert_eq!(timers.pop(second(2)), Some((Token(1), 8)));
        assert_eq!((timers.pop(second(9)), timers.len()), (None, 0));
    }

    #[test]
    fn the_timers_of_a_connection_end_together() {
        let mut timers = Timers::default();
        for (token, key) in [(1, 0), (1, u32::MAX), (2, 3)] {
            timers.set(Duration::ZERO, Token(token), key);
        }
        timers.end(Token(1));
        assert_eq!(timers.pop(Duration::ZERO), Some((Token(2), 3)));
        assert_eq!((timers.next(), timers.set.len()), (None, 0));
    }
}
