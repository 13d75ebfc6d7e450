// SPDX-License-Identifier: GPL-2.0
//! Measurements: the experiments of the paper, and the delay of a second subflow. The
//! programs in `bin/` measure the rest: `cost`, `hops` (instructions), `scale`.
//!
//! Networks, connections and processes are those of `smapp_tests`. All of it works in the
//! guest of `qemu/run` only, but for the programs `report` and `hops`, which start guests.
#![forbid(unsafe_code)]

pub mod ecmp;
pub mod experiment;
pub mod latency;
pub mod minimal;
pub mod stream;
