// SPDX-License-Identifier: GPL-2.0
//! The two ends of a subflow: what the kernel names it by.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// Local and remote address and port.
///
/// A subflow of IPv4 on a socket of IPv6 has mapped addresses. They are kept as those of
/// IPv4, beside the fact that they were mapped: a command has to name them as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub mapped: bool,
}

impl Ends {
    /// Ends of a socket of `family`, unmapped.
    pub fn new(family: u16, local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (local, remote) = (plain(local), plain(remote));
        let mapped = family == AF_INET6 && remote.is_ipv4();
        Self {
            local,
            remote,
            mapped,
        }
    }

    /// Whether these are the same addresses and ports. Whether they are mapped does not count:
    /// no two sockets differ only in that.
    pub fn are(&self, other: &Self) -> bool {
        (self.local, self.remote) == (other.local, other.remote)
    }

    /// The family of the socket.
    pub fn family(&self) -> u16 {
        match self.remote {
            SocketAddr::V4(_) if !self.mapped => AF_INET,
            _ => AF_INET6,
        }
    }

    /// The addresses, local and remote, as the socket has them.
    pub fn on_the_socket(&self) -> [IpAddr; 2] {
        [self.local, self.remote].map(|end| match end.ip() {
            IpAddr::V4(plain) if self.mapped => plain.to_ipv6_mapped().into(),
            address => address,
        })
    }
}

/// The 16 bytes of an address in the structures of `sock_diag`.
pub(crate) fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(a) => a.octets(),
        IpAddr::V4(a) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&a.octets());
            bytes
        }
    }
}

/// The address in 16 bytes like those; none if the family has none.
pub(crate) fn unpadded(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match (family, bytes) {
        (AF_INET, [a, b, c, d, ..]) => Some(IpAddr::from([a, b, c, d])),
        (AF_INET6, bytes) => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}
