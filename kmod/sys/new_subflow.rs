// SPDX-License-Identifier: GPL-2.0

//! Subflows that are to be opened.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h), `struct mptcp_pm_local`

use super::address::endpoint;
use kernel::{bindings, error::code, prelude::*};

/// A subflow to open: what is not given, the kernel chooses.
pub(crate) struct NewSubflow {
    pub(super) local: bindings::mptcp_pm_local,
    pub(super) remote: bindings::mptcp_addr_info,
}

impl NewSubflow {
    /// A subflow to `address` (4 or 16 bytes in network byte order) and `port`.
    pub(crate) fn to(address: &[u8], port: u16, id: u8) -> Result<Self> {
        let remote = endpoint(address, port, id)?;
        let mut local: bindings::mptcp_pm_local = pin_init::zeroed();
        local.addr.family = remote.family;
        Ok(Self { local, remote })
    }

    /// Opened from `address`, which is of the family of the remote one.
    pub(crate) fn set_local_address(&mut self, address: &[u8]) -> Result {
        let port = self.local.addr.port;
        let local = endpoint(address, u16::from_be(port), 0)?;
        if local.family != self.remote.family {
            return Err(code::EAFNOSUPPORT);
        }
        self.local.addr = local;
        Ok(())
    }

    /// Opened from `port`, in host byte order.
    pub(crate) fn set_local_port(&mut self, port: u16) {
        self.local.addr.port = port.to_be();
    }

    /// Through the interface only.
    pub(crate) fn set_ifindex(&mut self, ifindex: c_int) {
        self.local.ifindex = ifindex;
    }

    /// To be used only when no other subflow works (RFC 8684 section 3.3.8).
    pub(crate) fn set_backup(&mut self) {
        self.local.flags |= bindings::MPTCP_PM_ADDR_FLAG_BACKUP;
    }
}

#[kunit_tests(smapp_pm_new_subflow)]
mod tests {
    use super::*;
    use crate::sys::address::Endpoint;

    const V4: [u8; 4] = [192, 0, 2, 1];
    const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn a_local_port_stays_whatever_comes_first() -> Result {
        let mut subflow = NewSubflow::to(&V4, 80, 0)?;
        subflow.set_local_port(4000);
        subflow.set_local_address(&V4)?;
        assert_eq!(u16::from_be(subflow.local.addr.port), 4000);
        subflow.set_local_port(4001);
        assert_eq!(u16::from_be(subflow.local.addr.port), 4001);
        assert_eq!(Endpoint(&subflow.local.addr).address(), &V4[..]);
        Ok(())
    }

    #[test]
    fn both_ends_are_of_one_family() -> Result {
        for (to, from) in [(&V4[..], &V6[..]), (&V6[..], &V4[..])] {
            let refused = NewSubflow::to(to, 80, 0)?.set_local_address(from);
            assert_eq!(refused, Err(code::EAFNOSUPPORT));
        }
        Ok(())
    }
}
