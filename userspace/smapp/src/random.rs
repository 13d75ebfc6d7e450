// SPDX-License-Identifier: GPL-2.0
//! Random numbers that a seed determines.

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
