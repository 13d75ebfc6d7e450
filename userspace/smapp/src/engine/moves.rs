// SPDX-License-Identifier: GPL-2.0
//! Local addresses that have been on more than one interface.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{IfIndex, LocalAddress};

/// As many addresses are known at most: temporary ones come without end.
const MOST: usize = 1024;

/// The interface on which an address was seen first, none if it was on another one, too.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<IpAddr, Option<IfIndex>>);

impl Moves {
    /// An address is on an interface.
    pub fn see(&mut self, local: &LocalAddress) {
        if self.0.len() == MOST && !self.0.contains_key(&local.address) {
            self.0.pop_first();
        }
        let first = self.0.entry(local.address).or_insert(Some(local.ifindex));
        *first = first.filter(|&first| first == local.ifindex);
    }

    /// Whether an address has been on more than one interface.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.get(&address).is_some_and(Option::is_none)
    }
}
