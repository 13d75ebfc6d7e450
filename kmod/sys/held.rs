// SPDX-License-Identifier: GPL-2.0

//! Connections that commands act on.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h)

use super::{
    address::Address,
    connection::Connection,
    net::Net,
    new_subflow::NewSubflow,
    path_manager::Ops,
    request::Cursor,
    subflow::{Subflow, SubflowInfo, TcpInfo},
};
use core::{
    mem::{size_of, MaybeUninit},
    ops::Deref,
    ptr::{from_ref, NonNull},
    slice,
};
use kernel::{bindings, error::to_result, prelude::*};

/// A reference to a connection, for process context without a socket lock: it takes commands,
/// each of which takes the lock of the connection and may sleep.
///
/// # Invariants
///
/// `msk` is valid, and a reference to it owned.
pub(crate) struct Held {
    msk: NonNull<bindings::mptcp_sock>,
    /// Whose it was when it was found. A command is refused if it is no longer so.
    ops: &'static Ops,
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        // SAFETY: By the type invariants.
        unsafe { Connection::from_raw(self.msk.as_ptr()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the reference is given back.
        unsafe { bindings::mptcp_pm_sock_put(self.msk.as_ptr()) }
    }
}

impl Held {
    /// The connection `token` of the network namespace, if `ops` manage it.
    pub(crate) fn lookup(net: &Net, token: u32, ops: &'static Ops) -> Option<Self> {
        // SAFETY: The network namespace is valid.
        let msk = unsafe { bindings::mptcp_token_get_sock(net.as_raw(), token) };
        // INVARIANT: The function gives a reference to the caller.
        let held = Self {
            msk: NonNull::new(msk)?,
            ops,
        };
        held.is_theirs().then_some(held)
    }

    /// The next connection of the network namespace that `ops` manage. Moves the cursor behind it:
    /// its first two numbers are the slot of the core's table and the token of the connection.
    pub(crate) fn next(net: &Net, cursor: &mut Cursor, ops: &'static Ops) -> Option<Self> {
        let [slot, num, ..] = cursor;
        loop {
            // SAFETY: The network namespace and the position are valid.
            let msk = unsafe { bindings::mptcp_token_iter_next(net.as_raw(), slot, num) };
            // INVARIANT: The function gives a reference to the caller.
            let held = Self {
                msk: NonNull::new(msk)?,
                ops,
            };
            if held.is_theirs() {
                return Some(held);
            }
        }
    }

    fn is_theirs(&self) -> bool {
        // SAFETY: Both pointers are valid; the function compares only.
        unsafe { bindings::mptcp_pm_uses(self.msk.as_ptr(), self.ops.as_raw()) }
    }

    /// `struct mptcp_info`, as the socket option gives it.
    pub(crate) fn mptcp_info(&self) -> MptcpInfo {
        // Zeroed with its padding: the bytes go to user space.
        let mut info = MaybeUninit::zeroed();
        // SAFETY: The connection is valid and its lock not held by this task.
        unsafe { bindings::mptcp_diag_fill_info(self.msk.as_ptr(), info.as_mut_ptr()) };
        MptcpInfo(info)
    }

    /// Calls `each` for the subflows, under the lock of the connection, until it fails.
    pub(crate) fn for_each_subflow<F>(&self, mut each: F) -> Result
    where
        F: FnMut(&SubflowInfo, &TcpInfo) -> Result,
    {
        let mut state = (&mut each, Ok(()));
        // SAFETY: The connection is valid, its lock not held by this task, and `state` of the type
        // that the callback expects.
        unsafe {
            bindings::mptcp_pm_walk_subflows(
                self.msk.as_ptr(),
                Some(subflow_callback::<F>),
                (&raw mut state).cast(),
            )
        };
        state.1
    }

    /// Opens a subflow: its SYN has left when this returns.
    pub(crate) fn create_subflow(&self, subflow: &NewSubflow) -> Result<SubflowInfo> {
        let mut info = pin_init::zeroed();
        // SAFETY: The connection is valid, its lock not held by this task, and the others are
        // plain data.
        to_result(unsafe {
            bindings::mptcp_pm_subflow_create(
                self.msk.as_ptr(),
                self.ops.as_raw(),
                &subflow.local,
                &subflow.remote,
                &mut info,
            )
        })?;
        Ok(SubflowInfo(info))
    }

    /// Asks the peer to use the subflow `id` as backup only, or no longer so.
    pub(crate) fn set_backup(&self, id: u32, backup: bool) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        to_result(unsafe {
            bindings::mptcp_pm_subflow_set_backup(self.msk.as_ptr(), self.ops.as_raw(), id, backup)
        })
    }

    /// Announces an address, which gets its ID.
    pub(crate) fn announce(&self, address: &mut Address) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        let id = unsafe {
            bindings::mptcp_pm_addr_announce(self.msk.as_ptr(), self.ops.as_raw(), &address.0)
        };
        to_result(id)?;
        address.0.id = u8::try_from(id)?;
        Ok(())
    }

    /// Tells the peer that an address is gone.
    pub(crate) fn withdraw(&self, address: &Address) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        to_result(unsafe {
            bindings::mptcp_pm_addr_withdraw(self.msk.as_ptr(), self.ops.as_raw(), &address.0)
        })
    }

    /// Closes the subflow `id`, whoever opened it, with a RST or with a FIN.
    pub(crate) fn destroy_subflow(&self, id: u32, reset: bool) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        to_result(unsafe {
            bindings::mptcp_pm_subflow_destroy(self.msk.as_ptr(), self.ops.as_raw(), id, reset)
        })
    }
}

/// # Safety
///
/// To be called by `mptcp_pm_walk_subflows()`, with `data` as `for_each_subflow` passes it.
unsafe extern "C" fn subflow_callback<F>(ssk: *mut bindings::sock, data: *mut c_void) -> c_int
where
    F: FnMut(&SubflowInfo, &TcpInfo) -> Result,
{
    // SAFETY: By the safety requirements; nobody else uses it meanwhile.
    let (each, result) = unsafe { &mut *data.cast::<(&mut F, Result)>() };
    let mut tcp = MaybeUninit::zeroed();
    // SAFETY: The subflow is valid under the lock of its connection, and its own lock not held.
    unsafe { bindings::tcp_get_info(ssk, tcp.as_mut_ptr()) };
    // SAFETY: The subflow is valid under the lock of its connection.
    let subflow = unsafe { Subflow::from_raw(ssk) };
    *result = each(&subflow.info(), &TcpInfo(tcp));
    c_int::from(result.is_err())
}

/// `struct mptcp_info` of `linux/mptcp.h`.
pub(crate) struct MptcpInfo(MaybeUninit<bindings::mptcp_info>);

impl MptcpInfo {
    pub(crate) const SIZE: usize = size_of::<bindings::mptcp_info>();

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: Zeroed, padding included, before it was filled.
        unsafe { slice::from_raw_parts(from_ref(&self.0).cast(), Self::SIZE) }
    }
}
