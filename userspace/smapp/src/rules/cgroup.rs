// SPDX-License-Identifier: GPL-2.0
//! Control groups (version 2): which directory has an inode number.
//!
//! The kernel tells the control group of a socket as the inode number of its
//! directory. A group keeps its number and its place as long as it exists, and
//! no other gets the number after it: what was found once stays true.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// How many answers are kept.
const ANSWERS: usize = 4096;

/// The tree of control groups.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    answers: BTreeMap<(PathBuf, u64), bool>,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self::new(ROOT)
    }
}

impl Cgroups {
    /// A tree below the directory `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            answers: BTreeMap::new(),
        }
    }

    /// Whether the directory with this inode number is `group`, a path that
    /// begins with a slash, or below it.
    pub fn contains(&mut self, group: &Path, inode: u64) -> bool {
        let key = (group.to_owned(), inode);
        if let Some(&answer) = self.answers.get(&key) {
            return answer;
        }
        let top = self.root.join(group.strip_prefix("/").unwrap_or(group));
        let is_top = fs::metadata(&top).is_ok_and(|m| m.is_dir() && m.ino() == inode);
        let answer = is_top || is_below(&top, inode);
        if self.answers.len() == ANSWERS {
            self.answers.clear();
        }
        self.answers.insert(key, answer);
        answer
    }
}

/// Looks through the groups below one. Those without others below them, nearly all, are not
/// read: a group is full of files, and events wait meanwhile.
fn is_below(directory: &Path, inode: u64) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.any(|group| group.ino() == inode || has_groups(&group) && is_below(&group.path(), inode))
}

/// Whether there may be groups below one: a directory has a link to it from each of those
/// in it, beside its own two.
fn has_groups(group: &DirEntry) -> bool {
    !group.metadata().is_ok_and(|group| group.nlink() == 2)
}
