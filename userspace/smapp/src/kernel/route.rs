// SPDX-License-Identifier: GPL-2.0
//! The local addresses that a subflow can start from, listed by rtnetlink.
//!
//! An address is usable if it is valid beyond its link, is not tentative (IPv6
//! duplicate address detection), is not on the loopback interface, and its
//! interface is up.
//!
//! C headers: `linux/rtnetlink.h`, `linux/if_addr.h`, `linux/if.h`

use std::collections::BTreeMap;
use std::net::IpAddr;

use neli::consts::socket::NlFamily;

use crate::model::{IfIndex, InterfaceName, LocalAddress, RouteQuery};
use crate::netlink::{self, Attribute, Attributes, Error, Malformed, Message, Request, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_MARK: u16 = 16;
const RTA_UID: u16 = 25;
/// Answer with the entry of the routing tables.
const RTM_F_FIB_MATCH: u32 = 0x2000;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_SITE: u8 = 200;

const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;

/// How often a listing is started again when changes interrupt it.
const TRIES: usize = 5;

/// The request for a route, by its name in errors.
const ROUTE: &str = "route";

/// A socket to ask for addresses and routes.
pub(crate) struct Route {
    socket: Socket,
    request: Vec<u8>,
    seq: u32,
}

impl Route {
    /// Opens a socket in the current network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(NlFamily::Route)?,
            request: Vec::new(),
            seq: 0,
        })
    }

    /// Lists the usable addresses.
    pub fn addresses(&mut self) -> Result<Vec<LocalAddress>, Error> {
        const NAME: &str = "list of local addresses";
        'again: for _ in 0..TRIES {
            let mut listing = Listing::default();
            for links in [true, false] {
                self.seq = self.seq.wrapping_add(1);
                let request = Listing::request(&mut self.request, links, self.seq);
                let take = |message: Message<'_>| {
                    // One that cannot be read is one the less, not the end.
                    if let Err(error) = listing.apply(&message) {
                        log::error!(
                            "{NAME}: a message of kind {} ignored: {error}",
                            message.kind
                        );
                    }
                    Ok(())
                };
                match self.socket.call(NAME, self.seq, request, take) {
                    Err(Error::Interrupted(_)) => continue 'again,
                    result => result?,
                }
            }
            return Ok(listing.usable().collect());
        }
        Err(Error::Interrupted(NAME))
    }
}

impl Route {
    /// By which interface packets leave; a refusal is that there is no route.
    ///
    /// For a socket that is bound to an interface the kernel takes every IPv4 address to be on
    /// its link if there is no route; not so if it has to show the entry. With IPv6 the
    /// interface is a wish only: the answer may have another.
    pub fn lookup(&mut self, query: &RouteQuery) -> Result<IfIndex, Error> {
        let flags = match query.bound {
            Some(_) if query.to.is_ipv4() => RTM_F_FIB_MATCH,
            _ => 0,
        };
        // An entry with several next hops has none of its own.
        let mut out = query.bound;
        self.route(query, flags, |attribute| {
            if attribute.kind == RTA_OIF {
                out = Some(IfIndex(attribute.u32()?));
            }
            Ok(())
        })?;
        out.ok_or(Error::NoAnswer(ROUTE))
    }

    /// The local address that packets to `remote` would have, from this interface and with
    /// this mark if there are any.
    pub fn source(
        &mut self,
        remote: IpAddr,
        ifindex: Option<IfIndex>,
        mark: Option<u32>,
    ) -> Result<IpAddr, Error> {
        let query = RouteQuery {
            from: None,
            to: remote,
            mark,
            uid: None,
            bound: ifindex,
        };
        let mut source = None;
        self.route(&query, 0, |attribute| {
            if attribute.kind == RTA_PREFSRC {
                source = Some(attribute.address()?);
            }
            Ok(())
        })?;
        source.ok_or(Error::NoAnswer(ROUTE))
    }

    /// Asks the routing tables, hands what they answer to `each`.
    fn route(
        &mut self,
        query: &RouteQuery,
        flags: u32,
        mut each: impl FnMut(Attribute<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let (family, length) = match query.to {
            IpAddr::V4(_) => (AF_INET, 32),
            IpAddr::V6(_) => (AF_INET6, 128),
        };
        // struct rtmsg: family, lengths of both prefixes, what nobody asks for, flags
        let from = query.from.map_or(0, |_| length);
        let fixed = [family, length, from, 0, 0, 0, 0, 0];
        let body = [&fixed[..], &flags.to_ne_bytes()].concat();
        self.seq = self.seq.wrapping_add(1);
        let mut request = Request::new(&mut self.request, RTM_GETROUTE, 0, self.seq)
            .body(&body)
            .address(RTA_DST, query.to);
        if let Some(from) = query.from {
            request = request.address(RTA_SRC, from);
        }
        for (kind, value) in [
            (RTA_OIF, query.bound.map(|index| index.0)),
            (RTA_MARK, query.mark),
            (RTA_UID, query.uid),
        ] {
            if let Some(value) = value {
                request = request.u32(kind, value);
            }
        }
        let request = request.finish();
        self.socket.call(ROUTE, self.seq, request, |message| {
            let attributes = message.payload.get(body.len()..).unwrap_or_default();
            for attribute in Attributes::new(attributes) {
                each(attribute?)?;
            }
            Ok(())
        })
    }
}

/// Whether an address of this scope is valid beyond its link.
pub(crate) fn is_global(scope: u8) -> bool {
    matches!(scope, RT_SCOPE_UNIVERSE | RT_SCOPE_SITE)
}

/// An interface.
#[derive(Clone, Copy, Debug)]
struct Link {
    flags: u32,
    name: InterfaceName,
}

/// A listing of all interfaces and addresses.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Addresses that are usable if their interface is up, and whether they are deprecated.
    assigned: BTreeMap<(IpAddr, IfIndex), bool>,
    links: BTreeMap<IfIndex, Link>,
}

impl Listing {
    /// Writes the question for all interfaces, or else for all addresses.
    fn request(buffer: &mut Vec<u8>, links: bool, seq: u32) -> &[u8] {
        let (kind, body): (u16, &[u8]) = match links {
            true => (RTM_GETLINK, &[0; 16]),
            false => (RTM_GETADDR, &[0; 8]),
        };
        Request::new(buffer, kind, netlink::DUMP, seq)
            .body(body)
            .finish()
    }

    /// The addresses that are usable.
    pub fn usable(&self) -> impl Iterator<Item = LocalAddress> {
        self.assigned
            .iter()
            .filter_map(|(&(address, ifindex), &deprecated)| {
                let link = self.links.get(&ifindex)?;
                let usable = link.flags & IFF_UP != 0 && link.flags & IFF_LOOPBACK == 0;
                usable.then_some(LocalAddress {
                    address,
                    ifindex,
                    interface: link.name,
                    deprecated,
                })
            })
    }

    /// Takes in what one message says.
    pub fn apply(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        match message.kind {
            RTM_NEWLINK => self.apply_link(message),
            RTM_NEWADDR => self.apply_address(message),
            _ => Ok(()),
        }
    }

    fn apply_link(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        // struct ifinfomsg: family, pad, type, index, flags, change
        let [
            0,
            _,
            _,
            _,
            i0,
            i1,
            i2,
            i3,
            f0,
            f1,
            f2,
            f3,
            _,
            _,
            _,
            _,
            ref rest @ ..,
        ] = *message.payload
        else {
            // AF_BRIDGE and AF_INET6 tell other things about a link.
            return Ok(());
        };
        let ifindex = IfIndex(u32::from_ne_bytes([i0, i1, i2, i3]));
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let mut name = InterfaceName::default();
        for attribute in Attributes::new(rest) {
            let a = attribute?;
            if a.kind == IFLA_IFNAME {
                name = InterfaceName::new(a.string());
            }
        }
        self.links.insert(ifindex, Link { flags, name });
        Ok(())
    }

    fn apply_address(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index
        let [family, _, flags, scope, i0, i1, i2, i3, ref rest @ ..] = *message.payload else {
            return Err(Malformed::Inconsistent("rtnetlink address"));
        };
        if !matches!(family, AF_INET | AF_INET6) {
            // MCTP and Phonet have addresses too, of one byte.
            return Ok(());
        }
        let ifindex = IfIndex(u32::from_ne_bytes([i0, i1, i2, i3]));
        let (mut flags, mut peer, mut local) = (u32::from(flags), None, None);
        for attribute in Attributes::new(rest) {
            let a = attribute?;
            match a.kind {
                IFA_ADDRESS => peer = Some(a.address()?),
                IFA_LOCAL => local = Some(a.address()?),
                IFA_FLAGS => flags = a.u32()?,
                _ => {}
            }
        }
        // Without IFA_LOCAL there is no peer: IFA_ADDRESS is the local address.
        let Some(address) = local.or(peer) else {
            return Err(Malformed::Inconsistent("rtnetlink address"));
        };
        let settled = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0;
        if settled && is_global(scope) {
            let deprecated = flags & IFA_F_DEPRECATED != 0;
            self.assigned.insert((address, ifindex), deprecated);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InterfaceName;
    use crate::netlink::Messages;

    const UP: u32 = IFF_UP;

    fn local(address: &str, ifindex: u32) -> LocalAddress {
        LocalAddress {
            address: address.parse().unwrap(),
            ifindex: IfIndex(ifindex),
            interface: InterfaceName::new(format!("eth{ifindex}").as_bytes()),
            deprecated: false,
        }
    }

    fn apply(addresses: &mut Listing, bytes: &[u8]) {
        let message = Messages::new(bytes).next().unwrap().unwrap();
        addresses.apply(&message).unwrap();
    }

    fn link(addresses: &mut Listing, ifindex: u32, flags: u32) {
        let (index, flags) = (ifindex.to_ne_bytes(), flags.to_ne_bytes());
        let body = [&[0; 4][..], &index, &flags, &[0; 4]].concat();
        let mut bytes = Vec::new();
        apply(
            addresses,
            Request::new(&mut bytes, RTM_NEWLINK, 0, 0)
                .body(&body)
                .attribute(IFLA_IFNAME, format!("eth{ifindex}\0").as_bytes())
                .finish(),
        );
    }

    fn address(addresses: &mut Listing, which: LocalAddress, flags: u32, scope: u8) {
        let index = which.ifindex.0.to_ne_bytes();
        let family = if which.address.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let body = [&[family, 0, flags as u8, scope][..], &index].concat();
        let mut bytes = Vec::new();
        let request = Request::new(&mut bytes, RTM_NEWADDR, 0, 0).body(&body);
        let request = match which.address {
            // What a kernel sends for IPv4: the local address, and before it the peer's.
            IpAddr::V4(_) => request.address(IFA_ADDRESS, local("192.0.2.9", 0).address),
            IpAddr::V6(_) => request.address(IFA_ADDRESS, which.address),
        };
        let request = match which.address {
            IpAddr::V4(_) => request.address(IFA_LOCAL, which.address),
            IpAddr::V6(_) => request,
        };
        apply(addresses, request.u32(IFA_FLAGS, flags).finish());
    }

    fn usable(addresses: &Listing) -> Vec<LocalAddress> {
        addresses.usable().collect()
    }

    #[test]
    fn an_address_is_usable_if_its_interface_is_up() {
        let (v4, v6) = (local("10.0.1.1", 2), local("fd00::1", 2));
        let mut a = Listing::default();
        address(&mut a, v4, 0, RT_SCOPE_UNIVERSE);
        address(&mut a, v6, 0, RT_SCOPE_UNIVERSE);
        assert_eq!(usable(&a), []);
        link(&mut a, 2, UP);
        assert_eq!(usable(&a), [v4, v6]);
        link(&mut a, 2, 0);
        assert_eq!(usable(&a), []);
    }

    #[test]
    fn loopback_and_link_local_addresses_are_not_usable() {
        const RT_SCOPE_LINK: u8 = 253;
        let mut a = Listing::default();
        link(&mut a, 1, UP | IFF_LOOPBACK);
        link(&mut a, 2, UP);
        address(&mut a, local("10.9.9.9", 1), 0, RT_SCOPE_UNIVERSE);
        address(&mut a, local("fe80::1", 2), 0, RT_SCOPE_LINK);
        assert_eq!(usable(&a), []);
    }

    #[test]
    fn a_tentative_address_is_not_usable() {
        let v6 = local("fd00::1", 2);
        let mut a = Listing::default();
        link(&mut a, 2, UP);
        address(&mut a, v6, IFA_F_TENTATIVE, RT_SCOPE_UNIVERSE);
        assert_eq!(usable(&a), []);
        let failed = IFA_F_TENTATIVE | IFA_F_DADFAILED;
        address(&mut a, v6, failed, RT_SCOPE_UNIVERSE);
        assert_eq!(usable(&a), []);
        address(&mut a, v6, 0x80, RT_SCOPE_UNIVERSE);
        assert_eq!(usable(&a), [v6]);
    }

    #[test]
    fn a_deprecated_address_is_told_as_such() {
        let v6 = local("fd00::1", 2);
        let mut a = Listing::default();
        link(&mut a, 2, UP);
        address(&mut a, v6, IFA_F_DEPRECATED, RT_SCOPE_UNIVERSE);
        let deprecated = true;
        assert_eq!(usable(&a), [LocalAddress { deprecated, ..v6 }]);
    }

    #[test]
    fn addresses_that_are_not_of_ip_are_skipped() {
        const AF_PHONET: u8 = 35;
        const AF_MCTP: u8 = 45;
        for family in [AF_PHONET, AF_MCTP] {
            let mut bytes = Vec::new();
            let body = [family, 8, 0, 0, 2, 0, 0, 0];
            let request = Request::new(&mut bytes, RTM_NEWADDR, 0, 0).body(&body);
            let mut a = Listing::default();
            link(&mut a, 2, UP);
            apply(&mut a, request.attribute(IFA_LOCAL, &[9]).finish());
            assert_eq!(usable(&a), []);
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_is_a_name() {
        let mut a = Listing::default();
        let body = [&[0; 4][..], &2u32.to_ne_bytes(), &UP.to_ne_bytes(), &[0; 4]].concat();
        let mut bytes = Vec::new();
        let request = Request::new(&mut bytes, RTM_NEWLINK, 0, 0).body(&body);
        apply(
            &mut a,
            request.attribute(IFLA_IFNAME, b"wan\xff\0").finish(),
        );
        address(&mut a, local("10.0.1.1", 2), 0, RT_SCOPE_UNIVERSE);
        assert_eq!(usable(&a)[0].interface, InterfaceName::new(b"wan\xff"));
    }

    #[test]
    fn messages_that_are_cut_off_never_panic() {
        let bodies = [
            (RTM_NEWLINK, &[0; 16][..]),
            (RTM_NEWADDR, &[AF_INET, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (kind, body) in bodies {
            let mut bytes = Vec::new();
            let request = Request::new(&mut bytes, kind, 0, 0).body(body);
            let bytes = request.u32(IFA_FLAGS, 0).finish();
            for len in 0..bytes.len() - 16 {
                let payload = &bytes[16..16 + len];
                let message = Message {
                    kind,
                    flags: 0,
                    seq: 0,
                    payload,
                };
                let _ = Listing::default().apply(&message);
            }
        }
    }
}
