// SPDX-License-Identifier: GPL-2.0
//! Between the corpus in the repository and the folders that libFuzzer works on.
//!
//! `corpus unpack TARGET DIR`: seeds and corpus, a file each.
//! `corpus pack TARGET DIR`: what libFuzzer has kept becomes the corpus.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

// Instrumented as everything here is, it needs what counts.
extern crate libfuzzer_sys;

use smapp_fuzz::corpus;

#[path = "../../../userspace/smapp/src/kernel/module/tests/golden.rs"]
#[allow(dead_code, missing_docs)]
mod golden;

/// Longer ones are not kept: the corpus stays small.
const LONGEST: usize = 512;
/// Bytes of a packed corpus at most.
const LARGEST: usize = 12 << 10;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["unpack", target, directory] => unpack(target, Path::new(directory)),
        ["pack", target, directory] => pack(target, Path::new(directory)),
        _ => {
            eprintln!("usage: corpus (unpack | pack) TARGET DIRECTORY");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {}: {error}", words[1]);
            ExitCode::FAILURE
        }
    }
}

fn unpack(target: &str, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let corpus = corpus::read(&corpus::file(target))?;
    for (number, input) in seeds(target).iter().chain(&corpus).enumerate() {
        fs::write(directory.join(format!("{number:04}")), input)?;
    }
    Ok(())
}

/// The shortest first: each shows something that the shorter ones do not.
fn pack(target: &str, directory: &Path) -> io::Result<()> {
    let mut inputs = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let input = fs::read(entry?.path())?;
        inputs.insert((input.len(), input));
    }
    let (found, mut size) = (inputs.len(), 0);
    let small = inputs.into_iter().filter(|&(length, _)| length <= LONGEST);
    let fits = |(length, _): &(usize, Vec<u8>)| {
        size += length;
        size <= LARGEST
    };
    let kept: Vec<_> = small.take_while(fits).map(|(_, input)| input).collect();
    corpus::write(&corpus::file(target), &kept)?;
    println!("{target}: {} of {found} inputs kept", kept.len());
    Ok(())
}

/// What a target starts from, beside its corpus: inputs that are right.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let text = |text: &str| text.as_bytes().to_vec();
    match target {
        "event" | "answer" => golden::GOLDEN.map(<[u8]>::to_vec).to_vec(),
        "info" => vec![(0..=255).collect()],
        "config" => vec![text(include_str!("../../../packaging/smapp.toml"))],
        "words" => [
            "from 10.0.2.1:4000 to [fd00:3::1]:80 dev eth0 backup",
            "from 10.0.2.1:4000 to 10.0.3.1:80 reset",
            "id 2 reset",
            "0x1a2b3c4d 250ms 2.5s 2m 1h wlan* eth? sub_closed,timeout",
        ]
        .map(text)
        .to_vec(),
        _ => (0..6).map(play).collect(),
    }
}

/// A connection that is established, two addresses announced, a reset, for a policy.
fn play(policy: u8) -> Vec<u8> {
    let mut play = vec![policy];
    // Each: when, what, token, local address, flag, and what goes with it.
    let remote = [0, 192, 0, 2, 1, 0, 80];
    play.extend([5, 0, 0, 0, 0].iter().chain(&remote).chain(&[0]));
    play.extend([5, 1, 0, 0, 0]);
    for last in [1, 9] {
        play.extend([50, 3, 0, 0, 1, 0, 192, 0, 2, last, 0x1f, 0x90, last]);
    }
    play.extend([50, 14, 0, 0, 0, 255]);
    play.extend([50, 7, 0, 1, 0, 6]);
    play.extend([50, 8, 0, 1, 1, 2]);
    play.extend([50, 15, 0, 0, 1, 255]);
    play
}
