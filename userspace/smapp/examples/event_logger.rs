// SPDX-License-Identifier: GPL-2.0
//! A policy that decides nothing and prints what it sees.
//!
//! `cargo run -p smapp --example event_logger`, as root.

use smapp::{Client, Context, Engine, Error, EventSet, Policy, Subflow, Token};

struct EventLogger;

impl Policy for EventLogger {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn attached(&mut self, _: &mut Context<'_>, token: Token) {
        println!("{token} was there already");
    }

    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        let live = context.connections().count();
        println!("{token} is established, the connections are now {live}");
    }

    fn subflow_closed(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let why = subflow
            .errno
            .map_or("for an unknown reason".to_owned(), |e| e.to_string());
        println!("{token} lost its subflow from {}: {why}", subflow.local());
    }

    fn timeout(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        println!(
            "{token} hears nothing on its subflow from {}",
            subflow.local()
        );
    }
}

fn main() -> Result<(), Error> {
    Engine::new(Client::connect()?, EventLogger).run()
}
