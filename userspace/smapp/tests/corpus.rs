// SPDX-License-Identifier: GPL-2.0
//! The corpus of the fuzz targets, replayed: what was found once stays found.
#![cfg(target_endian = "little")] // so are the messages in it

use std::path::Path;

#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code)] // to write a corpus
mod fuzz;

fn replay(name: &str) {
    let (_, run) = fuzz::TARGETS
        .into_iter()
        .find(|(target, _)| *target == name)
        .expect("a target of this name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let inputs = fuzz::corpus::read(&folder.join(fuzz::corpus::file(name))).unwrap();
    assert!(inputs.len() >= 10, "{name}: {} inputs", inputs.len());
    inputs.iter().for_each(|input| run(input));
}

#[test]
fn every_target_has_a_test() {
    let names = fuzz::TARGETS.map(|(name, _)| name);
    assert_eq!(
        names,
        ["event", "answer", "info", "config", "words", "peer"]
    );
}

macro_rules! replay {
    ($($test:ident $name:literal)*) => {$(
        #[test]
        fn $test() {
            replay($name);
        }
    )*};
}

replay! {
    events "event"
    answers "answer"
    info_of_other_kernels "info"
    configuration_files "config"
    words_of_the_command_line "words"
    hostile_peers "peer"
}
