// SPDX-License-Identifier: GPL-2.0

//! The modules of a distribution's kernel, which has in them what the project's own kernel
//! has built in.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::system::finit_module;

/// Where qemu/run puts them; there is none for a kernel of the project's own.
const DIRECTORY: &str = "/lib/smapp/modules";

/// Inserts all of them in the order that the host has worked out: a module on each line,
/// with its parameters after it.
pub fn load_all() -> Result<()> {
    let directory = Path::new(DIRECTORY);
    if !directory.exists() {
        return Ok(());
    }
    let order = fs::read_to_string(directory.join("order")).context("no order of modules")?;
    for line in order.lines() {
        let (module, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let file = File::open(directory.join(module)).with_context(|| format!("no {module}"))?;
        finit_module(file, &CString::new(parameters)?, 0)
            .with_context(|| format!("cannot load {module}"))?;
    }
    Ok(())
}
