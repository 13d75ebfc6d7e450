// SPDX-License-Identifier: GPL-2.0
//! What the fuzz targets do with their bytes. Nothing here needs libFuzzer: the tests
//! of the crate replay the corpus with it (`userspace/smapp/tests/corpus.rs`).
//!
//! A target panics if a parser does, and if what it read contradicts itself.

pub mod answer;
pub mod config;
pub mod corpus;
pub mod event;
pub mod info;
pub mod peer;
pub mod words;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 6] = [
    ("event", event::run),
    ("answer", answer::run),
    ("info", info::run),
    ("config", config::run),
    ("words", words::run),
    ("peer", peer::run),
];
