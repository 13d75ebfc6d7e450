// SPDX-License-Identifier: GPL-2.0

//! The addresses of this host, and the devices that have them.
//!
//! C headers: [`include/linux/inetdevice.h`](srctree/include/linux/inetdevice.h),
//! [`include/net/if_inet6.h`](srctree/include/net/if_inet6.h)

use super::net::Net;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings, container_of,
    prelude::*,
    sync::{
        atomic::{atomic_load, Acquire, Relaxed},
        rcu,
    },
};

/// An address of an interface.
///
/// # Invariants
///
/// `device` is valid for `'a`.
pub(crate) struct LocalAddress<'a> {
    device: NonNull<bindings::net_device>,
    address: &'a [u8],
    scope: u8,
}

impl<'a> LocalAddress<'a> {
    /// The network namespace of the interface.
    pub(crate) fn net(&self) -> &'a Net {
        #[cfg(CONFIG_NET_NS)]
        // SAFETY: By the type invariants.
        let net = unsafe { (*self.device.as_ptr()).nd_net.net };
        #[cfg(not(CONFIG_NET_NS))]
        let net = &raw mut bindings::init_net;
        // SAFETY: A device is gone before its network namespace is.
        unsafe { Net::from_raw(net) }
    }

    /// 4 bytes for IPv4 or 16 for IPv6, in network byte order.
    pub(crate) fn address(&self) -> &'a [u8] {
        self.address
    }

    /// As in `enum rt_scope_t` of `linux/rtnetlink.h`.
    pub(crate) fn scope(&self) -> u8 {
        self.scope
    }

    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.device.as_ptr()).ifindex }.unsigned_abs()
    }

    /// The name of the interface.
    pub(crate) fn interface(&self) -> &'a CStr {
        // SAFETY: By the type invariants.
        let name = unsafe { &raw const (*self.device.as_ptr()).name };
        // SAFETY: The name of a device ends with a zero.
        unsafe { CStr::from_char_ptr(name.cast()) }
    }
}

/// A device that is up, and not the loopback device.
///
/// # Invariants
///
/// Valid for `'a`.
#[derive(Clone, Copy)]
pub(super) struct Device<'a> {
    raw: NonNull<bindings::net_device>,
    phantom: PhantomData<&'a bindings::net_device>,
}

impl<'a> Device<'a> {
    /// # Safety
    ///
    /// `device` is valid for `'a`, or null.
    pub(super) unsafe fn from_raw(device: *mut bindings::net_device) -> Option<Self> {
        const UP: u32 = bindings::net_device_flags_IFF_UP;
        const LOOPBACK: u32 = bindings::net_device_flags_IFF_LOOPBACK;

        let raw = NonNull::new(device)?;
        // SAFETY: The caller vouches for the pointer.
        let flags = unsafe { &raw mut (*device).flags };
        // SAFETY: As above; the core writes all flags at once.
        let flags = unsafe { atomic_load(flags, Relaxed) };
        // INVARIANT: By the safety requirements.
        (flags & (UP | LOOPBACK) == UP).then_some(Self {
            raw,
            phantom: PhantomData,
        })
    }

    /// # Safety
    ///
    /// `address` is valid for `'a`.
    pub(super) unsafe fn ipv4(self, address: *const bindings::in_ifaddr) -> LocalAddress<'a> {
        // SAFETY: The caller vouches for the pointer; the field never changes.
        let local = unsafe { &(*address).ifa_local };
        // SAFETY: As above.
        let scope = unsafe { (*address).ifa_scope };
        // INVARIANT: By the type invariants.
        LocalAddress {
            device: self.raw,
            address: local.as_bytes(),
            scope,
        }
    }

    /// An IPv6 address; none as long as another host might have it too.
    ///
    /// # Safety
    ///
    /// `address` is valid for `'a`.
    pub(super) unsafe fn ipv6(
        self,
        address: *mut bindings::inet6_ifaddr,
    ) -> Option<LocalAddress<'a>> {
        const UNSETTLED: u32 = bindings::IFA_F_TENTATIVE | bindings::IFA_F_DADFAILED;

        // SAFETY: The caller vouches for the pointer.
        let flags = unsafe { &raw mut (*address).flags };
        // SAFETY: As above; the core writes all flags at once.
        let flags = unsafe { atomic_load(flags, Relaxed) };
        // SAFETY: The caller vouches for the pointer; the field never changes.
        let scope = u32::from(unsafe { (*address).scope });
        // SAFETY: As above; 16 bytes are an address, whatever view of the union wrote them.
        let bytes: &'a [u8; 16] = unsafe { &(*address).addr.in6_u.u6_addr8 };
        // As rt_scope() of net/ipv6/addrconf.c.
        let scope = if scope & bindings::IPV6_ADDR_LOOPBACK != 0 {
            bindings::rt_scope_t_RT_SCOPE_HOST
        } else if scope & bindings::IPV6_ADDR_LINKLOCAL != 0 {
            bindings::rt_scope_t_RT_SCOPE_LINK
        } else if scope & bindings::IPV6_ADDR_SITELOCAL != 0 {
            bindings::rt_scope_t_RT_SCOPE_SITE
        } else {
            bindings::rt_scope_t_RT_SCOPE_UNIVERSE
        };
        // INVARIANT: By the type invariants.
        (flags & UNSETTLED == 0).then_some(LocalAddress {
            device: self.raw,
            address: bytes,
            scope: scope as u8,
        })
    }

    /// Calls `each` for the IPv4 addresses of the device.
    pub(super) fn for_each_ipv4(self, each: fn(&LocalAddress<'_>)) {
        let guard = rcu::read_lock();
        // SAFETY: By the type invariants.
        let field = unsafe { &raw mut (*self.raw.as_ptr()).ip_ptr };
        // SAFETY: As above; RCU protects what it points to.
        let in_device = unsafe { dereference(field, &guard) };
        if in_device.is_null() {
            return;
        }
        // SAFETY: Valid under the RCU read lock.
        let mut field = unsafe { &raw mut (*in_device).ifa_list };
        loop {
            // SAFETY: As above; RCU protects what it points to.
            let address = unsafe { dereference(field, &guard) };
            if address.is_null() {
                return;
            }
            // SAFETY: Valid under the RCU read lock.
            each(&unsafe { self.ipv4(address) });
            // SAFETY: As above.
            field = unsafe { &raw mut (*address).ifa_next };
        }
    }

    /// Calls `each` for the settled IPv6 addresses of the device.
    pub(super) fn for_each_ipv6(self, each: fn(&LocalAddress<'_>)) {
        let guard = rcu::read_lock();
        // SAFETY: By the type invariants.
        let field = unsafe { &raw mut (*self.raw.as_ptr()).ip6_ptr };
        // SAFETY: As above; RCU protects what it points to.
        let in_device = unsafe { dereference(field, &guard) };
        if in_device.is_null() {
            return;
        }
        // SAFETY: Valid under the RCU read lock.
        let head = unsafe { &raw mut (*in_device).addr_list };
        let mut node = head;
        loop {
            // SAFETY: The head and the nodes of the list are valid under the RCU read lock.
            let field = unsafe { &raw mut (*node).next };
            // SAFETY: As above; RCU protects what it points to.
            node = unsafe { dereference(field, &guard) };
            if node == head {
                return;
            }
            // SAFETY: A node of the list is one of an address.
            let address = unsafe { container_of!(node, bindings::inet6_ifaddr, if_list) };
            // SAFETY: Valid under the RCU read lock.
            if let Some(address) = unsafe { self.ipv6(address) } {
                each(&address);
            }
        }
    }
}

/// `rcu_dereference()`. An acquire orders more than that has to, and costs nothing on x86.
///
/// # Safety
///
/// `field` is valid, and written with `rcu_assign_pointer()` and the like only.
unsafe fn dereference<T>(field: *mut *mut T, _guard: &rcu::Guard) -> *mut T {
    // SAFETY: By the safety requirements: what `rcu_assign_pointer()` stores is stored at once.
    unsafe { atomic_load(field, Acquire) }
}
