// SPDX-License-Identifier: GPL-2.0
//! How many subflows a connection may open: whatever a peer does, a policy that
//! answers it must not flood a network.

use std::time::Duration;

/// As many at once as the kernel allows a connection in all (255 beside the initial
/// one): no policy with a purpose notices.
const BURST: u32 = 256;
/// One more each time this has passed.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is left of it (a token bucket).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    left: u32,
    /// Up to when what came back has been counted.
    counted: Duration,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            left: BURST,
            counted: Duration::ZERO,
        }
    }
}

impl Allowance {
    /// Takes one; false if there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        if self.left == BURST {
            self.counted = now;
        }
        let back = now.saturating_sub(self.counted).as_secs() / INTERVAL.as_secs();
        let back = u32::try_from(back).unwrap_or(BURST);
        self.left = self.left.saturating_add(back).min(BURST);
        self.counted += INTERVAL * back;
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_many_at_once_there_is_one_each_second() {
        let mut allowance = Allowance::default();
        let mut taken = |from: u64, to: u64| {
            let each = (from * 1000..to * 1000).step_by(1);
            each.filter(|&ms| allowance.take(Duration::from_millis(ms)))
                .count()
        };
        assert_eq!(taken(100, 110), 256 + 9);
        assert_eq!(taken(110, 120), 10);
        // After a rest they are back, but no more than there were.
        assert_eq!(taken(10_000, 10_001), 256);
    }
}
