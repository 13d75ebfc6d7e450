// SPDX-License-Identifier: GPL-2.0

//! Connections and subflows, as the hooks and the commands see them.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h)

use super::{net::Net, path_manager::Ops, request::Cursor};
use core::{
    marker::PhantomData,
    mem::{size_of, MaybeUninit},
    ops::Deref,
    ptr::{from_ref, NonNull},
    slice,
};
use kernel::{
    bindings,
    error::{code, to_result},
    prelude::*,
    types::Opaque,
};

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
        // SAFETY: The connection is valid, and the function fills all of `info` in any context.
        let info = unsafe {
            bindings::mptcp_pm_conn_get_info(self.0.get(), info.as_mut_ptr());
            info.assume_init()
        };
        // INVARIANT: The network namespace of a connection outlives it.
        ConnectionInfo {
            info,
            phantom: PhantomData,
        }
    }
}

/// A subflow of the peer that is about to join, borrowed from the hook that decides.
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
    /// Called from `mptcp_pm_ops::accept_join`, which has given both sockets, and dropped there.
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

    /// 0 once the connection is gone for its peer.
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

/// A reference to a connection, for process context without a socket lock: it takes commands,
/// each of which takes the lock of the connection and may sleep.
///
/// # Invariants
///
/// `msk` is valid, and a reference to it owned.
pub(crate) struct Held {
    msk: NonNull<bindings::mptcp_sock>,
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
    pub(crate) fn lookup(net: &Net, token: u32, ops: &Ops) -> Option<Self> {
        // SAFETY: The network namespace is valid.
        let msk = unsafe { bindings::mptcp_token_get_sock(net.as_raw(), token) };
        // INVARIANT: The function gives a reference to the caller.
        let held = Self {
            msk: NonNull::new(msk)?,
        };
        held.uses(ops).then_some(held)
    }

    /// The next connection of the network namespace that `ops` manage; moves the cursor behind it.
    pub(crate) fn next(net: &Net, cursor: &mut Cursor, ops: &Ops) -> Option<Self> {
        let [slot, num, ..] = cursor;
        loop {
            // SAFETY: The network namespace and the position are valid.
            let msk = unsafe { bindings::mptcp_token_iter_next(net.as_raw(), slot, num) };
            // INVARIANT: The function gives a reference to the caller.
            let held = Self {
                msk: NonNull::new(msk)?,
            };
            if held.uses(ops) {
                return Some(held);
            }
        }
    }

    fn uses(&self, ops: &Ops) -> bool {
        // SAFETY: Both pointers are valid; the function compares only.
        unsafe { bindings::mptcp_pm_uses(self.msk.as_ptr(), ops.as_raw()) }
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
        to_result(unsafe { bindings::mptcp_pm_subflow_set_backup(self.msk.as_ptr(), id, backup) })
    }

    /// Announces an address, which gets its ID.
    pub(crate) fn announce(&self, address: &mut Address) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        let id = unsafe { bindings::mptcp_pm_addr_announce(self.msk.as_ptr(), &address.0) };
        to_result(id)?;
        address.0.id = u8::try_from(id)?;
        Ok(())
    }

    /// Tells the peer that an address is gone.
    pub(crate) fn withdraw(&self, address: &Address) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        to_result(unsafe { bindings::mptcp_pm_addr_withdraw(self.msk.as_ptr(), &address.0) })
    }

    /// Closes the subflow `id`, whoever opened it, with a RST or with a FIN.
    pub(crate) fn destroy_subflow(&self, id: u32, reset: bool) -> Result {
        // SAFETY: The connection is valid and its lock not held by this task.
        to_result(unsafe { bindings::mptcp_pm_subflow_destroy(self.msk.as_ptr(), id, reset) })
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

/// A subflow to open: what is not given, the kernel chooses.
pub(crate) struct NewSubflow {
    local: bindings::mptcp_pm_local,
    remote: bindings::mptcp_addr_info,
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

/// An address of this host.
pub(crate) struct Address(bindings::mptcp_addr_info);

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

fn endpoint(address: &[u8], port: u16, id: u8) -> Result<bindings::mptcp_addr_info> {
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

/// A subflow, borrowed from a hook: its locks may be held, so it can only be looked at.
#[repr(transparent)]
pub(crate) struct Subflow(Opaque<bindings::sock>);

impl Subflow {
    /// # Safety
    ///
    /// `ssk` is a valid subflow for `'a`.
    pub(super) unsafe fn from_raw<'a>(ssk: *const bindings::sock) -> &'a Self {
        // SAFETY: `Subflow` is a transparent wrapper, and the caller vouches for the pointer.
        unsafe { &*ssk.cast() }
    }

    /// A snapshot. Any context.
    pub(crate) fn info(&self) -> SubflowInfo {
        let mut info = MaybeUninit::uninit();
        // SAFETY: The subflow is valid, and the function fills all of `info` in any context.
        unsafe {
            bindings::mptcp_pm_subflow_get_info(self.0.get(), info.as_mut_ptr());
            SubflowInfo(info.assume_init())
        }
    }
}

/// What a subflow looked like.
#[repr(transparent)]
pub(crate) struct SubflowInfo(bindings::mptcp_pm_subflow_info);

impl SubflowInfo {
    pub(crate) fn id(&self) -> u32 {
        self.0.subflow_id
    }

    pub(crate) fn local(&self) -> Endpoint<'_> {
        Endpoint(&self.0.local)
    }

    pub(crate) fn remote(&self) -> Endpoint<'_> {
        Endpoint(&self.0.remote)
    }

    /// The interface that the subflow is bound to, 0 if none.
    pub(crate) fn ifindex(&self) -> u32 {
        self.0.ifindex.unsigned_abs()
    }

    /// This host asked the peer to use the subflow as backup only.
    pub(crate) fn requests_backup(&self) -> bool {
        self.0.request_bkup
    }

    /// The peer asked this host to use the subflow as backup only.
    pub(crate) fn peer_requests_backup(&self) -> bool {
        self.0.backup
    }

    pub(crate) fn initial(&self) -> bool {
        self.0.initial
    }

    /// This host opened the subflow.
    pub(crate) fn active(&self) -> bool {
        self.0.active
    }

    /// As in `linux/tcp_states.h`.
    pub(crate) fn state(&self) -> u8 {
        self.0.state
    }

    /// A positive errno, or 0.
    pub(crate) fn errno(&self) -> u32 {
        self.0.err.unsigned_abs()
    }

    /// A positive errno, or 0.
    pub(crate) fn errno_soft(&self) -> u32 {
        self.0.err_soft.unsigned_abs()
    }

    /// The reason of a received MP_TCPRST, and whether it may pass (RFC 8684 section 3.6).
    pub(crate) fn reset(&self) -> Option<(u8, bool)> {
        let reset = (self.0.reset_reason, self.0.reset_transient);
        self.0.reset_seen.then_some(reset)
    }

    /// The handshake of the subflow was completed.
    pub(crate) fn established(&self) -> bool {
        self.0.established
    }

    /// Bytes of this host that the peer has acknowledged.
    pub(crate) fn bytes_acked(&self) -> u64 {
        self.0.bytes_acked
    }

    pub(crate) fn bytes_received(&self) -> u64 {
        self.0.bytes_received
    }

    /// Sequence numbers in flight.
    pub(crate) fn unacked(&self) -> u32 {
        self.0.snd_nxt.wrapping_sub(self.0.snd_una)
    }

    /// In microseconds.
    pub(crate) fn rto(&self) -> u32 {
        self.0.rto
    }

    pub(crate) fn backoff(&self) -> u8 {
        self.0.backoff
    }

    pub(crate) fn retransmits(&self) -> u8 {
        self.0.retransmits
    }

    pub(crate) fn snd_una(&self) -> u32 {
        self.0.snd_una
    }
}

/// An address with a port and an ID: one end of a subflow, or announced.
pub(crate) struct Endpoint<'a>(&'a bindings::mptcp_addr_info);

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

/// `struct mptcp_info` of `linux/mptcp.h`.
pub(crate) struct MptcpInfo(MaybeUninit<bindings::mptcp_info>);

/// `struct tcp_info` of `linux/tcp.h`.
pub(crate) struct TcpInfo(MaybeUninit<bindings::tcp_info>);

impl MptcpInfo {
    pub(crate) const SIZE: usize = size_of::<bindings::mptcp_info>();

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: Zeroed, padding included, before it was filled.
        unsafe { slice::from_raw_parts(from_ref(&self.0).cast(), Self::SIZE) }
    }
}

impl TcpInfo {
    pub(crate) const SIZE: usize = size_of::<bindings::tcp_info>();

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: Zeroed, padding included, before it was filled.
        unsafe { slice::from_raw_parts(from_ref(&self.0).cast(), Self::SIZE) }
    }
}

// Run by KUnit, where the kernel has it, when the module is loaded.

#[cfg(CONFIG_KUNIT = "y")]
impl SubflowInfo {
    /// One that has everything, over IPv6.
    pub(crate) fn full() -> Result<Self> {
        let mut info: bindings::mptcp_pm_subflow_info = pin_init::zeroed();
        info.local = endpoint(&[1; 16], 1, 1)?;
        info.remote = endpoint(&[2; 16], 2, 2)?;
        info.ifindex = 1;
        info.reset_seen = true;
        info.reset_transient = true;
        info.backup = true;
        info.request_bkup = true;
        info.active = true;
        info.initial = true;
        info.established = true;
        Ok(Self(info))
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

    #[test]
    fn what_is_unacked_may_wrap() {
        let mut info: bindings::mptcp_pm_subflow_info = pin_init::zeroed();
        info.snd_una = u32::MAX - 9;
        info.snd_nxt = 10;
        assert_eq!(SubflowInfo(info).unacked(), 20);
    }
}
