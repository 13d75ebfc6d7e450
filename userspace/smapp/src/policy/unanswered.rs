// SPDX-License-Identifier: GPL-2.0
//! Pairs of addresses between which nothing was ever answered. What one connection has found
//! out serves all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::Retry;
use crate::random::Random;

/// As many pairs are known at most.
const MOST: usize = 1024;
/// A pair that has never answered is tried at least this often.
const LONGEST: Duration = Duration::from_secs(3600);
/// A try takes no longer: until then no other connection tries the same.
const TRY: Duration = Duration::from_secs(150);

/// What is known of pairs, for all connections.
#[derive(Debug)]
pub(crate) struct Unanswered<P> {
    pairs: BTreeMap<P, Pair>,
}

#[derive(Clone, Copy, Debug)]
enum Pair {
    /// It has worked once: each connection tries for itself.
    Answers,
    /// Nothing but silence; when a try may begin, and until when one goes on.
    Silent { retry: Retry, trying: Duration },
}

impl<P: Copy + Ord> Unanswered<P> {
    pub fn new() -> Self {
        Self {
            pairs: BTreeMap::new(),
        }
    }

    /// A subflow has joined.
    pub fn answered(&mut self, pair: P) {
        self.put(pair, Pair::Answers);
    }

    /// A try is made: others wait for what comes of it, if there was only silence.
    pub fn tries(&mut self, pair: P, now: Duration) {
        if let Some(Pair::Silent { trying, .. }) = self.pairs.get_mut(&pair) {
            *trying = now + TRY;
        }
    }

    /// A try was not answered. Those that began before another one failed count as one.
    pub fn failed(&mut self, pair: P, now: Duration, first: Duration, random: &mut Random) {
        let known = self.pairs.get(&pair).copied();
        let mut retry = match known {
            Some(Pair::Answers) => return,
            Some(Pair::Silent { trying, .. }) if trying.is_zero() => return,
            Some(Pair::Silent { retry, .. }) => retry,
            None => Retry::default(),
        };
        retry.failed(now, first, LONGEST, random);
        let trying = Duration::ZERO;
        self.put(pair, Pair::Silent { retry, trying });
    }

    /// How long a pair has to be left alone, if it has.
    pub fn left(&self, pair: P, now: Duration) -> Option<Duration> {
        let Some(Pair::Silent { retry, trying }) = self.pairs.get(&pair) else {
            return None;
        };
        let trying = trying.checked_sub(now).filter(|left| !left.is_zero());
        retry.left(now).max(trying)
    }

    /// Forgets the pairs that do not stay.
    pub fn retain(&mut self, mut stays: impl FnMut(&P) -> bool) {
        self.pairs.retain(|pair, _| stays(pair));
    }

    fn put(&mut self, pair: P, known: Pair) {
        if self.pairs.len() == MOST && !self.pairs.contains_key(&pair) {
            self.pairs.pop_first();
        }
        self.pairs.insert(pair, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(60);

    #[test]
    fn silence_is_tried_ever_more_rarely_by_one_at_a_time() {
        let (mut known, mut random) = (Unanswered::new(), Random::new(0));
        let mut now = Duration::from_secs(1);
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            assert_eq!(known.left(7, now), None);
            known.tries(7, now);
            known.failed(7, now, FIRST, &mut random);
            // Of a connection that began before.
            known.failed(7, now, FIRST, &mut random);
            let left = known.left(7, now).unwrap().as_secs_f64();
            let expected = f64::from(expected);
            assert!(left > 0.89 * expected && left <= expected, "{left}");
            now += Duration::from_secs(3600);
        }
        known.tries(7, now);
        assert_eq!(known.left(7, now), Some(TRY));
        known.answered(7);
        known.failed(7, now, FIRST, &mut random);
        assert_eq!(known.left(7, now), None, "it has answered once");
    }

    #[test]
    fn there_is_an_end_to_what_is_known() {
        let mut known = Unanswered::new();
        (0..5000).for_each(|pair| known.answered(pair));
        assert_eq!(known.pairs.len(), MOST);
    }
}
