// SPDX-License-Identifier: GPL-2.0
//! The ids of local addresses.
//!
//! The kernel keeps a list for each connection, of (address, port, id), and refuses a
//! command whose entry has one part in common with another one but not all. What is in the
//! list is not told: subflows take entries, also those that the peer opened; some commands
//! take out what others still use. So this is only what is known of it, and a refusal
//! says more.

use std::net::IpAddr;

use super::wire::command::Local;
use crate::model::AddressId;

/// What is known of the ids of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    known: Vec<Local>,
    /// Taken by what is not known.
    taken: Vec<AddressId>,
}

impl Ids {
    /// Takes in that a subflow from this address has this id.
    pub fn learn(&mut self, address: IpAddr, id: AddressId) {
        if !self.known.iter().any(|known| known.id == id) {
            self.known.push(Local {
                address,
                port: 0,
                id,
            });
        }
    }

    /// The entry for an address: port 0, which any number of subflows share, unless a port
    /// is asked for. None if all ids are taken.
    pub fn choose(&mut self, address: IpAddr, port: u16) -> Option<Local> {
        let known = |known: &&Local| (known.address, known.port) == (address, port);
        if let Some(&local) = self.known.iter().find(known) {
            return Some(local);
        }
        // 0 is the address of the initial subflow.
        let mut ids = (1..=u8::MAX).map(AddressId);
        let id = ids.find(|&id| !self.is_taken(id))?;
        let local = Local { address, port, id };
        self.known.push(local);
        Some(local)
    }

    fn is_taken(&self, id: AddressId) -> bool {
        self.taken.contains(&id) || self.known.iter().any(|known| known.id == id)
    }

    /// The kernel has refused the entry: what it has is `listed`, if it can tell.
    pub fn refused(&mut self, local: Local, listed: Option<Vec<Local>>) {
        self.forget(local);
        match listed {
            None => self.taken.push(local.id),
            Some(listed) => {
                for entry in listed {
                    let differs = |known: &Local| {
                        known.id != entry.id
                            && (known.address, known.port) != (entry.address, entry.port)
                    };
                    self.known.retain(differs);
                    self.known.push(entry);
                }
            }
        }
    }

    /// Takes out an entry.
    pub fn forget(&mut self, local: Local) {
        self.known.retain(|&known| known != local);
    }

    /// The entry with this id.
    pub fn by_id(&self, id: AddressId) -> Option<Local> {
        self.known.iter().copied().find(|known| known.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn id_of(ids: &mut Ids, address: &str, port: u16) -> u8 {
        ids.choose(ip(address), port).unwrap().id.0
    }

    #[test]
    fn an_address_has_one_id_and_a_port_one_of_its_own() {
        let mut ids = Ids::default();
        ids.learn(ip("10.0.1.1"), AddressId(0));
        assert_eq!(id_of(&mut ids, "10.0.1.1", 0), 0);
        assert_eq!(id_of(&mut ids, "10.0.2.1", 0), 1);
        assert_eq!(id_of(&mut ids, "10.0.2.1", 5000), 2);
        assert_eq!(id_of(&mut ids, "10.0.2.1", 0), 1);
        assert_eq!(id_of(&mut ids, "10.0.3.1", 0), 3);
        ids.forget(ids.by_id(AddressId(2)).unwrap());
        assert_eq!(id_of(&mut ids, "10.0.4.1", 0), 2);
    }

    #[test]
    fn an_id_that_a_peer_made_the_kernel_choose_is_used() {
        let mut ids = Ids::default();
        ids.learn(ip("10.0.2.1"), AddressId(7));
        assert_eq!(id_of(&mut ids, "10.0.2.1", 0), 7);
    }

    #[test]
    fn after_a_refusal_the_list_of_the_kernel_counts() {
        let mut ids = Ids::default();
        let mine = ids.choose(ip("10.0.2.1"), 0).unwrap();
        let (other, id) = (ip("10.0.9.1"), AddressId(1));
        let listed = Local {
            address: other,
            port: 0,
            id,
        };
        ids.refused(mine, Some(vec![listed]));
        assert_eq!(id_of(&mut ids, "10.0.2.1", 0), 2);
        assert_eq!(id_of(&mut ids, "10.0.9.1", 0), 1);
    }

    #[test]
    fn without_a_list_the_next_id_is_tried() {
        let mut ids = Ids::default();
        let first = ids.choose(ip("10.0.2.1"), 0).unwrap();
        ids.refused(first, None);
        assert_eq!(id_of(&mut ids, "10.0.2.1", 0), 2);
    }

    #[test]
    fn there_are_255_ids() {
        let mut ids = Ids::default();
        for port in 1..=255 {
            assert!(ids.choose(ip("10.0.2.1"), port).is_some());
        }
        assert_eq!(ids.choose(ip("10.0.2.1"), 256), None);
    }
}
