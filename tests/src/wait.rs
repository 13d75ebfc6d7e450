// SPDX-License-Identifier: GPL-2.0
//! Waiting for something to become true.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything in a test may take that is not slow by nature. Time is
/// virtual: a wait that is never used up costs nothing.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Poll until `probe` gives a value.
///
/// On failure the error says `what` was awaited and the last thing that `probe`
/// saw instead.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(2);
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                bail!(
                    "{what}: not within {} s; last seen: {error:#}",
                    deadline.as_secs_f32()
                )
            }
            Err(_) => sleep(pause),
        }
        // What takes long does not need to be seen at once.
        pause = (pause * 5 / 4).min(Duration::from_millis(500));
    }
}
