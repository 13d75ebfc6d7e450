// SPDX-License-Identifier: GPL-2.0
//! The configuration file of the daemon.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::rule::Rule;

/// What a file says.
///
/// ```
/// use std::path::Path;
///
/// use smapp::rules::{Config, Dispatch};
///
/// let text = r#"
///     [[rule]]
///     name = "web"
///     remote-port = [80, 443]
///     policy.fullmesh = { max-subflows = 4 }
/// "#;
/// let config = Config::parse(Path::new("example.toml"), text)?;
/// let web = config.rules[0].to_string();
/// assert_eq!(web, "web: every connection with remote port 80 or 443 -> fullmesh");
/// // A policy that gives each connection its own.
/// let policy = Dispatch::new(config.rules, 1);
/// # Ok::<(), smapp::rules::Invalid>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The rules, the first that matches decides.
    #[serde(rename = "rule", default)]
    pub rules: Vec<Rule>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1; none if the file cannot be read.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// The line, and carets below what is wrong in it.
    excerpt: String,
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Invalid> {
        let text = fs::read_to_string(path).map_err(|error| Invalid {
            path: path.to_owned(),
            position: None,
            message: error.to_string(),
            excerpt: String::new(),
        })?;
        Self::parse(path, &text)
    }

    /// Reads the text of a file; the path is for errors only.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Invalid> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| Invalid::new(path, text, &error))?;
        for (i, rule) in config.rules.iter_mut().enumerate() {
            if rule.name.is_empty() {
                rule.name = format!("rule {}", i + 1);
            }
        }
        Ok(config)
    }

    /// What is allowed and probably not meant, one text each.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.rules.is_empty() {
            doubts.push("there is no [[rule]]: every connection is left alone".to_owned());
        }
        let all = self.rules.iter().position(Rule::is_unconditional);
        if let Some((all, never)) = all.and_then(|at| self.rules[at..].split_first()) {
            doubts.extend(never.iter().map(|rule| {
                format!(
                    "{} is never reached: {} matches every connection",
                    rule.name, all.name
                )
            }));
        }
        doubts
    }
}

impl Invalid {
    fn new(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().unwrap_or(0..0);
        let start = text.floor_boundary(at.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let number = text[..line_start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        let marked = text.get(start..at.end).unwrap_or_default().lines().next();
        let carets = marked.map_or(1, |marked| marked.chars().count().max(1));
        let gutter = number.to_string();
        Self {
            path: path.to_owned(),
            position: Some((number, column)),
            message: error.message().to_owned(),
            excerpt: format!(
                "\n{gutter} | {line}\n{:1$} | {2:3$}{4}",
                "",
                gutter.len(),
                "",
                column - 1,
                "^".repeat(carets)
            ),
        }
    }
}

trait Boundary {
    /// The last boundary of a character at or before `at`.
    fn floor_boundary(&self, at: usize) -> usize;
}

impl Boundary for str {
    fn floor_boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}{}", self.message, self.excerpt)
    }
}

impl std::error::Error for Invalid {}
