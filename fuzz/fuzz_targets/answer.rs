// SPDX-License-Identifier: GPL-2.0
//! See `src/answer.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smapp_fuzz::answer::run(data));
