// SPDX-License-Identifier: GPL-2.0
//! A datagram of events, as the client reads it.

use smapp::wire::{Messages, decode_event};
use smapp::{Event, Input, What};

/// Reads everything in it.
pub fn run(data: &[u8]) {
    for message in Messages::new(data) {
        let Ok((command, attributes)) = message.and_then(|m| m.generic()) else {
            continue;
        };
        match decode_event(command, attributes) {
            Ok(Some(Input::Event(event))) => {
                assert_eq!(event.subflow().is_some(), has_subflow(&event));
                let _ = event.kind().word();
                let subflow = event.subflow().map(serde_json::to_string);
                subflow.transpose().expect("a subflow can be printed");
                if let What::AddressesWithdrawn(ids) = event.what {
                    assert!(ids.iter().all(|id| ids.contains(id)));
                }
            }
            Ok(Some(Input::Address(change))) => {
                let _ = (change.kind().word(), change.address().interface.to_string());
            }
            Ok(Some(other)) => panic!("{other:?} is no event"),
            Ok(None) | Err(_) => {}
        }
    }
}

fn has_subflow(event: &Event) -> bool {
    !matches!(
        event.what,
        What::Closed | What::AddressAnnounced(_) | What::AddressesWithdrawn(_)
    )
}
