// SPDX-License-Identifier: GPL-2.0
//! Local addresses that come and go.

use super::{EventKind, LocalAddress};

/// A local address comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressChange {
    /// An address can be used from now on; or what is known of one has changed.
    Up(LocalAddress),
    /// An address can no longer be used.
    Down(LocalAddress),
}

impl AddressChange {
    /// The kind of event that tells it.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Up(_) => EventKind::NewLocalAddress,
            Self::Down(_) => EventKind::DelLocalAddress,
        }
    }

    /// The address.
    pub fn address(&self) -> &LocalAddress {
        match self {
            Self::Up(address) | Self::Down(address) => address,
        }
    }
}

/// The changes that lead from `before` to `after`, first those of addresses that have gone.
/// An address whose interface was renamed, or that is deprecated now, has not gone: it comes
/// up once more.
pub(crate) fn changes(
    before: &[LocalAddress],
    after: &[LocalAddress],
) -> impl Iterator<Item = AddressChange> {
    let same =
        |a: &LocalAddress, b: &LocalAddress| (a.address, a.ifindex) == (b.address, b.ifindex);
    let gone = before
        .iter()
        .filter(move |a| !after.iter().any(|b| same(a, b)));
    let new = after.iter().filter(|a| !before.contains(a));
    gone.map(|&a| AddressChange::Down(a))
        .chain(new.map(|&a| AddressChange::Up(a)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IfIndex, InterfaceName};

    fn local(address: &str, ifindex: u32) -> LocalAddress {
        LocalAddress {
            address: address.parse().unwrap(),
            ifindex: IfIndex(ifindex),
            interface: InterfaceName::new(format!("eth{ifindex}").as_bytes()),
            deprecated: false,
        }
    }

    #[test]
    fn changes_tell_first_what_has_gone() {
        let [a, b, c] = [
            local("10.0.1.1", 2),
            local("10.0.2.1", 3),
            local("10.0.2.1", 4),
        ];
        let told: Vec<_> = changes(&[a, b], &[a, c]).collect();
        assert_eq!(told, [AddressChange::Down(b), AddressChange::Up(c)]);
        let deprecated = LocalAddress {
            deprecated: true,
            ..a
        };
        let told: Vec<_> = changes(&[a], &[deprecated]).collect();
        assert_eq!(told, [AddressChange::Up(deprecated)]);
    }
}
