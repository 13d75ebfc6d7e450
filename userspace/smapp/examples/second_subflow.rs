// SPDX-License-Identifier: GPL-2.0
//! A policy: every connection that this host opens gets a second subflow on the addresses
//! of its first.
#![forbid(unsafe_code)]

use smapp::{Client, Context, Engine, Error, Policy, SubflowCreate, Token};

/// The policy; it has nothing to remember.
pub struct SecondSubflow;

impl Policy for SecondSubflow {
    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(connection) = context.connection(token).filter(|c| !c.server_side) else {
            return;
        };
        if let Some(first) = connection.leading_subflow() {
            let second = SubflowCreate::to(first.remote()).local_address(first.local_address);
            match context.subflow_create(token, &second) {
                Ok(subflow) => println!("{token}: subflow {} from {}", subflow.id, subflow.local()),
                Err(error) => eprintln!("{token}: {error}"),
            }
        }
    }
}

fn main() -> Result<(), Error> {
    Engine::new(Client::connect()?, SecondSubflow).run()
}
