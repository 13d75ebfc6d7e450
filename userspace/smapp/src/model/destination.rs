// SPDX-License-Identifier: GPL-2.0
//! Which addresses a peer may have this host contact by announcing them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether another host can have the address. A peer must not have this host talk to
/// itself, to groups, to everybody, or to a link that the address does not name.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(a) => {
            let [first, ..] = a.octets();
            first != 0 && first < 224 && !a.is_loopback() && !a.is_link_local()
        }
        IpAddr::V6(a) => {
            let [first, ..] = a.segments();
            // All of ::/16 is special: ::, ::1 and forms of IPv4 addresses.
            first != 0 && !a.is_multicast() && !a.is_unicast_link_local()
        }
    }
}

/// Whether the address is one of a private network, which is not the same everywhere
/// (RFC 1918, 4193, 6598).
pub(crate) fn is_private(address: IpAddr) -> bool {
    match plain(address) {
        IpAddr::V4(a) => {
            let [first, second, ..] = a.octets();
            a.is_private() || (first, second & 0xc0) == (100, 64)
        }
        IpAddr::V6(a) => a.is_unique_local(),
    }
}

/// The address itself, or the IPv4 address that packets to it reach in the end: it is
/// mapped, or behind the well-known prefix of NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into();
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        _ => Ipv6Addr::to_canonical(&v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn some_addresses_are_those_of_no_other_host() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.1.1",
            "240.0.0.1",
            "::",
            "::1",
            "::127.0.0.1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "2002:7f00:1::1",
        ] {
            assert!(!is_host(ip(address)), "{address}");
        }
        for address in [
            "10.0.3.1",
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "64:ff9b::192.0.2.1",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(is_host(ip(address)), "{address}");
        }
    }

    #[test]
    fn some_addresses_are_of_private_networks() {
        for address in [
            "10.0.3.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(is_private(ip(address)), "{address}");
        }
        for address in ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1"] {
            assert!(!is_private(ip(address)), "{address}");
        }
    }
}
