// SPDX-License-Identifier: GPL-2.0
//! `smapp stats`

use std::process::ExitCode;

use anyhow::Result;

use crate::interface::Choice;
use crate::output;

pub fn stats(kernel: Choice, json: bool) -> Result<ExitCode> {
    let stats = kernel.connect()?.statistics()?;
    if json {
        output::json(&stats)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("{:<16} {:>10}", "attached", stats.attached))?;
    output::line(&format!("{:<16} {:>10}", "released", stats.released))?;
    output::line(&format!("{:<16} {:>10} {:>10}", "", "done", "failed"))?;
    for operation in &stats.operations {
        output::line(&format!(
            "{:<16} {:>10} {:>10}",
            operation.operation, operation.done, operation.failed
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
