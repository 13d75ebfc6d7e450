// SPDX-License-Identifier: GPL-2.0
//! The evaluation of the paper ("SMAPP: Towards Smart Multipath TCP-enabled
//! APPlications", CoNEXT 2015, section 4), measured anew.
//!
//! An experiment is one file: its runs, what a run does in the guest, and what its
//! tables say on the host. The program `experiment` is the payload of one run, the
//! program `report` makes the runs and writes the report.

pub mod backup;
mod chapter;
mod definition;
mod document;
pub mod host;
pub mod latency;
pub mod long_lived;
mod plot;
mod quantile;
pub mod refresh;
mod results;
mod run;
pub mod streaming;

pub use chapter::{Chapter, Claim, Comparison, Figure};
pub use definition::Experiment;
pub use document::{Preface, write};
pub use plot::{Axis, Plot};
pub use quantile::{median, quantile};
pub use results::{Results, Table, table};
pub use run::{Run, Scale};

/// All experiments, in the order of the paper.
pub const ALL: [&dyn Experiment; 5] = [
    &long_lived::LongLived,
    &backup::Backup,
    &streaming::Streaming,
    &refresh::Refresh,
    &latency::Latency,
];

/// The experiment of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Experiment> {
    ALL.into_iter().find(|experiment| experiment.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_experiments_and_runs_are_unique() {
        for scale in [Scale::Full, Scale::Quick] {
            let mut names = Vec::new();
            for experiment in ALL {
                let runs = experiment.runs(scale);
                assert!(!runs.is_empty());
                names.extend(
                    runs.iter()
                        .map(|run| format!("{} {run}", experiment.name())),
                );
            }
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
