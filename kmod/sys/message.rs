// SPDX-License-Identifier: GPL-2.0

//! Messages that are being written.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    bindings,
    error::{code, to_result},
    prelude::*,
};

/// What a caller may do while it allocates.
#[derive(Clone, Copy)]
pub(crate) struct Context(pub(super) bindings::gfp_t);

impl Context {
    /// Must not sleep.
    pub(crate) const ATOMIC: Self = Self(bindings::GFP_ATOMIC);
    /// May sleep.
    pub(crate) const PROCESS: Self = Self(bindings::GFP_KERNEL);
}

/// The attributes of a message that is being written.
pub(crate) struct Body<'a> {
    skb: NonNull<bindings::sk_buff>,
    phantom: PhantomData<&'a mut bindings::sk_buff>,
}

impl Body<'_> {
    pub(crate) fn bytes(&mut self, number: u16, value: &[u8]) -> Result {
        let len = c_int::try_from(value.len())?;
        // SAFETY: The skb is valid and nobody else's for the life of `self`; `value` is readable.
        to_result(unsafe {
            bindings::nla_put(
                self.skb.as_ptr(),
                c_int::from(number),
                len,
                value.as_ptr().cast(),
            )
        })
    }

    pub(crate) fn u8(&mut self, number: u16, value: u8) -> Result {
        self.bytes(number, &[value])
    }

    pub(crate) fn u32(&mut self, number: u16, value: u32) -> Result {
        self.bytes(number, &value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, number: u16, value: u64) -> Result {
        self.bytes(number, &value.to_ne_bytes())
    }

    /// A number that goes out in network byte order.
    pub(crate) fn be16(&mut self, number: u16, value: u16) -> Result {
        self.bytes(number, &value.to_be_bytes())
    }

    /// A name; what user space gets ends with a zero.
    pub(crate) fn string(&mut self, number: u16, value: &CStr) -> Result {
        self.bytes(number, value.to_bytes_with_nul())
    }

    /// An attribute that says yes by being there.
    pub(crate) fn flag(&mut self, number: u16, value: bool) -> Result {
        if !value {
            return Ok(());
        }
        self.bytes(number, &[])
    }

    /// A nest; leaves nothing behind if it can not be filled.
    pub(crate) fn nest(
        &mut self,
        number: u16,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Result {
        let skb = self.skb.as_ptr();
        // SAFETY: The skb is valid and nobody else's for the life of `self`.
        let nest = unsafe { bindings::nla_nest_start(skb, c_int::from(number)) };
        if nest.is_null() {
            return Err(code::EMSGSIZE);
        }
        let filled = fill(self);
        match filled {
            // SAFETY: `nest` was started in this skb, and the nests inside of it are closed.
            Ok(()) => unsafe {
                bindings::nla_nest_end(skb, nest);
            },
            // SAFETY: As above.
            Err(_) => unsafe { bindings::nla_nest_cancel(skb, nest) },
        }
        filled
    }
}

/// Appends a message to an skb; leaves nothing behind if it can not be filled.
///
/// # Safety
///
/// `skb` is valid and nobody else's during the call.
pub(super) unsafe fn append(
    skb: NonNull<bindings::sk_buff>,
    family: *const bindings::genl_family,
    to: (u32, u32),
    flags: c_int,
    cmd: u8,
    fill: impl FnOnce(&mut Body<'_>) -> Result,
) -> Result {
    let (portid, seq) = to;
    // SAFETY: The caller vouches for the skb; the family is registered, as somebody is using it.
    let header = unsafe { bindings::genlmsg_put(skb.as_ptr(), portid, seq, family, flags, cmd) };
    if header.is_null() {
        return Err(code::EMSGSIZE);
    }
    let filled = fill(&mut Body {
        skb,
        phantom: PhantomData,
    });
    match filled {
        // SAFETY: `header` was put into this skb just now.
        Ok(()) => unsafe { bindings::genlmsg_end(skb.as_ptr(), header) },
        // SAFETY: As above.
        Err(_) => unsafe { bindings::genlmsg_cancel(skb.as_ptr(), header) },
    }
    filled
}

/// A message that is not sent yet.
///
/// # Invariants
///
/// `skb` is valid, and owned.
pub(super) struct Message {
    pub(super) skb: NonNull<bindings::sk_buff>,
}

impl Message {
    /// `size` is what the attributes take.
    pub(super) fn new(size: usize, context: Context) -> Result<Self> {
        // SAFETY: The function takes plain numbers.
        let skb = unsafe { bindings::genlmsg_new(size, context.0) };
        // INVARIANT: A new skb is the caller's.
        Ok(Self {
            skb: NonNull::new(skb).ok_or(code::ENOMEM)?,
        })
    }

    /// The answer to the request of `info`.
    pub(super) fn put(
        &mut self,
        info: &bindings::genl_info,
        flags: c_int,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> Result {
        // SAFETY: By the type invariants the skb is valid and owned, by the caller's reference
        // `info` is valid, and with it its message header.
        unsafe {
            append(
                self.skb,
                info.family,
                (info.snd_portid, info.snd_seq),
                flags,
                (*info.genlhdr).cmd,
                fill,
            )
        }
    }

    pub(super) fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).skb.as_ptr()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::nlmsg_free(self.skb.as_ptr()) }
    }
}

/// What `fill` writes into a message of `size` bytes.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn written(size: usize, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result<usize> {
    let message = Message::new(size, Context::PROCESS)?;
    // SAFETY: By the type invariants the skb is valid.
    let length = || unsafe { message.skb.as_ref() }.len as usize;
    let before = length();
    fill(&mut Body {
        skb: message.skb,
        phantom: PhantomData,
    })?;
    Ok(length() - before)
}

#[kunit_tests(smapp_pm_message)]
mod tests {
    use super::*;

    #[test]
    fn a_nest_that_fails_leaves_nothing_behind() {
        let written = written(64, |body| {
            let failed = body.nest(1, |body| {
                body.u32(2, 3)?;
                body.nest(4, |_| Err(code::EINVAL))
            });
            assert_eq!(failed, Err(code::EINVAL));
            Ok(())
        });
        assert_eq!(written, Ok(0));
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let written = written(0, |body| {
            while body.u64(1, 2).is_ok() {}
            assert_eq!(body.bytes(1, &[0; 4096]), Err(code::EMSGSIZE));
            Ok(())
        });
        assert_eq!(written.is_ok(), true);
    }
}
