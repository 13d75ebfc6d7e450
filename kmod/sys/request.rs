// SPDX-License-Identifier: GPL-2.0

//! Requests of user space, and dumps.
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use super::{
    attribute::{Attribute, Attributes},
    message::{append, Body},
    net::Net,
};
use core::{
    marker::PhantomData,
    ptr::{null, NonNull},
};
use kernel::{
    bindings,
    error::{code, to_result, Error},
    net::netlink::NetlinkSkBuff,
    prelude::*,
};

/// A request of user space, in process context.
///
/// # Invariants
///
/// `info` is valid for `'a`; its attributes are too, and are null or as many as a [`PolicyTable`]
/// has entries.
pub(crate) struct Request<'a> {
    pub(super) info: NonNull<bindings::genl_info>,
    pub(super) phantom: PhantomData<&'a ()>,
}

impl<'a> Request<'a> {
    fn info(&self) -> &'a bindings::genl_info {
        // SAFETY: By the type invariants.
        unsafe { self.info.as_ref() }
    }

    /// The network namespace that the request speaks of: the one of its socket.
    pub(crate) fn net(&self) -> &'a Net {
        // SAFETY: By the type invariants `info` is valid; the socket behind the request keeps its
        // network namespace alive.
        unsafe { Net::from_raw(bindings::genl_info_net(self.info.as_ptr())) }
    }

    /// The attributes at the top level.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        // SAFETY: By the type invariants; the core parses by a `PolicyTable`, see `Command`.
        unsafe { Attributes::from_raw(self.info().attrs.cast_const().cast()) }
    }

    /// The attributes of `nest`, which the core has held against the policy of the nest.
    pub(crate) fn nested(&self, nest: Attribute<'a>) -> Result<Attributes<'a>> {
        Attributes::parse(nest)
    }

    /// The attribute `number`, or a refusal that names it as missing.
    pub(crate) fn require(
        &self,
        attributes: &Attributes<'a>,
        number: u16,
        message: &'static CStr,
    ) -> Result<Attribute<'a>> {
        attributes.get(number).ok_or_else(|| {
            if let Some(extack) = NonNull::new(self.info().extack) {
                let nest = attributes.nest.map_or(null(), |nest| nest.0);
                // SAFETY: The extended acknowledgement is the request's own, nobody else uses it.
                let extack = unsafe { &mut *extack.as_ptr() };
                extack.miss_type = number;
                extack.miss_nest = nest;
            }
            self.refuse(code::EINVAL, None, message)
        })
    }

    /// An error that tells user space `message` and, if there is one, the attribute at fault.
    pub(crate) fn refuse(
        &self,
        error: Error,
        at: Option<Attribute<'a>>,
        message: &'static CStr,
    ) -> Error {
        if let Some(extack) = NonNull::new(self.info().extack) {
            // SAFETY: The extended acknowledgement is the request's own, nobody else uses it.
            let extack = unsafe { &mut *extack.as_ptr() };
            // Lives as long as the module, which a request keeps loaded.
            extack._msg = message.as_char_ptr();
            extack.bad_attr = at.map_or(null(), |attribute| attribute.0);
        }
        error
    }

    /// Answers with a message of at most `size` bytes of attributes. May sleep.
    pub(crate) fn reply(&self, size: usize, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result {
        let skb = NetlinkSkBuff::new(size, GFP_KERNEL)?;
        let info = self.info();
        let to = (info.snd_portid, info.snd_seq);
        // SAFETY: By the type invariants.
        let cmd = unsafe { (*info.genlhdr).cmd };
        // SAFETY: The family is registered, as it has got the request.
        let (skb, filled) = unsafe { append(skb, info.family, to, 0, cmd, fill) };
        filled?;
        let skb = skb.into_raw().as_ptr();
        // SAFETY: The message is handed over, and `info` valid by the type invariants.
        to_result(unsafe { bindings::genlmsg_reply(skb, self.info.as_ptr()) })
    }
}

/// One buffer of the answer to a dump, in process context.
///
/// # Invariants
///
/// `skb` and `info` are valid for `'a`, the skb is linear and nobody else's.
pub(crate) struct Page<'a> {
    pub(super) skb: NonNull<bindings::sk_buff>,
    pub(super) info: &'a bindings::genl_info,
    pub(super) request: Request<'a>,
}

impl Page<'_> {
    pub(crate) fn net(&self) -> &Net {
        self.request.net()
    }

    /// Appends a message; [`EMSGSIZE`](code::EMSGSIZE) if it does not fit any more.
    pub(crate) fn message(&mut self, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result {
        let info = self.info;
        let to = (info.snd_portid, info.snd_seq);
        let flags = bindings::NLM_F_MULTI as c_int;
        // SAFETY: By the type invariants.
        let cmd = unsafe { (*info.genlhdr).cmd };
        // SAFETY: By the type invariants. It is given back below.
        let skb = unsafe { NetlinkSkBuff::from_raw(self.skb) };
        // SAFETY: The family is registered, as it has got the request.
        let (skb, filled) = unsafe { append(skb, info.family, to, flags, cmd, fill) };
        // The core goes on with it.
        skb.into_raw();
        filled
    }
}

/// Where a dump goes on: all 0 at first, then as the page before left it.
pub(crate) type Cursor = [c_long; 6];
