// SPDX-License-Identifier: GPL-2.0
//! How many subflows may be opened: whatever peers do, a policy that answers them
//! must not flood a network.

use std::time::Duration;

/// So many at once, and one more each time `interval` has passed (a token bucket).
#[derive(Debug)]
pub(super) struct Bound {
    burst: u32,
    interval: Duration,
    /// The same in words.
    pub text: &'static str,
}

/// On one connection: as many at once as the kernel allows it in all (255 beside the
/// initial one), so that no policy meets it in its normal work.
pub(super) const CONNECTION: Bound = Bound {
    burst: 256,
    interval: Duration::from_secs(1),
    text: "too many on this connection, wait a second (256 at once, then one a second)",
};

/// On all connections, to announced addresses that no subflow of theirs has reached: a server
/// that attracts many connections must not have all of them contact a third party.
pub(super) const UNREACHED: Bound = Bound {
    burst: 1024,
    interval: Duration::from_millis(10),
    text: "too many to announced addresses that no subflow has reached, wait a second \
           (1024 at once, then 100 a second, on all connections)",
};

/// What of a [`Bound`] has been used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimit {
    used: u32,
    /// The moment up to which refills are counted.
    counted: Duration,
}

impl RateLimit {
    /// Takes one; false if there is none.
    pub fn take(&mut self, bound: &Bound, now: Duration) -> bool {
        if self.used == 0 {
            self.counted = now;
        }
        let passed = now.saturating_sub(self.counted);
        let back = passed.as_nanos() / bound.interval.as_nanos();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        self.used = self.used.saturating_sub(back);
        self.counted += bound.interval * back;
        let allowed = self.used < bound.burst;
        self.used += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_at_once_there_is_one_each_interval() {
        for bound in [&CONNECTION, &UNREACHED] {
            let burst = bound.burst as usize;
            let mut limit = RateLimit::default();
            // From one moment to another, in intervals; asked twenty times in each.
            let mut taken = |from: u32, to: u32| {
                let each = (from * 20..to * 20).map(|n| bound.interval / 20 * n);
                each.filter(|&now| limit.take(bound, now)).count()
            };
            assert_eq!(taken(100, 100 + bound.burst), 2 * burst - 1);
            assert_eq!(taken(100 + bound.burst, 110 + bound.burst), 10);
            // After a rest they are back, but no more than there were.
            let rested = 10 * bound.burst;
            assert_eq!(taken(rested, rested + bound.burst), 2 * burst - 1);
        }
    }
}
