// SPDX-License-Identifier: GPL-2.0
//! The corpus: inputs that are worth a try, one a line in hexadecimal digits, a file
//! for each target.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file of a target, below the folder of this crate.
pub fn file(target: &str) -> PathBuf {
    Path::new("corpus").join(target).with_extension("hex")
}

/// Reads a file of the corpus.
pub fn read(file: &Path) -> io::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let input = |line: &str| {
        bytes(line).ok_or_else(|| io::Error::other(format!("{}: `{line}`", file.display())))
    };
    lines.map(input).collect()
}

/// Writes a file of the corpus.
pub fn write(file: &Path, inputs: &[Vec<u8>]) -> io::Result<()> {
    let mut text = "# SPDX-License-Identifier: GPL-2.0\n".to_owned();
    for input in inputs {
        for byte in input {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    fs::write(file, text)
}

fn bytes(line: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match *pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    line.as_bytes().chunks(2).map(byte).collect()
}
