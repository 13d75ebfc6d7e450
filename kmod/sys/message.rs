// SPDX-License-Identifier: GPL-2.0

//! Messages that are being written.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use core::{
    mem::{replace, MaybeUninit},
    ptr::{copy_nonoverlapping, NonNull},
    slice,
};
use kernel::{
    alloc::Flags,
    bindings,
    error::code,
    net::netlink::{GenlMsg, NetlinkSkBuff},
    prelude::*,
};

/// `NLA_HDRLEN`
const HEADER: usize = 4;
/// `NLA_ALIGNTO`
const ALIGN: usize = 4;
/// `NLA_F_NESTED`
const NESTED: u16 = 1 << 15;

/// What a caller may do while it allocates.
#[derive(Clone, Copy)]
pub(crate) enum Context {
    /// Must not sleep.
    Atomic,
    /// May sleep.
    Process,
}

impl Context {
    pub(super) const fn flags(self) -> Flags {
        match self {
            Self::Atomic => GFP_ATOMIC,
            Self::Process => GFP_KERNEL,
        }
    }

    pub(super) const fn gfp(self) -> bindings::gfp_t {
        match self {
            Self::Atomic => bindings::GFP_ATOMIC,
            Self::Process => bindings::GFP_KERNEL,
        }
    }
}

/// The attributes of a message that is being written. They lie behind the end of the skb, which
/// takes them in once all are there.
///
/// # Invariants
///
/// The first `len` bytes of `room` are written.
pub(crate) struct Body<'a> {
    room: &'a mut [MaybeUninit<u8>],
    len: usize,
}

impl Body<'_> {
    /// As `nla_put()`, but inlined: a few instructions where the size of `value` is a constant.
    #[inline]
    pub(crate) fn bytes(&mut self, number: u16, value: &[u8]) -> Result {
        let len = HEADER.saturating_add(value.len());
        let header = header(number, len)?;
        let padding = len.wrapping_neg() % ALIGN;
        let padding = [0; ALIGN].get(..padding).unwrap_or_default();
        let free = self.room.len().saturating_sub(self.len);
        if free < len.saturating_add(padding.len()) {
            return Err(code::EMSGSIZE);
        }
        self.write(&header)?;
        self.write(value)?;
        self.write(padding)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result {
        let room = self.room.get_mut(self.len..).unwrap_or_default();
        let room = room.get_mut(..bytes.len()).ok_or(code::EMSGSIZE)?;
        let to = room.as_mut_ptr().cast();
        // SAFETY: Both are as long; what is borrowed mutably does not overlap with anything.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        // INVARIANT: Written just now.
        self.len = self.len.saturating_add(bytes.len());
        Ok(())
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

    /// A name, with the zero that ends it.
    pub(crate) fn string(&mut self, number: u16, value: &CStr) -> Result {
        self.bytes(number, value.to_bytes_with_nul())
    }

    /// An attribute that is there if `value` is true.
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
        let number = number | NESTED;
        let start = self.len;
        self.bytes(number, &[])?;
        let filled = fill(self).and_then(|()| {
            let end = replace(&mut self.len, start);
            let written = self.write(&header(number, end.saturating_sub(start))?);
            // INVARIANT: Written before.
            self.len = end;
            written
        });
        if filled.is_err() {
            self.len = start;
        }
        filled
    }
}

/// `struct nlattr` of an attribute of `len` bytes, header included.
fn header(number: u16, len: usize) -> Result<[u8; HEADER]> {
    let [a, b] = u16::try_from(len)
        .map_err(|_| code::EMSGSIZE)?
        .to_ne_bytes();
    let [c, d] = number.to_ne_bytes();
    Ok([a, b, c, d])
}

/// Appends a message to a buffer; leaves nothing behind if it can not be filled.
///
/// # Safety
///
/// `family` is registered.
pub(super) unsafe fn append(
    skb: NetlinkSkBuff,
    family: *const bindings::genl_family,
    (portid, seq): (u32, u32),
    flags: c_int,
    cmd: u8,
    fill: impl FnOnce(&mut Body<'_>) -> Result,
) -> (NetlinkSkBuff, Result) {
    let raw = skb.into_raw();
    // SAFETY: The buffer was owned just now; the caller vouches for the family.
    let header = unsafe { bindings::genlmsg_put(raw.as_ptr(), portid, seq, family, flags, cmd) };
    // SAFETY: As above: it is owned again.
    let skb = unsafe { NetlinkSkBuff::from_raw(raw) };
    let Some(header) = NonNull::new(header) else {
        return (skb, Err(code::EMSGSIZE));
    };
    // SAFETY: The header was put into this buffer just now.
    let message = unsafe { GenlMsg::from_raw(skb, header) };
    // SAFETY: The message owns its buffer, and nobody else uses that as long as the room lives.
    let room = unsafe { tail_room(raw) };
    let mut body = Body { room, len: 0 };
    let filled = fill(&mut body);
    if filled.is_err() {
        return (message.cancel(), filled);
    }
    // Fits: it is not more than the room, which an skb counts in 32 bits.
    let len = body.len as c_uint;
    // SAFETY: `len` bytes of the room at the end of the skb are written.
    unsafe { bindings::skb_put(message.as_raw(), len) };
    (message.end(), filled)
}

/// The bytes that an skb has room for at its end.
///
/// # Safety
///
/// `skb` is valid, linear and nobody else's for `'a`.
unsafe fn tail_room<'a>(skb: NonNull<bindings::sk_buff>) -> &'a mut [MaybeUninit<u8>] {
    let skb = skb.as_ptr();
    // SAFETY: The caller vouches for the skb. Putting nothing into it tells where its end is.
    let tail = unsafe { bindings::skb_put(skb, 0) };
    // SAFETY: The caller vouches for the skb.
    let (end, used) = unsafe { ((*skb).end, (*skb).tail) };
    let room = (end as usize).saturating_sub(used as usize);
    // SAFETY: From the tail to the end of its buffer the memory is the skb's own.
    unsafe { slice::from_raw_parts_mut(tail.cast(), room) }
}

/// What `fill` writes into a message of `size` bytes.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn written(size: usize, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result<usize> {
    let raw = NetlinkSkBuff::new(size, GFP_KERNEL)?.into_raw();
    // SAFETY: A new buffer is linear and nobody else's.
    let mut body = Body {
        room: unsafe { tail_room(raw) },
        len: 0,
    };
    let filled = fill(&mut body);
    let len = body.len;
    // SAFETY: Owned since it was new; the room is not used any more. Dropped at once.
    unsafe { NetlinkSkBuff::from_raw(raw) };
    filled.map(|()| len)
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
