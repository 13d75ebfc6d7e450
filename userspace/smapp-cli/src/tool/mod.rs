// SPDX-License-Identifier: GPL-2.0
//! The commands that show something or carry out one command, and end.

pub mod address;
pub mod config;
pub mod connection;
pub mod manual;
pub mod monitor;
pub mod stats;
pub mod status;
pub mod subflow;
pub mod why;
