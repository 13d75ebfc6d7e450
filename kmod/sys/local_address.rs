// SPDX-License-Identifier: GPL-2.0

//! The addresses of this host: what becomes usable, and what stops being so.
//!
//! C headers: [`include/linux/inetdevice.h`](srctree/include/linux/inetdevice.h),
//! [`include/net/addrconf.h`](srctree/include/net/addrconf.h),
//! [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::net::Net;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings, container_of,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
    types::Opaque,
};

/// What somebody is told about local addresses. Atomic context: must not sleep.
pub(crate) trait Watcher {
    /// The address can be used from now on. May be told more than once.
    fn usable(address: &LocalAddress<'_>);

    /// The address can no longer be used.
    fn gone(address: &LocalAddress<'_>);
}

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
        // SAFETY: By the type invariants; names end with a zero.
        unsafe { CStr::from_char_ptr((*self.device.as_ptr()).name.as_ptr()) }
    }
}

/// A device that is up, and not the loopback device.
///
/// # Invariants
///
/// Valid for `'a`.
#[derive(Clone, Copy)]
struct Device<'a> {
    raw: NonNull<bindings::net_device>,
    phantom: PhantomData<&'a bindings::net_device>,
}

impl<'a> Device<'a> {
    /// # Safety
    ///
    /// `device` is valid for `'a`, or null.
    unsafe fn from_raw(device: *mut bindings::net_device) -> Option<Self> {
        const UP: u32 = bindings::net_device_flags_IFF_UP;
        const LOOPBACK: u32 = bindings::net_device_flags_IFF_LOOPBACK;

        let raw = NonNull::new(device)?;
        // SAFETY: The caller vouches for the pointer; flags may change meanwhile.
        let flags = unsafe { (&raw const (*device).flags).read_volatile() };
        // INVARIANT: By the safety requirements.
        (flags & (UP | LOOPBACK) == UP).then_some(Self {
            raw,
            phantom: PhantomData,
        })
    }

    /// # Safety
    ///
    /// `address` is valid for `'a`.
    unsafe fn ipv4(self, address: *const bindings::in_ifaddr) -> LocalAddress<'a> {
        // SAFETY: The caller vouches for the pointer; neither field changes.
        let (local, scope) = unsafe { (&(*address).ifa_local, (*address).ifa_scope) };
        // INVARIANT: By the type invariants.
        LocalAddress {
            device: self.raw,
            address: local.as_bytes(),
            scope,
        }
    }

    /// An IPv6 address, unless it is not known yet to be the only one of its kind.
    ///
    /// # Safety
    ///
    /// `address` is valid for `'a`.
    unsafe fn ipv6(self, address: *const bindings::inet6_ifaddr) -> Option<LocalAddress<'a>> {
        const UNSETTLED: u32 = bindings::IFA_F_TENTATIVE | bindings::IFA_F_DADFAILED;

        // SAFETY: The caller vouches for the pointer; flags may change meanwhile.
        let flags = unsafe { (&raw const (*address).flags).read_volatile() };
        // SAFETY: The caller vouches for the pointer.
        let scope = u32::from(unsafe { (*address).scope });
        // SAFETY: The caller vouches for the pointer; the address never changes.
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

    /// The IPv4 addresses of the device.
    fn for_each_ipv4(self, each: fn(&LocalAddress<'_>)) {
        let _guard = rcu::read_lock();
        // SAFETY: By the type invariants, under the RCU read lock.
        let in_device = unsafe { (&raw const (*self.raw.as_ptr()).ip_ptr).read_volatile() };
        if in_device.is_null() {
            return;
        }
        // SAFETY: Valid under the RCU read lock; the list may grow and shrink meanwhile.
        let mut next = unsafe { (&raw const (*in_device).ifa_list).read_volatile() };
        while !next.is_null() {
            // SAFETY: What the list points to is valid under the RCU read lock.
            each(&unsafe { self.ipv4(next) });
            // SAFETY: As above.
            next = unsafe { (&raw const (*next).ifa_next).read_volatile() };
        }
    }

    /// The IPv6 addresses of the device that are settled.
    fn for_each_ipv6(self, each: fn(&LocalAddress<'_>)) {
        let _guard = rcu::read_lock();
        // SAFETY: By the type invariants, under the RCU read lock.
        let in_device = unsafe { (&raw const (*self.raw.as_ptr()).ip6_ptr).read_volatile() };
        if in_device.is_null() {
            return;
        }
        // SAFETY: Valid under the RCU read lock: no more than the address of a field.
        let head = unsafe { &raw mut (*in_device).addr_list };
        // SAFETY: As above; the list may grow and shrink meanwhile.
        let mut node = unsafe { (&raw const (*head).next).read_volatile() };
        while node != head {
            // SAFETY: A node of the list is one of an address.
            let address = unsafe { container_of!(node, bindings::inet6_ifaddr, if_list) };
            // SAFETY: What the list points to is valid under the RCU read lock.
            if let Some(address) = unsafe { self.ipv6(address) } {
                each(&address);
            }
            // SAFETY: As above.
            node = unsafe { (&raw const (*node).next).read_volatile() };
        }
    }
}

/// The notifiers that tell a [`Watcher`].
pub(crate) struct Notifiers {
    ipv4: Opaque<bindings::notifier_block>,
    ipv6: Opaque<bindings::notifier_block>,
    device: Opaque<bindings::notifier_block>,
}

// SAFETY: Only the core writes to the notifiers, under its own locks.
unsafe impl Sync for Notifiers {}

/// Whether notifications are news: a notifier of devices is told of all devices when it comes and
/// when it goes.
static WATCHING: Atomic<bool> = Atomic::new(false);

type Callback = unsafe extern "C" fn(
    block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int;

impl Notifiers {
    pub(crate) const fn new<W: Watcher>() -> Self {
        Self {
            ipv4: block(ipv4_callback::<W>),
            ipv6: block(ipv6_callback::<W>),
            device: block(device_callback::<W>),
        }
    }

    /// Starts to tell. Process context.
    pub(crate) fn register(&'static self) -> Result<Registration> {
        // INVARIANT: What fails below is undone by dropping this: unregistering a notifier that is
        // not registered does nothing.
        let registration = Registration { notifiers: self };
        // SAFETY: The notifiers are complete, and live as long as the module.
        to_result(unsafe { bindings::register_inetaddr_notifier(self.ipv4.get()) })?;
        #[cfg(CONFIG_IPV6)]
        // SAFETY: As above.
        to_result(unsafe { bindings::register_inet6addr_notifier(self.ipv6.get()) })?;
        // SAFETY: As above.
        to_result(unsafe { bindings::register_netdevice_notifier(self.device.get()) })?;
        WATCHING.store(true, Relaxed);
        Ok(registration)
    }
}

const fn block(callback: Callback) -> Opaque<bindings::notifier_block> {
    let mut block: bindings::notifier_block = pin_init::zeroed();
    block.notifier_call = Some(callback);
    // Last: who acts on what is told shall find the routes of an address that has come.
    block.priority = c_int::MIN;
    Opaque::new(block)
}

/// The notifiers are registered as long as this lives.
///
/// # Invariants
///
/// Those of `notifiers` that are registered were so by this.
pub(crate) struct Registration {
    notifiers: &'static Notifiers,
}

impl Drop for Registration {
    /// Waits for the callbacks that are still running.
    fn drop(&mut self) {
        WATCHING.store(false, Relaxed);
        // SAFETY: By the type invariants; a notifier that is not registered is an error returned.
        unsafe { bindings::unregister_netdevice_notifier(self.notifiers.device.get()) };
        #[cfg(CONFIG_IPV6)]
        // SAFETY: As above.
        unsafe {
            bindings::unregister_inet6addr_notifier(self.notifiers.ipv6.get())
        };
        // SAFETY: As above.
        unsafe { bindings::unregister_inetaddr_notifier(self.notifiers.ipv4.get()) };
    }
}

const UP: c_ulong = bindings::netdev_cmd_NETDEV_UP as c_ulong;
const DOWN: c_ulong = bindings::netdev_cmd_NETDEV_DOWN as c_ulong;
const CHANGE: c_ulong = bindings::netdev_cmd_NETDEV_CHANGE as c_ulong;
const GOING_DOWN: c_ulong = bindings::netdev_cmd_NETDEV_GOING_DOWN as c_ulong;
const DONE: c_int = bindings::NOTIFY_DONE as c_int;

/// # Safety
///
/// To be called by the chain of IPv4 addresses: `data` is a valid `struct in_ifaddr`.
unsafe extern "C" fn ipv4_callback<W: Watcher>(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int {
    let address: *const bindings::in_ifaddr = data.cast();
    // SAFETY: By the safety requirements; an address has a device, held by the RTNL.
    let Some(device) = (unsafe { Device::from_raw((*(*address).ifa_dev).dev) }) else {
        return DONE;
    };
    // SAFETY: By the safety requirements.
    let address = unsafe { device.ipv4(address) };
    match event {
        UP => W::usable(&address),
        DOWN => W::gone(&address),
        _ => {}
    }
    DONE
}

/// # Safety
///
/// To be called by the chain of IPv6 addresses: `data` is a valid `struct inet6_ifaddr`.
unsafe extern "C" fn ipv6_callback<W: Watcher>(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int {
    let address: *const bindings::inet6_ifaddr = data.cast();
    // SAFETY: By the safety requirements; an address has a device, and a reference to it.
    let Some(device) = (unsafe { Device::from_raw((*(*address).idev).dev) }) else {
        return DONE;
    };
    // SAFETY: By the safety requirements.
    let Some(address) = (unsafe { device.ipv6(address) }) else {
        return DONE;
    };
    match event {
        // The end of duplicate address detection.
        CHANGE => W::usable(&address),
        DOWN => W::gone(&address),
        _ => {}
    }
    DONE
}

/// # Safety
///
/// To be called by the chain of devices: `data` is a valid `struct netdev_notifier_info`.
unsafe extern "C" fn device_callback<W: Watcher>(
    _block: *mut bindings::notifier_block,
    event: c_ulong,
    data: *mut c_void,
) -> c_int {
    if !WATCHING.load(Relaxed) {
        return DONE;
    }
    let info: *const bindings::netdev_notifier_info = data.cast();
    // SAFETY: By the safety requirements; the RTNL holds the device.
    let Some(device) = (unsafe { Device::from_raw((*info).dev) }) else {
        return DONE;
    };
    match event {
        // Addresses of IPv6 come once duplicate address detection has been done again.
        UP => device.for_each_ipv4(W::usable),
        // After this the addresses that go are those of a device that is down: told already.
        GOING_DOWN => {
            device.for_each_ipv4(W::gone);
            device.for_each_ipv6(W::gone);
        }
        _ => {}
    }
    DONE
}
