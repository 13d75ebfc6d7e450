// SPDX-License-Identifier: GPL-2.0

//! Subflows, and what they looked like.
//!
//! C header: [`include/net/mptcp.h`](srctree/include/net/mptcp.h), `struct mptcp_pm_subflow_info`

use super::address::Endpoint;
use core::{
    mem::{size_of, MaybeUninit},
    ptr::from_ref,
    slice,
};
use kernel::{bindings, prelude::*, types::Opaque};

/// A subflow, borrowed from a hook: its locks may be held, so it can only be looked at.
#[repr(transparent)]
pub(crate) struct Subflow(pub(super) Opaque<bindings::sock>);

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
        // SAFETY: The subflow is valid; the function can be called in any context.
        unsafe { bindings::mptcp_pm_subflow_get_info(self.0.get(), info.as_mut_ptr()) };
        // SAFETY: The function fills all of it.
        SubflowInfo(unsafe { info.assume_init() })
    }
}

/// What a subflow looked like.
#[repr(transparent)]
pub(crate) struct SubflowInfo(pub(super) bindings::mptcp_pm_subflow_info);

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

    /// Probes in a row without an answer, 0 if the timer is that of a retransmission.
    pub(crate) fn probes(&self) -> u8 {
        self.0.probes
    }

    pub(crate) fn snd_una(&self) -> u32 {
        self.0.snd_una
    }
}

/// `struct tcp_info` of `linux/tcp.h`.
pub(crate) struct TcpInfo(pub(super) MaybeUninit<bindings::tcp_info>);

impl TcpInfo {
    pub(crate) const SIZE: usize = size_of::<bindings::tcp_info>();

    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: Zeroed, padding included, before it was filled.
        unsafe { slice::from_raw_parts(from_ref(&self.0).cast(), Self::SIZE) }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl SubflowInfo {
    /// One that has everything, over IPv6.
    pub(crate) fn full() -> Result<Self> {
        use super::address::endpoint;

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
        info.probes = 1;
        Ok(Self(info))
    }
}

#[kunit_tests(smapp_pm_subflow)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unacked_may_wrap() {
        let mut info: bindings::mptcp_pm_subflow_info = pin_init::zeroed();
        info.snd_una = u32::MAX - 9;
        info.snd_nxt = 10;
        assert_eq!(SubflowInfo(info).unacked(), 20);
    }
}
