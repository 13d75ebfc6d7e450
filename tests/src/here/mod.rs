// SPDX-License-Identifier: GPL-2.0
//! Tests and demos on the kernel of this machine instead of a guest's.
//!
//! The program `here` is what `qemu/run` is for a guest: it runs a program where it can do
//! no harm, and judges. The kernel of a guest is its own; here, namespaces stand in for it.

pub mod control_group;
pub mod limits;
pub mod machine;
pub mod outcome;
pub mod sandbox;
pub mod suite;
