// SPDX-License-Identifier: GPL-2.0
//! `smapp config`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use smapp::rules::{Config, Invalid};

use crate::output;

/// What is wrong with a file, as a program reads it.
#[derive(Serialize)]
struct Problem<'a> {
    file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    error: &'a str,
}

#[derive(Serialize)]
struct Doubt<'a> {
    warning: &'a str,
}

pub fn check(file: &Path, json: bool) -> Result<ExitCode> {
    let config = match Config::read(file) {
        Ok(config) => config,
        Err(invalid) if json => return fail(&invalid),
        Err(invalid) => return Err(invalid.into()),
    };
    for rule in &config.rules {
        match json {
            true => output::json(rule)?,
            false => output::line(&rule.to_string())?,
        }
    }
    for doubt in config.doubts() {
        match json {
            true => output::json(&Doubt { warning: &doubt })?,
            false => output::line(&format!("warning: {doubt}"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(invalid: &Invalid) -> Result<ExitCode> {
    output::json(&Problem {
        file: &invalid.path,
        line: invalid.position.map(|p| p.0),
        column: invalid.position.map(|p| p.1),
        error: &invalid.message,
    })?;
    Ok(ExitCode::FAILURE)
}
