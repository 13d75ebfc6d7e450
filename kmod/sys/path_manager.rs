// SPDX-License-Identifier: GPL-2.0

//! The hooks of a path manager.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h), `struct mptcp_pm_ops`

use super::{
    address::Endpoint,
    connection::{Connection, Join},
    subflow::Subflow,
};
use kernel::{
    bindings,
    error::{to_result, VTABLE_DEFAULT_ERROR},
    prelude::*,
    types::Opaque,
    ThisModule,
};

/// What a path manager is told, and asked. Every hook is optional.
///
/// Unless a hook says otherwise it runs in atomic context, with the lock of the subflow held and
/// maybe that of the connection: it can look, not act.
#[vtable]
pub(crate) trait PathManager {
    /// Name for the sysctl `net.mptcp.path_manager`.
    const NAME: &'static str;

    /// A socket has been made that this path manager will manage, a listener maybe.
    fn attached() {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A socket that was attached is gone.
    fn released() {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The handshake of MP_CAPABLE is done; the key of the peer may be unknown yet.
    fn created(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Subflows can be added. Does not come after a fallback to TCP.
    fn established(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The connection is over. Process context with the lock of the connection held.
    fn closed(_connection: &Connection) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A subflow has joined. The data lock of the connection may be held.
    fn subflow_established(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A subflow is over or has failed to join. Process context with the lock of the connection
    /// held, not that of the subflow.
    fn subflow_closed(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A subflow makes no progress: its timer has expired, for a retransmission or a probe.
    fn subflow_timeout(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The peer has changed the priority of a subflow (MP_PRIO, RFC 8684 section 3.3.8).
    fn subflow_priority(_connection: &Connection, _subflow: &Subflow) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The peer has announced an address, with a port or 0. Says whether to echo it: the peer
    /// announces again what is not echoed.
    fn address_announced(_connection: &Connection, _address: Endpoint<'_>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The peer has withdrawn the addresses with these IDs; the core closes their subflows.
    fn addresses_withdrawn(_connection: &Connection, _ids: &[u8]) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// May the peer open one more subflow? Asked more than once for each; the lock of the subflow
    /// is not held.
    fn accepts_subflow(_connection: &Connection) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// May this subflow of the peer join? The last word on it. The data lock of the connection is
    /// held, or its lock owned.
    fn accepts_join(_join: &Join<'_>) -> bool {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The table of the hooks of a [`PathManager`].
#[repr(transparent)]
pub(crate) struct Ops(Opaque<bindings::mptcp_pm_ops>);

// SAFETY: Only the core writes to it, under its own lock.
unsafe impl Sync for Ops {}

impl Ops {
    /// Has an entry for each hook that `P` implements.
    pub(crate) const fn new<P: PathManager>(module: &ThisModule) -> Self {
        macro_rules! callback {
            ($has:ident, $callback:ident) => {
                if P::$has {
                    Some($callback::<P>)
                } else {
                    None
                }
            };
        }

        let mut ops = bindings::mptcp_pm_ops {
            owner: module.as_ptr(),
            init: callback!(HAS_ATTACHED, init_callback),
            release: callback!(HAS_RELEASED, release_callback),
            created: callback!(HAS_CREATED, created_callback),
            established: callback!(HAS_ESTABLISHED, established_callback),
            closed: callback!(HAS_CLOSED, closed_callback),
            subflow_established: callback!(HAS_SUBFLOW_ESTABLISHED, subflow_established_callback),
            subflow_closed: callback!(HAS_SUBFLOW_CLOSED, subflow_closed_callback),
            subflow_timeout: callback!(HAS_SUBFLOW_TIMEOUT, subflow_timeout_callback),
            subflow_priority: callback!(HAS_SUBFLOW_PRIORITY, subflow_priority_callback),
            add_addr_received: callback!(HAS_ADDRESS_ANNOUNCED, add_addr_received_callback),
            rm_addr_received: callback!(HAS_ADDRESSES_WITHDRAWN, rm_addr_received_callback),
            accept_new_subflow: callback!(HAS_ACCEPTS_SUBFLOW, accept_new_subflow_callback),
            accept_join: callback!(HAS_ACCEPTS_JOIN, accept_join_callback),
            ..pin_init::zeroed()
        };
        copy_name(&mut ops.name, P::NAME);
        Self(Opaque::new(ops))
    }

    pub(super) fn as_raw(&self) -> *mut bindings::mptcp_pm_ops {
        self.0.get()
    }

    /// Makes the path manager known: connections can use it from now on. Process context.
    pub(crate) fn register(&'static self) -> Result<Registration> {
        // SAFETY: The table is complete, and lives as long as the module, to which each of its
        // users holds a reference.
        to_result(unsafe { bindings::mptcp_pm_register(self.as_raw()) })?;
        // INVARIANT: Registered just now.
        Ok(Registration { ops: self })
    }
}

/// At build time only: does not build if the name is too long.
const fn copy_name(to: &mut [c_char], name: &str) {
    let name = name.as_bytes();
    assert!(name.len() < to.len());
    let mut i = 0;
    while i < name.len() {
        to[i] = name[i] as c_char;
        i += 1;
    }
}

/// The path manager is known as long as this lives.
///
/// # Invariants
///
/// `ops` are registered.
pub(crate) struct Registration {
    ops: &'static Ops,
}

impl Drop for Registration {
    /// Waits for the hooks that are still running.
    fn drop(&mut self) {
        // SAFETY: By the type invariants; this is the only end of a registration.
        unsafe { bindings::mptcp_pm_unregister(self.ops.as_raw()) };
    }
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::init`.
unsafe extern "C" fn init_callback<P: PathManager>(_msk: *mut bindings::mptcp_sock) {
    P::attached();
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::release`.
unsafe extern "C" fn release_callback<P: PathManager>(_msk: *mut bindings::mptcp_sock) {
    P::released();
}

/// Hooks about a subflow: each passes on what the core gives it.
macro_rules! subflow_callbacks {
    ($($callback:ident => $hook:ident,)*) => {$(
        /// # Safety
        ///
        /// To be called as the hook of `mptcp_pm_ops` in its name: both sockets are valid.
        unsafe extern "C" fn $callback<P: PathManager>(
            msk: *mut bindings::mptcp_sock,
            ssk: *const bindings::sock,
        ) {
            // SAFETY: By the safety requirements.
            let connection = unsafe { Connection::from_raw(msk) };
            // SAFETY: By the safety requirements.
            P::$hook(connection, unsafe { Subflow::from_raw(ssk) });
        }
    )*};
}

subflow_callbacks! {
    created_callback => created,
    established_callback => established,
    subflow_established_callback => subflow_established,
    subflow_closed_callback => subflow_closed,
    subflow_timeout_callback => subflow_timeout,
    subflow_priority_callback => subflow_priority,
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::add_addr_received`: the sockets and the address are valid.
unsafe extern "C" fn add_addr_received_callback<P: PathManager>(
    msk: *mut bindings::mptcp_sock,
    _ssk: *const bindings::sock,
    address: *const bindings::mptcp_addr_info,
) -> bool {
    // SAFETY: By the safety requirements.
    let connection = unsafe { Connection::from_raw(msk) };
    // SAFETY: By the safety requirements.
    P::address_announced(connection, unsafe { Endpoint::from_raw(address) })
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::rm_addr_received`: the socket and the list are valid.
unsafe extern "C" fn rm_addr_received_callback<P: PathManager>(
    msk: *mut bindings::mptcp_sock,
    list: *const bindings::mptcp_rm_list,
) {
    // SAFETY: By the safety requirements.
    let list = unsafe { &*list };
    let ids = list.ids.get(..usize::from(list.nr)).unwrap_or(&list.ids);
    // SAFETY: By the safety requirements.
    P::addresses_withdrawn(unsafe { Connection::from_raw(msk) }, ids);
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::closed`: the socket is valid.
unsafe extern "C" fn closed_callback<P: PathManager>(msk: *mut bindings::mptcp_sock) {
    // SAFETY: By the safety requirements.
    P::closed(unsafe { Connection::from_raw(msk) });
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::accept_new_subflow`: the socket is valid.
unsafe extern "C" fn accept_new_subflow_callback<P: PathManager>(
    msk: *const bindings::mptcp_sock,
) -> bool {
    // SAFETY: By the safety requirements.
    P::accepts_subflow(unsafe { Connection::from_raw(msk) })
}

/// # Safety
///
/// To be called as `mptcp_pm_ops::accept_join`: both sockets are valid.
unsafe extern "C" fn accept_join_callback<P: PathManager>(
    msk: *const bindings::mptcp_sock,
    ssk: *const bindings::sock,
) -> bool {
    // SAFETY: By the safety requirements.
    P::accepts_join(&unsafe { Join::from_raw(msk, ssk) })
}
