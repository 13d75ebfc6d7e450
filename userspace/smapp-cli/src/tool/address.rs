// SPDX-License-Identifier: GPL-2.0
//! `smapp address`

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;
use smapp::{Address, AddressId, Kernel, Token};

use crate::cli;
use crate::interface::Choice;
use crate::output;

/// What `address announce` answers.
#[derive(Serialize)]
struct Announced {
    token: Token,
    address: Address,
}

pub fn address(kernel: Choice, command: &cli::Address, json: bool) -> Result<ExitCode> {
    let mut client = kernel.connect()?;
    match command {
        cli::Address::Announce { token, address } => {
            let token = *token;
            let address = client
                .announce(token, address.address, address.port)
                .with_context(|| format!("connection {token}"))?;
            match json {
                true => output::json(&Announced { token, address })?,
                false => output::line(&format!("{token} {address}"))?,
            }
        }
        cli::Address::Withdraw {
            token,
            number,
            address,
            ..
        } => {
            let address = Address {
                id: AddressId(*number),
                address: address.address,
                port: address.port,
            };
            client
                .withdraw(*token, &address)
                .with_context(|| format!("connection {token}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
