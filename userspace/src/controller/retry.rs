// SPDX-License-Identifier: GPL-2.0
//! When to try again, and the random numbers for it.

use std::time::Duration;

/// Failures in a row of one thing, and when it may be tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retry {
    times: u32,
    at: Duration,
}

impl Retry {
    /// Counts a failure: `first` is the delay after the first in a row, each
    /// further one doubles it, up to `longest`. A delay is shortened by up to a
    /// tenth at random, so that connections do not retry in step.
    pub fn failed(
        &mut self,
        now: Duration,
        first: Duration,
        longest: Duration,
        random: &mut Random,
    ) -> Duration {
        let factor = 1u32 << self.times.min(20);
        let delay = first.saturating_mul(factor).min(longest.max(first));
        let delay = delay.mul_f64(1.0 - 0.1 * random.fraction());
        self.times = self.times.saturating_add(1);
        self.at = now + delay;
        delay
    }

    /// How many failures in a row there were.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// How long it has to wait still, if it has.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        self.at.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Whether its time has not come yet.
    pub fn waits(&self, now: Duration) -> bool {
        self.at > now
    }
}

/// A generator of numbers that need not be unpredictable (xorshift64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator that `seed` determines.
    pub fn new(seed: u64) -> Self {
        // It must not start at 0; neighbouring seeds must not give neighbouring numbers.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number from 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_delay_up_to_the_longest() {
        let (mut retry, mut random) = (Retry::default(), Random::new(0));
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(10));
        for expected in [1.0, 2.0, 4.0, 8.0, 10.0, 10.0] {
            let delay = retry.failed(first, first, longest, &mut random);
            let seconds = delay.as_secs_f64();
            assert!(
                seconds <= expected && seconds >= 0.9 * expected,
                "{delay:?}"
            );
            assert!(retry.waits(first) && !retry.waits(first + delay));
        }
        assert_eq!(retry.times(), 6);
    }
}
