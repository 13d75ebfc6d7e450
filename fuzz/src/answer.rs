// SPDX-License-Identifier: GPL-2.0
//! A datagram of answers: of the family, of generic netlink, of rtnetlink.

use smapp::wire::{
    DONE, ERROR, Family, Listing, Messages, decode_address, decode_connection, decode_statistics,
};

/// Reads everything in it.
pub fn run(data: &[u8]) {
    let mut listing = Listing::default();
    for message in Messages::new(data) {
        let Ok(message) = message else { continue };
        match message.kind {
            ERROR => {
                if let Ok((errno, text)) = message.error() {
                    let _ = (errno.to_string(), text.map(str::len));
                }
            }
            DONE => drop(message.dump_error().to_string()),
            _ => {}
        }
        let _ = listing.apply(&message);
        let Ok((_, attributes)) = message.generic() else {
            continue;
        };
        if let Ok(connection) = decode_connection(attributes.clone()) {
            let leading = connection.leading_subflow();
            assert!(leading.is_none_or(|s| s.initial || s.active));
            serde_json::to_string(&connection).expect("a connection can be printed");
        }
        if let Ok(statistics) = decode_statistics(attributes.clone()) {
            assert!(
                statistics
                    .operations
                    .iter()
                    .all(|o| !o.operation.is_empty())
            );
            serde_json::to_string(&statistics).expect("counters can be printed");
        }
        if let Ok(address) = decode_address(attributes.clone()) {
            let _ = address.to_string();
        }
        if let Ok(family) = Family::decode(attributes) {
            assert_ne!(family.id, 0);
        }
    }
    let usable: Vec<_> = listing.usable().collect();
    assert!(usable.is_sorted_by(|a, b| (a.address, a.ifindex) < (b.address, b.ifindex)));
}
