// SPDX-License-Identifier: GPL-2.0
//! What an experiment is.

use std::path::Path;

use anyhow::Result;

use super::{Chapter, Results, Run, Scale};

/// One experiment of the evaluation.
pub trait Experiment: Sync {
    /// Its word on the command line and in the names of files.
    fn name(&self) -> &'static str;

    /// Its runs. The first one is also made a second time, to see that a seed gives
    /// the same tables again: a short one.
    fn runs(&self, scale: Scale) -> Vec<Run>;

    /// Do one run, in the guest: write [`Table`](super::Table)s into the directory `out`.
    ///
    /// A table has what was on the wire or what the kernel knew, never what the
    /// daemon said.
    fn measure(&self, run: &Run, out: &Path) -> Result<()>;

    /// What the tables of all runs say, on the host.
    fn chapter(&self, results: &Results) -> Result<Chapter>;
}
