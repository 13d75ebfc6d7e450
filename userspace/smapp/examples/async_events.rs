// SPDX-License-Identifier: GPL-2.0
//! An async program that prints events, beside whatever else it does.
//!
//! `cargo run -p smapp --features tokio --example async_events`, as root.
#![forbid(unsafe_code)]

use smapp::{AsyncEvents, Error, EventSet, Input};

async fn print_events() -> Result<(), Error> {
    let mut events = AsyncEvents::connect(EventSet::ALL)?;
    loop {
        match events.next().await? {
            Input::Event(event) => println!("{} {}", event.kind().word(), event.token),
            Input::Address(change) => println!("{change:?}"),
            Input::Lost => println!("events were lost"),
            _ => {}
        }
    }
}

fn main() -> Result<(), Error> {
    let builder = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let runtime = builder.expect("a runtime with IO");
    runtime.block_on(print_events())
}
