// SPDX-License-Identifier: GPL-2.0
//! What mutated messages do: a small part of `make fuzz-guest`.

use anyhow::Result;
use smapp_tests::fuzz;

#[test]
fn twenty_thousand_mutated_messages_break_nothing() -> Result<()> {
    const MESSAGES: u64 = 20_000;
    const SEED: u64 = 20;
    let outcome = fuzz::run(SEED, MESSAGES, |_| {})?;
    print!("{outcome}");
    assert!(outcome.sent >= MESSAGES);
    Ok(())
}
