// SPDX-License-Identifier: GPL-2.0

//! A generic netlink family: its commands, its multicast groups, its messages.
//!
//! `kernel::net::netlink` of Linux 7.3 knows multicast in the initial network namespace only; this
//! adds namespaces, privileges, commands with policies, dumps and extended errors.
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use core::{
    marker::PhantomData,
    mem::{size_of, ManuallyDrop},
    ptr::{null, NonNull},
    slice,
};
use kernel::{
    bindings,
    error::{code, from_result, to_result, Error},
    prelude::*,
    types::Opaque,
    ThisModule,
};

/// A network namespace.
#[repr(transparent)]
pub(crate) struct Net(Opaque<bindings::net>);

impl Net {
    /// # Safety
    ///
    /// `net` is a valid network namespace for `'a`.
    pub(super) unsafe fn from_raw<'a>(net: *mut bindings::net) -> &'a Self {
        // SAFETY: `Net` is a transparent wrapper, and the caller vouches for the pointer.
        unsafe { &*net.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::net {
        self.0.get()
    }
}

/// What an attribute of a request may look like; the core refuses the rest, and says which.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Policy(bindings::nla_policy);

// SAFETY: Never written to.
unsafe impl Sync for Policy {}

impl Policy {
    /// Not allowed in a request.
    pub(crate) const REFUSED: Self = Self::new(bindings::NLA_UNSPEC, 0);
    pub(crate) const FLAG: Self = Self::new(bindings::NLA_FLAG, 0);
    pub(crate) const U8: Self = Self::new(bindings::NLA_U8, 0);
    pub(crate) const U16: Self = Self::new(bindings::NLA_U16, 0);
    pub(crate) const U32: Self = Self::new(bindings::NLA_U32, 0);

    /// Bytes, at most `max`.
    pub(crate) const fn binary(max: u16) -> Self {
        Self::new(bindings::NLA_BINARY, max)
    }

    /// A nest; `table` has a policy for each of its attributes, by number.
    pub(crate) const fn nest<const N: usize>(table: &'static [Policy; N]) -> Self {
        let mut policy = Self::new(bindings::NLA_NESTED, max_attribute(N));
        policy.0.__bindgen_anon_1.nested_policy = table.as_ptr().cast();
        policy
    }

    const fn new(kind: u32, len: u16) -> Self {
        let mut policy: bindings::nla_policy = pin_init::zeroed();
        policy.type_ = kind as u8;
        policy.len = len;
        Self(policy)
    }
}

/// The highest attribute of a table of `entries` that starts with attribute 0.
const fn max_attribute(entries: usize) -> u16 {
    assert!(entries > 0 && entries <= u16::MAX as usize);
    (entries - 1) as u16
}

/// `NL_VALIDATE_STRICT`.
const STRICT: c_uint = bindings::netlink_validation_NL_VALIDATE_TRAILING
    | bindings::netlink_validation_NL_VALIDATE_MAXTYPE
    | bindings::netlink_validation_NL_VALIDATE_UNSPEC
    | bindings::netlink_validation_NL_VALIDATE_STRICT_ATTRS
    | bindings::netlink_validation_NL_VALIDATE_NESTED;

/// An attribute of a request.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a>(&'a bindings::nlattr);

impl<'a> Attribute<'a> {
    /// The bytes behind the header.
    pub(crate) fn payload(self) -> &'a [u8] {
        let header = size_of::<bindings::nlattr>();
        let len = usize::from(self.0.nla_len).saturating_sub(header);
        let start = core::ptr::from_ref(self.0)
            .cast::<u8>()
            .wrapping_add(header);
        // SAFETY: An `Attribute` comes out of the core's parser, which has checked that `nla_len`
        // bytes, header included, lie in the request; the request lives for `'a`.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// The number in host byte order, if it has the size of one.
    pub(crate) fn u32(self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.payload().try_into().ok()?))
    }

    /// The number in network byte order, if it has the size of one.
    pub(crate) fn be16(self) -> Option<u16> {
        Some(u16::from_be_bytes(self.payload().try_into().ok()?))
    }

    /// The first byte, if there is one.
    pub(crate) fn u8(self) -> Option<u8> {
        self.payload().first().copied()
    }
}

/// The attributes of a request or of a nest, by number.
pub(crate) struct Attributes<'a, const N: usize> {
    table: [Option<Attribute<'a>>; N],
    nest: Option<Attribute<'a>>,
}

impl<'a, const N: usize> Attributes<'a, N> {
    pub(crate) fn get(&self, number: u16) -> Option<Attribute<'a>> {
        *self.table.get(usize::from(number))?
    }

    pub(crate) fn flag(&self, number: u16) -> bool {
        self.get(number).is_some()
    }
}

/// A request of user space, in process context.
///
/// # Invariants
///
/// `info` is valid for `'a`, and so are its attributes.
pub(crate) struct Request<'a> {
    info: NonNull<bindings::genl_info>,
    phantom: PhantomData<&'a ()>,
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

    /// The attributes at the top level; `N` is one more than the highest one of the policy.
    pub(crate) fn attributes<const N: usize>(&self) -> Attributes<'a, N> {
        let mut table = [None; N];
        let attrs = self.info().attrs.cast::<Option<Attribute<'a>>>();
        if !attrs.is_null() {
            for (number, entry) in table.iter_mut().enumerate() {
                // SAFETY: The core allocates a pointer for each attribute up to the highest one,
                // null for those that are not there: `Option<Attribute>` by its representation.
                *entry = unsafe { attrs.add(number).read() };
            }
        }
        Attributes { table, nest: None }
    }

    /// The attributes of `nest`, which the policy of the command has checked already.
    pub(crate) fn nested<const N: usize>(
        &self,
        nest: Attribute<'a>,
        policy: &'static [Policy; N],
    ) -> Result<Attributes<'a, N>> {
        let mut table = [None; N];
        let payload = nest.payload();
        let len = c_int::try_from(payload.len())?;
        // SAFETY: `table` has an entry for each attribute up to the highest one, and
        // `Option<Attribute>` is a pointer or null; `payload` is readable, `policy` as long as
        // `table`, and the extended acknowledgement valid or null.
        to_result(unsafe {
            bindings::__nla_parse(
                table.as_mut_ptr().cast(),
                c_int::from(const { max_attribute(N) }),
                payload.as_ptr().cast(),
                len,
                policy.as_ptr().cast(),
                STRICT,
                self.info().extack,
            )
        })?;
        Ok(Attributes {
            table,
            nest: Some(nest),
        })
    }

    /// The attribute `number`, or a refusal that names it as missing.
    pub(crate) fn require<const N: usize>(
        &self,
        attributes: &Attributes<'a, N>,
        number: u16,
        message: &'static CStr,
    ) -> Result<Attribute<'a>> {
        attributes.get(number).ok_or_else(|| {
            if let Some(extack) = NonNull::new(self.info().extack) {
                let nest = attributes.nest.map_or(null(), |nest| nest.0);
                // SAFETY: The extended acknowledgement is the request's own, nobody else uses it.
                unsafe {
                    (*extack.as_ptr()).miss_type = number;
                    (*extack.as_ptr()).miss_nest = nest;
                }
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
            // SAFETY: The extended acknowledgement is the request's own, nobody else uses it, and
            // `message` lives as long as the module, which the family pins during a request.
            unsafe {
                (*extack.as_ptr())._msg = message.as_char_ptr();
                (*extack.as_ptr()).bad_attr = at.map_or(null(), |attribute| attribute.0);
            }
        }
        error
    }

    /// Answers with a message of at most `size` bytes of attributes. May sleep.
    pub(crate) fn reply(&self, size: usize, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result {
        let mut message = Message::new(size, Context::PROCESS)?;
        message.put(self.info(), 0, fill)?;
        let skb = message.into_raw();
        // SAFETY: The message is handed over, and `info` valid by the type invariants.
        to_result(unsafe { bindings::genlmsg_reply(skb, self.info.as_ptr()) })
    }
}

/// What a caller may do while it allocates.
#[derive(Clone, Copy)]
pub(crate) struct Context(bindings::gfp_t);

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

    /// A number that goes out in network byte order.
    pub(crate) fn be16(&mut self, number: u16, value: u16) -> Result {
        self.bytes(number, &value.to_be_bytes())
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
unsafe fn append(
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
struct Message {
    skb: NonNull<bindings::sk_buff>,
}

impl Message {
    /// `size` is what the attributes take.
    fn new(size: usize, context: Context) -> Result<Self> {
        // SAFETY: The function takes plain numbers.
        let skb = unsafe { bindings::genlmsg_new(size, context.0) };
        // INVARIANT: A new skb is the caller's.
        Ok(Self {
            skb: NonNull::new(skb).ok_or(code::ENOMEM)?,
        })
    }

    /// The answer to the request of `info`.
    fn put(
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

    fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).skb.as_ptr()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::nlmsg_free(self.skb.as_ptr()) }
    }
}

/// One buffer of the answer to a dump, in process context.
///
/// # Invariants
///
/// `skb` and `info` are valid for `'a`, the skb is nobody else's.
pub(crate) struct Page<'a> {
    skb: NonNull<bindings::sk_buff>,
    info: &'a bindings::genl_info,
    request: Request<'a>,
}

impl Page<'_> {
    pub(crate) fn net(&self) -> &Net {
        self.request.net()
    }

    /// Appends a message; [`EMSGSIZE`](code::EMSGSIZE) if it does not fit any more.
    pub(crate) fn message(&mut self, fill: impl FnOnce(&mut Body<'_>) -> Result) -> Result {
        // SAFETY: By the type invariants.
        unsafe {
            append(
                self.skb,
                self.info.family,
                (self.info.snd_portid, self.info.snd_seq),
                bindings::NLM_F_MULTI as c_int,
                (*self.info.genlhdr).cmd,
                fill,
            )
        }
    }
}

/// Where a dump goes on: zero at first, and otherwise as the last page left it.
pub(crate) type Cursor = [c_long; 6];

/// A command of the family. It runs in process context and may sleep; commands run in parallel.
pub(crate) trait Command {
    const CMD: u8;

    fn run(request: &Request<'_>) -> Result;
}

/// A dump of the family: fills pages until one stays empty.
pub(crate) trait Dump {
    const CMD: u8;

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
        // INVARIANT: By the safety requirements.
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
        // INVARIANT: By the safety requirements; the core shows the skb to nobody else.
        let mut page = Page {
            skb: NonNull::new(skb).ok_or(code::EINVAL)?,
            info: reference,
            request: Request {
                info: NonNull::new(info.cast_mut()).ok_or(code::EINVAL)?,
                phantom: PhantomData,
            },
        };
        // SAFETY: The context of a dump is its own to use, zero at first, and valid as any number.
        let cursor = unsafe { &mut (*callback).__bindgen_anon_1.args };
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
    pub(crate) const fn command<C: Command, const N: usize>(policy: &'static [Policy; N]) -> Self {
        let mut operation: bindings::genl_split_ops = pin_init::zeroed();
        operation.__bindgen_anon_1.__bindgen_anon_1.doit = Some(command_callback::<C>);
        operation.policy = policy.as_ptr().cast();
        operation.maxattr = max_attribute(N) as c_uint;
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
        group.flags = 1;
        Self(group)
    }
}

/// At build time only: does not build if the name is too long.
pub(super) const fn copy_name(to: &mut [c_char], name: &str) {
    let name = name.as_bytes();
    assert!(name.len() < to.len());
    let mut i = 0;
    while i < name.len() {
        to[i] = name[i] as c_char;
        i += 1;
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

    /// Does anybody listen to the group? Any context, between registration and its end.
    ///
    /// The core keeps one count for all network namespaces, so a yes can be a no.
    pub(crate) fn has_listeners(&self, net: &Net, group: usize) -> bool {
        // SAFETY: The family and the network namespace are valid.
        unsafe { bindings::genl_has_listeners(self.0.get(), net.as_raw(), group as c_uint) > 0 }
    }

    /// Sends an event of at most `size` bytes of attributes to the group, between registration
    /// and its end.
    ///
    /// An event that can not be sent becomes ENOBUFS at its listeners.
    pub(crate) fn multicast(
        &self,
        net: &Net,
        (group, cmd): (usize, u8),
        (size, context): (usize, Context),
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) {
        let group = group as c_uint;
        let message = Message::new(size, context).and_then(|message| {
            // SAFETY: The skb is the message's own, and the family valid.
            unsafe { append(message.skb, self.0.get(), (0, 0), 0, cmd, fill) }?;
            Ok(message)
        });
        match message {
            // An error here is a receiver's: it has been told already, or is gone.
            // SAFETY: The message is handed over; family and network namespace are valid.
            Ok(message) => unsafe {
                bindings::genlmsg_multicast_netns(
                    self.0.get(),
                    net.as_raw(),
                    message.into_raw(),
                    0,
                    group,
                    context.0,
                );
            },
            // SAFETY: The family and the network namespace are valid.
            Err(_) => unsafe {
                bindings::genl_set_err(
                    self.0.get(),
                    net.as_raw(),
                    0,
                    group,
                    code::ENOBUFS.to_errno(),
                );
            },
        }
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
