// SPDX-License-Identifier: GPL-2.0
//! A line of the words that the command line reads: each as everything it can be.

use std::fmt::Display;
use std::str::FromStr;

use smapp::policy::Time;
use smapp::{EventKind, InterfaceName, Pattern, Token};

#[path = "../../userspace/smapp-cli/src/command_words.rs"]
#[allow(dead_code, missing_docs)]
mod tool;

/// Reads the line.
pub fn run(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else {
        return;
    };
    let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    let _ = tool::SubflowWords::parse(&words);
    let _ = tool::subflow_to_remove(&words);
    for word in &words {
        let _ = tool::endpoint(word);
        same_again::<Token>(word);
        if let Ok(event) = word.parse::<EventKind>() {
            assert_eq!(event.word(), word);
        }
        if let Ok(time) = word.parse::<Time>() {
            same_again::<Time>(&time.to_string());
        }
        if let Ok(pattern) = word.parse::<Pattern>() {
            assert_eq!(pattern.to_string(), *word);
            let _ = pattern.matches(InterfaceName::new(b"fifteen-letters"));
        }
        let name = InterfaceName::new(word.as_bytes());
        assert!(name.as_bytes() == word.as_bytes() || name == InterfaceName::default());
    }
}

/// What is printed reads as the same.
fn same_again<T: FromStr + Display + PartialEq>(word: &str) {
    if let Ok(value) = word.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == value), "{word}");
    }
}
