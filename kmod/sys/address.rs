// SPDX-License-Identifier: GPL-2.0

//! Addresses, with the ports and IDs that Multipath TCP gives them.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h), `struct mptcp_addr_info`

use kernel::{bindings, error::code, prelude::*};

/// An address of this host.
pub(crate) struct Address(pub(super) bindings::mptcp_addr_info);

impl Address {
    /// `address` has 4 or 16 bytes in network byte order, `port` is 0 for that of the initial
    /// subflow.
    pub(crate) fn new(address: &[u8], port: u16, id: u8) -> Result<Self> {
        Ok(Self(endpoint(address, port, id)?))
    }

    pub(crate) fn endpoint(&self) -> Endpoint<'_> {
        Endpoint(&self.0)
    }
}

/// `address` has 4 or 16 bytes in network byte order, `port` is in host byte order.
pub(super) fn endpoint(address: &[u8], port: u16, id: u8) -> Result<bindings::mptcp_addr_info> {
    let mut info: bindings::mptcp_addr_info = pin_init::zeroed();
    info.id = id;
    info.port = port.to_be();
    if let Ok(v4) = <[u8; 4]>::try_from(address) {
        info.family = bindings::AF_INET as bindings::sa_family_t;
        info.__bindgen_anon_1.addr.s_addr = u32::from_ne_bytes(v4);
    } else if let Ok(v6) = <[u8; 16]>::try_from(address) {
        info.family = bindings::AF_INET6 as bindings::sa_family_t;
        info.__bindgen_anon_1.addr6.in6_u.u6_addr8 = v6;
    } else {
        return Err(code::EINVAL);
    }
    Ok(info)
}

/// An address with a port and an ID: one end of a subflow, or announced.
pub(crate) struct Endpoint<'a>(pub(super) &'a bindings::mptcp_addr_info);

impl<'a> Endpoint<'a> {
    /// # Safety
    ///
    /// `info` is valid for `'a`.
    pub(super) unsafe fn from_raw(info: *const bindings::mptcp_addr_info) -> Self {
        // SAFETY: The caller vouches for the pointer.
        Self(unsafe { &*info })
    }

    /// The address in network byte order: 4 bytes for IPv4 or 16 for IPv6.
    pub(crate) fn address(&self) -> &'a [u8] {
        if u32::from(self.0.family) != bindings::AF_INET6 {
            // SAFETY: The address of another family is one of IPv4.
            let v4: &'a u32 = unsafe { &self.0.__bindgen_anon_1.addr.s_addr };
            return v4.as_bytes();
        }
        // SAFETY: The family says that it is an address of IPv6.
        let bytes: &'a [u8; 16] = unsafe { &self.0.__bindgen_anon_1.addr6.in6_u.u6_addr8 };
        bytes
    }

    /// In host byte order.
    pub(crate) fn port(&self) -> u16 {
        u16::from_be(self.0.port)
    }

    /// Address ID (RFC 8684 section 3.4.1).
    pub(crate) fn id(&self) -> u8 {
        self.0.id
    }
}

#[kunit_tests(smapp_pm_address)]
mod tests {
    use super::*;

    const V4: [u8; 4] = [192, 0, 2, 1];
    const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn an_address_keeps_what_it_is() -> Result {
        for bytes in [&V4[..], &V6[..]] {
            let address = Address::new(bytes, 443, 7)?;
            let end = address.endpoint();
            assert_eq!(end.address(), bytes);
            assert_eq!(end.port(), 443);
            assert_eq!(end.id(), 7);
        }
        Ok(())
    }

    #[test]
    fn an_address_has_4_or_16_bytes() {
        for length in 0..20 {
            let accepted = [0; 20]
                .get(..length)
                .is_some_and(|b| Address::new(b, 0, 0).is_ok());
            assert_eq!(accepted, length == 4 || length == 16);
        }
    }
}
