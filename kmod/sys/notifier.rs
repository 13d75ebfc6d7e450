// SPDX-License-Identifier: GPL-2.0

//! News of the addresses of this host: what becomes usable, and what stops being so.
//!
//! C headers: [`include/linux/inetdevice.h`](srctree/include/linux/inetdevice.h),
//! [`include/net/addrconf.h`](srctree/include/net/addrconf.h),
//! [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::local_address::{Device, LocalAddress};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// What somebody is told about local addresses. Atomic context: must not sleep.
pub(crate) trait Watcher {
    /// The address can be used from now on. May be told more than once, and is told again when its
    /// interface gets another name.
    fn usable(address: &LocalAddress<'_>);

    /// The address can no longer be used.
    fn gone(address: &LocalAddress<'_>);
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
const CHANGE_NAME: c_ulong = bindings::netdev_cmd_NETDEV_CHANGENAME as c_ulong;
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
    // SAFETY: By the safety requirements.
    let in_device = unsafe { (*address).ifa_dev };
    // SAFETY: An address belongs to a device, which the RTNL keeps.
    let device = unsafe { (*in_device).dev };
    // SAFETY: As above.
    let Some(device) = (unsafe { Device::from_raw(device) }) else {
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
    let address: *mut bindings::inet6_ifaddr = data.cast();
    // SAFETY: By the safety requirements.
    let in_device = unsafe { (*address).idev };
    // SAFETY: An address holds a reference to its device.
    let device = unsafe { (*in_device).dev };
    // SAFETY: As above.
    let Some(device) = (unsafe { Device::from_raw(device) }) else {
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
    // SAFETY: By the safety requirements.
    let device = unsafe { (*info).dev };
    // SAFETY: The RTNL keeps the device.
    let Some(device) = (unsafe { Device::from_raw(device) }) else {
        return DONE;
    };
    match event {
        // Addresses of IPv6 come once duplicate address detection has been done again.
        UP => device.for_each_ipv4(W::usable),
        // What was told of them has another name now.
        CHANGE_NAME => {
            device.for_each_ipv4(W::usable);
            device.for_each_ipv6(W::usable);
        }
        // The addresses that go after this are those of a device that is down, and not told again.
        GOING_DOWN => {
            device.for_each_ipv4(W::gone);
            device.for_each_ipv6(W::gone);
        }
        _ => {}
    }
    DONE
}
