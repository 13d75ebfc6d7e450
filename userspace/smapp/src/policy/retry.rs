// SPDX-License-Identifier: GPL-2.0
//! When to try again.

use std::time::Duration;

use crate::random::Random;

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
