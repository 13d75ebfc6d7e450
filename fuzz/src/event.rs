// SPDX-License-Identifier: GPL-2.0
//! A datagram of events, as the client reads it.

use smapp::netlink::Messages;
use smapp::{AddressChange, Event};

/// Reads everything in it.
pub fn run(data: &[u8]) {
    for message in Messages::new(data) {
        let Ok((command, attributes)) = message.and_then(|m| m.generic()) else {
            continue;
        };
        let event = Event::decode(command, attributes.clone());
        let change = AddressChange::decode(command, attributes);
        if let Ok(Some(event)) = event {
            assert_eq!(event.subflow().is_some(), has_subflow(&event));
            assert!(matches!(change, Ok(None)), "an event is one thing");
            let _ = (event.kind().word(), event.token(), event.server_side());
            let subflow = event.subflow().map(serde_json::to_string);
            subflow.transpose().expect("a subflow can be printed");
            if let Event::AddressesWithdrawn { remote_ids, .. } = event {
                assert!(remote_ids.iter().all(|id| remote_ids.contains(id)));
            }
        }
        if let Ok(Some(change)) = change {
            let _ = (change.kind().word(), change.address().interface.to_string());
        }
    }
}

fn has_subflow(event: &Event) -> bool {
    !matches!(
        event,
        Event::Closed { .. } | Event::AddressAnnounced { .. } | Event::AddressesWithdrawn { .. }
    )
}
