// SPDX-License-Identifier: GPL-2.0
//! Memory that the kernel does not get, one allocation at a time.
//!
//! See Documentation/fault-injection/fault-injection.rst of the kernel.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

const FAILSLAB: &str = "/sys/kernel/debug/failslab";
/// Where the kernel takes small socket buffers from: events, answers, bare TCP segments.
const CACHE: &str = "/sys/kernel/slab/skbuff_small_head";
/// Counts the allocations of the thread that reads and writes it.
const COUNTDOWN: &str = "/proc/thread-self/fail-nth";

/// While it lives, memory can be made to run out.
#[derive(Debug)]
pub struct Shortage {
    /// Bytes from one allocation to the next.
    size: u32,
}

impl Shortage {
    /// Of small socket buffers only; nothing fails yet.
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

    /// Of everything that comes from slabs; nothing fails yet.
    pub fn of_everything() -> Result<Self> {
        // Smaller than most objects: two numbers in a row may mean the same allocation.
        let shortage = Shortage { size: 256 };
        shortage.set("cache-filter", 0)?;
        shortage.set("verbose", 0)?;
        Ok(shortage)
    }

    /// Do something during which the allocation `number`, from 1 on, that this thread
    /// makes outside of interrupts fails; whether there was one.
    pub fn of_this_thread<T>(&self, number: u32, act: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.set("ignore-gfp-wait", 0)?;
        // Opened before: opening a file allocates.
        let countdown = File::options().read(true).write(true).open(COUNTDOWN);
        let countdown = countdown.with_context(|| format!("cannot open {COUNTDOWN}"))?;
        let mut left = [0; 16];
        countdown.write_all_at(number.to_string().as_bytes(), 0)?;
        let done = act();
        let read = countdown.read_at(&mut left, 0);
        countdown.write_all_at(b"0", 0)?;
        let left = std::str::from_utf8(&left[..read?])?;
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
