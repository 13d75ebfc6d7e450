// SPDX-License-Identifier: GPL-2.0

//! A generic netlink family: its commands and its multicast groups.
//!
//! What `kernel::net::netlink` has no types for: operations with policies, dumps, and events in any
//! network namespace.
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use super::{
    attribute::{PolicyTable, HIGHEST},
    message::{append, Body, Context},
    net::Net,
    request::{Cursor, Page, Request},
};
use core::{marker::PhantomData, ptr::NonNull, slice};
use kernel::{
    bindings,
    error::{code, from_result, Error},
    net::netlink::{Family, MulticastGroup, NetlinkSkBuff},
    prelude::*,
    ThisModule,
};

/// A command of the family. It runs in process context and may sleep; commands run in parallel.
pub(crate) trait Command {
    const CMD: u8;
    /// What a request may say; the core refuses everything else.
    const POLICY: &'static PolicyTable;

    fn run(request: &Request<'_>) -> Result;
}

/// A dump of the family: fills pages until one stays empty.
pub(crate) trait Dump {
    const CMD: u8;

    /// A number that changes when what the dump shows does.
    fn generation() -> u32;

    fn fill(page: &mut Page<'_>, cursor: &mut Cursor) -> Result;
}

/// # Safety
///
/// To be called by the core, as `doit` of a command: `info` is valid during the call.
unsafe extern "C" fn command_callback<C: Command>(
    _skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> c_int {
    from_result(|| {
        // INVARIANT: By the safety requirements; `Operation::command` has told the core to parse
        // by a `PolicyTable`.
        let request = Request {
            info: NonNull::new(info).ok_or(code::EINVAL)?,
            phantom: PhantomData,
        };
        C::run(&request).map(|()| 0)
    })
}

/// # Safety
///
/// To be called by the core, as `dumpit` of a command: both pointers are valid during the call.
unsafe extern "C" fn dump_callback<D: Dump>(
    skb: *mut bindings::sk_buff,
    callback: *mut bindings::netlink_callback,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements.
        let info = unsafe { bindings::genl_info_dump(callback) };
        // SAFETY: The core keeps the `genl_info` of a dump as long as the dump.
        let reference = unsafe { &*info };
        // INVARIANT: By the safety requirements. The core shows the skb to nobody else, and parses
        // no attributes for a dump without a policy.
        let mut page = Page {
            skb: NonNull::new(skb).ok_or(code::EINVAL)?,
            info: reference,
            request: Request {
                info: NonNull::new(info.cast_mut()).ok_or(code::EINVAL)?,
                phantom: PhantomData,
            },
        };
        // SAFETY: By the safety requirements; nobody else uses the state of a dump.
        let state = unsafe { &mut *callback };
        // The core tells user space that a listing changed while it was read, if `seq` differs from
        // that of the page before. It takes 0 for no number.
        state.seq = D::generation().wrapping_shl(1) | 1;
        if state.prev_seq == 0 {
            state.prev_seq = state.seq;
        }
        // SAFETY: The context of a dump is its own to use, zero at first, and valid as any number.
        let cursor = unsafe { &mut state.__bindgen_anon_1.args };
        D::fill(&mut page, cursor)?;
        // SAFETY: By the safety requirements.
        Ok(c_int::try_from(unsafe { (*skb).len })?)
    })
}

/// An entry of the family's table of commands.
#[repr(transparent)]
pub(crate) struct Operation(bindings::genl_split_ops);

// SAFETY: Never written to.
unsafe impl Sync for Operation {}

impl Operation {
    /// A command for those with CAP_NET_ADMIN in the network namespace.
    pub(crate) const fn command<C: Command>() -> Self {
        let mut operation: bindings::genl_split_ops = pin_init::zeroed();
        operation.__bindgen_anon_1.__bindgen_anon_1.doit = Some(command_callback::<C>);
        operation.policy = C::POLICY.as_ptr().cast();
        operation.maxattr = HIGHEST as c_uint;
        operation.cmd = C::CMD;
        operation.flags = (bindings::GENL_CMD_CAP_DO | bindings::GENL_UNS_ADMIN_PERM) as u8;
        Self(operation)
    }

    /// A command for those with CAP_NET_ADMIN on the host, not only in a network namespace.
    pub(crate) const fn host_command<C: Command>() -> Self {
        let mut operation = Self::command::<C>();
        operation.0.flags = (bindings::GENL_CMD_CAP_DO | bindings::GENL_ADMIN_PERM) as u8;
        operation
    }

    /// A dump without attributes for those with CAP_NET_ADMIN in the network namespace.
    pub(crate) const fn dump<D: Dump>() -> Self {
        let mut operation: bindings::genl_split_ops = pin_init::zeroed();
        operation.__bindgen_anon_1.__bindgen_anon_2.dumpit = Some(dump_callback::<D>);
        operation.cmd = D::CMD;
        operation.flags = (bindings::GENL_CMD_CAP_DUMP | bindings::GENL_UNS_ADMIN_PERM) as u8;
        Self(operation)
    }
}

/// The family of the module: see [`Family::const_new`]. It knows network namespaces and runs its
/// commands in parallel.
///
/// `operations` is sorted by command, the command before its dump.
pub(crate) const fn family(
    module: &ThisModule,
    (name, version): (&CStr, u8),
    operations: &'static [Operation],
    groups: &'static [MulticastGroup],
) -> Family {
    let first = operations.as_ptr().cast();
    // SAFETY: An `Operation` is a transparent wrapper.
    let operations = unsafe { slice::from_raw_parts(first, operations.len()) };
    let (name, version) = (name.to_bytes_with_nul(), version as u32);
    // SAFETY: The callbacks of an `Operation` take what the core gives them.
    unsafe { Family::const_new_with_ops(module, name, version, groups, operations) }
}

/// A multicast group for those with CAP_NET_ADMIN in the network namespace.
pub(crate) const fn group(name: &CStr) -> MulticastGroup {
    MulticastGroup::const_new(name).with_flags(bindings::GENL_MCAST_CAP_NET_ADMIN)
}

/// What became of an event.
pub(crate) enum Delivery {
    /// A listener has it.
    Delivered,
    /// Nobody listens in the network namespace.
    Unheard,
    /// No listener has it, and those that there are read ENOBUFS.
    Lost,
}

/// Sending in any network namespace.
pub(crate) trait Multicast {
    /// Sends an event of at most `size` bytes of attributes to the listeners of the group in the
    /// network namespace. Between registration and its end.
    fn multicast(
        &'static self,
        net: &Net,
        to: (usize, u8),
        size: (usize, Context),
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Delivery;
}

impl Multicast for Family {
    fn multicast(
        &'static self,
        net: &Net,
        (group, cmd): (usize, u8),
        (size, context): (usize, Context),
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Delivery {
        let group = group as c_uint;
        let message = NetlinkSkBuff::new(size, context.flags());
        let message = message.map_err(Error::from).and_then(|skb| {
            // SAFETY: Registered, as the caller says.
            let (skb, filled) = unsafe { append(skb, self.as_raw(), (0, 0), 0, cmd, fill) };
            filled.map(|()| skb)
        });
        let Ok(skb) = message else {
            let error = code::ENOBUFS.to_errno();
            // SAFETY: The family and the network namespace are valid.
            unsafe { bindings::genl_set_err(self.as_raw(), net.as_raw(), 0, group, error) };
            return Delivery::Lost;
        };
        let mut heard = false;
        // SAFETY: The message is handed over; family and network namespace are valid, and `heard`
        // is what the filter expects.
        let error = unsafe {
            bindings::genlmsg_multicast_netns_filtered(
                self.as_raw(),
                net.as_raw(),
                skb.into_raw().as_ptr(),
                0,
                group,
                context.gfp(),
                Some(filter_callback),
                (&raw mut heard).cast(),
            )
        };
        match error {
            0 => Delivery::Delivered,
            // The queue of each listener was full, which the core has told it.
            _ if heard => Delivery::Lost,
            _ => Delivery::Unheard,
        }
    }
}

/// Lets the message through to a listener, and notes that there is one: the core says only whether
/// one has it.
///
/// # Safety
///
/// To be called by `genlmsg_multicast_netns_filtered()`, whose `data` is a `bool` that nobody else
/// uses meanwhile.
unsafe extern "C" fn filter_callback(
    _listener: *mut bindings::sock,
    _skb: *mut bindings::sk_buff,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the safety requirements.
    unsafe { *data.cast::<bool>() = true };
    0
}
