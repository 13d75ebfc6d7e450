// SPDX-License-Identifier: GPL-2.0
//! Memory for small packets and messages that the kernel does not get, one at a time.
//!
//! See Documentation/fault-injection/fault-injection.rst of the kernel.

use std::fs;

use anyhow::{Context, Result};

const FAILSLAB: &str = "/sys/kernel/debug/failslab";
/// Where the kernel takes small socket buffers from: events, answers, bare TCP segments.
const CACHE: &str = "/sys/kernel/slab/skbuff_small_head";
/// Counts the allocations of the thread that reads and writes it.
const COUNTDOWN: &str = "/proc/thread-self/fail-nth";

/// While it lives, small socket buffers can be made to run out.
#[derive(Debug)]
pub struct Shortage {
    /// Bytes of one of them.
    size: u32,
}

impl Shortage {
    /// Nothing fails yet.
    pub fn new() -> Result<Self> {
        let size = fs::read_to_string(format!("{CACHE}/object_size"))?;
        let shortage = Shortage {
            size: size.trim().parse()?,
        };
        write(&format!("{CACHE}/failslab"), 1)?;
        shortage.set("cache-filter", 1)?;
        shortage.set("verbose", 0)?;
        Ok(shortage)
    }

    /// Do something during which the allocation `number`, from 1 on, that this thread
    /// makes outside of interrupts fails; whether there was one.
    pub fn of_this_thread<T>(&self, number: u32, act: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.set("ignore-gfp-wait", 0)?;
        write(COUNTDOWN, number)?;
        let done = act();
        let left = fs::read_to_string(COUNTDOWN)?;
        write(COUNTDOWN, 0)?;
        Ok((done, left.trim() == "0"))
    }

    /// Do something during which the allocation `number`, from 1 on, that anybody makes
    /// and may not wait for fails; whether there was one.
    pub fn of_all<T>(&self, number: u32, act: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.set("ignore-gfp-wait", 1)?;
        // Bytes to be had before the first failure.
        self.set("space", (number - 1) * self.size + 1)?;
        self.set("times", 1)?;
        self.set("probability", 100)?;
        let done = act();
        self.set("probability", 0)?;
        let left = fs::read_to_string(format!("{FAILSLAB}/times"))?;
        Ok((done, left.trim() == "0"))
    }

    fn set(&self, name: &str, value: u32) -> Result<()> {
        write(&format!("{FAILSLAB}/{name}"), value)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        let _ = self.set("probability", 0);
        let _ = self.set("cache-filter", 0);
        let _ = write(&format!("{CACHE}/failslab"), 0);
    }
}

fn write(path: &str, value: u32) -> Result<()> {
    fs::write(path, value.to_string()).with_context(|| format!("cannot write {path}"))
}
