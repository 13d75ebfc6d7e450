// SPDX-License-Identifier: GPL-2.0

//! A generic netlink family: its commands and its multicast groups.
//!
//! `kernel::net::netlink` of Linux 7.3 knows multicast in the initial network namespace only; this
//! adds namespaces, privileges, commands with policies, and dumps.
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use super::{
    attribute::{PolicyTable, HIGHEST},
    message::{append, Body, Context, Message},
    name::copy_name,
    net::Net,
    request::{Cursor, Page, Request},
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    error::{code, from_result, to_result},
    prelude::*,
    types::Opaque,
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

    /// A dump without attributes for those with CAP_NET_ADMIN in the network namespace.
    pub(crate) const fn dump<D: Dump>() -> Self {
        let mut operation: bindings::genl_split_ops = pin_init::zeroed();
        operation.__bindgen_anon_1.__bindgen_anon_2.dumpit = Some(dump_callback::<D>);
        operation.cmd = D::CMD;
        operation.flags = (bindings::GENL_CMD_CAP_DUMP | bindings::GENL_UNS_ADMIN_PERM) as u8;
        Self(operation)
    }
}

/// A multicast group for those with CAP_NET_ADMIN in the network namespace.
#[repr(transparent)]
pub(crate) struct Group(bindings::genl_multicast_group);

// SAFETY: Never written to.
unsafe impl Sync for Group {}

impl Group {
    pub(crate) const fn new(name: &str) -> Self {
        let mut group: bindings::genl_multicast_group = pin_init::zeroed();
        copy_name(&mut group.name, name);
        group.flags = bindings::GENL_MCAST_CAP_NET_ADMIN;
        Self(group)
    }
}

/// A generic netlink family.
#[repr(transparent)]
pub(crate) struct Family(Opaque<bindings::genl_family>);

// SAFETY: Only the core writes to a family, under its own locks.
unsafe impl Sync for Family {}

impl Family {
    /// A family that knows network namespaces and runs its commands in parallel.
    ///
    /// `operations` is sorted by command, the command before its dump.
    pub(crate) const fn new(
        module: &ThisModule,
        (name, version): (&str, u8),
        operations: &'static [Operation],
        groups: &'static [Group],
    ) -> Self {
        assert!(operations.len() <= u8::MAX as usize && groups.len() <= u8::MAX as usize);
        // The bitfield netnsok:1, parallel_ops:1, which bindgen can not set in a constant.
        let flags: u8 = if cfg!(target_endian = "little") {
            0x03
        } else {
            0xc0
        };
        let mut family: bindings::genl_family = pin_init::zeroed();
        copy_name(&mut family.name, name);
        family.version = version as c_uint;
        // SAFETY: A bitfield unit of one byte is that byte.
        family._bitfield_1 =
            unsafe { core::mem::transmute::<u8, bindings::__BindgenBitfieldUnit<[u8; 1]>>(flags) };
        family.n_split_ops = operations.len() as u8;
        family.n_mcgrps = groups.len() as u8;
        family.split_ops = operations.as_ptr().cast();
        family.mcgrps = groups.as_ptr().cast();
        family.module = module.as_ptr();
        Self(Opaque::new(family))
    }

    /// Makes the family known. Process context.
    pub(crate) fn register(&'static self) -> Result<Registration> {
        // SAFETY: A `Family` is complete, and this one lives as long as the module.
        to_result(unsafe { bindings::genl_register_family(self.0.get()) })?;
        // INVARIANT: Registered just now.
        Ok(Registration { family: self })
    }

    /// Does anybody listen to the group, in whichever network namespace? Any context, between
    /// registration and its end.
    pub(crate) fn has_listeners(&self, group: usize) -> bool {
        // The core counts the listeners of all network namespaces together.
        let net = &raw mut bindings::init_net;
        // SAFETY: The family and the initial network namespace are valid.
        unsafe { bindings::genl_has_listeners(self.0.get(), net, group as c_uint) > 0 }
    }

    /// Sends an event of at most `size` bytes of attributes to the group, between registration
    /// and its end.
    ///
    /// False if it can not be sent. Its listeners then read ENOBUFS.
    pub(crate) fn multicast(
        &self,
        net: &Net,
        (group, cmd): (usize, u8),
        (size, context): (usize, Context),
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> bool {
        let group = group as c_uint;
        let message = Message::new(size, context).and_then(|message| {
            // SAFETY: The skb is the message's own, and the family valid.
            unsafe { append(message.skb, self.0.get(), (0, 0), 0, cmd, fill) }?;
            Ok(message)
        });
        let Ok(message) = message else {
            // SAFETY: The family and the network namespace are valid.
            unsafe {
                bindings::genl_set_err(
                    self.0.get(),
                    net.as_raw(),
                    0,
                    group,
                    code::ENOBUFS.to_errno(),
                )
            };
            return false;
        };
        // An error here is that of a receiver: its queue was full, which the core has told it, or
        // it is gone.
        // SAFETY: The message is handed over; family and network namespace are valid.
        unsafe {
            bindings::genlmsg_multicast_netns(
                self.0.get(),
                net.as_raw(),
                message.into_raw(),
                0,
                group,
                context.0,
            )
        };
        true
    }
}

/// The family is known as long as this lives.
///
/// # Invariants
///
/// `family` is registered.
pub(crate) struct Registration {
    family: &'static Family,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; this is the only end of a registration.
        unsafe { bindings::genl_unregister_family(self.family.0.get()) };
    }
}
