// SPDX-License-Identifier: GPL-2.0
//! What the guest tests, the demo and the measurements share: a network of
//! namespaces, connections over it, processes in it, and what the kernel says.
//!
//! Everything here needs root and a place where it can do no harm: the guest of `qemu/run`, or
//! the namespaces of the program `here`.
#![forbid(unsafe_code)]

pub mod attached;
pub mod capture;
pub mod family;
pub mod fuzz;
pub mod here;
pub mod kernel_interface;
pub mod kernel_log;
pub mod module;
pub mod netns;
pub mod on_failure;
pub mod path_manager;
pub mod process;
pub mod segment;
pub mod shaping;
pub mod shortage;
pub mod small_queues;
pub mod topology;
pub mod traffic;
pub mod wait;
pub mod web;
pub mod ynl;

pub use attached::{Attached, Observer, facts};
pub use capture::Capture;
pub use kernel_interface::KernelInterface;
pub use kernel_log::KernelLog;
pub use netns::Netns;
pub use path_manager::PathManager;
pub use process::Process;
pub use segment::Segment;
pub use shortage::Shortage;
pub use small_queues::SmallQueues;
pub use topology::{Family, Fault, Path, Shape, Topology};
pub use traffic::Connection;
pub use wait::{DEADLINE, wait_for};
pub use ynl::Ynl;
