// SPDX-License-Identifier: GPL-2.0

//! Connections, as the hooks see them.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h), `struct mptcp_pm_conn_info`

use super::{net::Net, subflow::Subflow};
use core::{marker::PhantomData, mem::MaybeUninit};
use kernel::{bindings, types::Opaque};

/// A connection, borrowed from a hook: its locks may be held, so it can only be looked at.
#[repr(transparent)]
pub(crate) struct Connection(Opaque<bindings::mptcp_sock>);

impl Connection {
    /// # Safety
    ///
    /// `msk` is valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(msk: *const bindings::mptcp_sock) -> &'a Self {
        // SAFETY: `Connection` is a transparent wrapper, and the caller vouches for the pointer.
        unsafe { &*msk.cast() }
    }

    /// A snapshot. Any context.
    pub(crate) fn info(&self) -> ConnectionInfo<'_> {
        let mut info = MaybeUninit::uninit();
        // SAFETY: The connection is valid; the function can be called in any context.
        unsafe { bindings::mptcp_pm_conn_get_info(self.0.get(), info.as_mut_ptr()) };
        // INVARIANT: The network namespace of a connection outlives it.
        ConnectionInfo {
            // SAFETY: The function fills all of it.
            info: unsafe { info.assume_init() },
            phantom: PhantomData,
        }
    }
}

/// A subflow of the peer that is about to join, borrowed from the hook that decides on it.
///
/// # Invariants
///
/// The list of the subflows of the connection does not change while this lives.
pub(crate) struct Join<'a> {
    connection: &'a Connection,
    subflow: &'a Subflow,
}

impl<'a> Join<'a> {
    /// # Safety
    ///
    /// `mptcp_pm_ops::accept_join` was called with both sockets, and does not return before the
    /// `Join` is dropped.
    pub(super) unsafe fn from_raw(
        msk: *const bindings::mptcp_sock,
        ssk: *const bindings::sock,
    ) -> Self {
        // INVARIANT: The core calls the hook under the lock that protects the list.
        Self {
            // SAFETY: The caller vouches for the pointer.
            connection: unsafe { Connection::from_raw(msk) },
            // SAFETY: The caller vouches for the pointer.
            subflow: unsafe { Subflow::from_raw(ssk) },
        }
    }

    /// The number of other subflows that have the same remote address.
    pub(crate) fn siblings(&self) -> u32 {
        // SAFETY: Both sockets are valid, and by the type invariants the list is stable.
        unsafe { bindings::mptcp_pm_count_siblings(self.connection.0.get(), self.subflow.0.get()) }
    }
}

/// What a connection looked like.
///
/// # Invariants
///
/// `info.net` is valid for `'a`.
pub(crate) struct ConnectionInfo<'a> {
    info: bindings::mptcp_pm_conn_info,
    phantom: PhantomData<&'a Connection>,
}

impl<'a> ConnectionInfo<'a> {
    pub(crate) fn net(&self) -> &'a Net {
        // SAFETY: By the type invariants.
        unsafe { Net::from_raw(self.info.net) }
    }

    /// 0 once the connection has given its token back: closed here, or by a fastclose of the peer.
    pub(crate) fn token(&self) -> u32 {
        self.info.token
    }

    /// The owner of the socket.
    pub(crate) fn uid(&self) -> u32 {
        self.info.uid
    }

    /// `SO_MARK`
    pub(crate) fn mark(&self) -> u32 {
        self.info.mark
    }

    /// The interface that the socket is bound to, 0 if none.
    pub(crate) fn ifindex(&self) -> u32 {
        self.info.ifindex.unsigned_abs()
    }

    /// `SO_COOKIE`
    pub(crate) fn cookie(&self) -> u64 {
        self.info.cookie
    }

    /// ID of the control group (version 2) of the socket, 0 if none is kept.
    pub(crate) fn cgroup(&self) -> u64 {
        self.info.cgroup
    }

    pub(crate) fn extra_subflows(&self) -> u8 {
        self.info.extra_subflows
    }

    /// Those of the extra subflows that the peer has opened.
    pub(crate) fn peer_subflows(&self) -> u8 {
        self.info.peer_subflows
    }

    pub(crate) fn server_side(&self) -> bool {
        self.info.server_side
    }

    pub(crate) fn deny_join_id0(&self) -> bool {
        self.info.deny_join_id0
    }

    pub(crate) fn fallback(&self) -> bool {
        self.info.fallback
    }
}
