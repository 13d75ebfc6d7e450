// SPDX-License-Identifier: GPL-2.0

//! Attributes of a request: what they may look like, and what they are.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use core::{
    mem::size_of,
    ptr::{null, null_mut, NonNull},
    slice,
};
use kernel::{bindings, error::to_result, prelude::*};

/// The highest attribute that a table has room for.
pub(super) const HIGHEST: u16 = 31;

/// A value for each attribute, by its number.
type Table<T> = [T; HIGHEST as usize + 1];

/// The policy of each attribute, by number.
pub(crate) type PolicyTable = Table<Policy>;

/// What an attribute of a request may look like; the core refuses the rest, and says which.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Policy(bindings::nla_policy);

// SAFETY: Never written to.
unsafe impl Sync for Policy {}

impl Policy {
    /// A table that allows no attribute.
    pub(crate) const NONE: PolicyTable = [Self::REFUSED; HIGHEST as usize + 1];

    /// Not allowed in a request.
    const REFUSED: Self = Self::new(bindings::NLA_UNSPEC, 0);
    pub(crate) const FLAG: Self = Self::new(bindings::NLA_FLAG, 0);
    pub(crate) const U8: Self = Self::new(bindings::NLA_U8, 0);
    pub(crate) const U16: Self = Self::new(bindings::NLA_U16, 0);
    pub(crate) const U32: Self = Self::new(bindings::NLA_U32, 0);

    /// Bytes, at most `max`.
    pub(crate) const fn binary(max: u16) -> Self {
        Self::new(bindings::NLA_BINARY, max)
    }

    /// A nest of attributes.
    pub(crate) const fn nest(table: &'static PolicyTable) -> Self {
        let mut policy = Self::new(bindings::NLA_NESTED, HIGHEST);
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

/// An attribute of a request.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a>(pub(super) &'a bindings::nlattr);

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

/// The attributes of a request or of a nest.
pub(crate) struct Attributes<'a> {
    table: Table<Option<Attribute<'a>>>,
    pub(super) nest: Option<Attribute<'a>>,
}

impl<'a> Attributes<'a> {
    /// The attributes at the top of a request, by number, as the core has parsed them.
    ///
    /// # Safety
    ///
    /// `attrs` is null, or points to a pointer for each attribute up to [`HIGHEST`], null for those
    /// that are not there; these and what they point to are valid for `'a`.
    pub(super) unsafe fn from_raw(attrs: *const *const bindings::nlattr) -> Self {
        let table = NonNull::new(attrs.cast_mut().cast());
        Self {
            // SAFETY: By the safety requirements; an `Option<Attribute>` is a pointer or null.
            table: table.map_or([None; HIGHEST as usize + 1], |table| unsafe {
                table.read()
            }),
            nest: None,
        }
    }

    /// The attributes of `nest`, by number. The core has held the request against a policy, nests
    /// included: what is in it is as the policy says.
    pub(super) fn parse(nest: Attribute<'a>) -> Result<Self> {
        let mut table: Table<Option<Attribute<'a>>> = [None; HIGHEST as usize + 1];
        let payload = nest.payload();
        let len = c_int::try_from(payload.len())?;
        // SAFETY: `table` has an entry for each attribute up to the highest one, an
        // `Option<Attribute>` is a pointer or null, and `payload` is readable.
        to_result(unsafe {
            bindings::__nla_parse(
                table.as_mut_ptr().cast(),
                c_int::from(HIGHEST),
                payload.as_ptr().cast(),
                len,
                null(),
                bindings::netlink_validation_NL_VALIDATE_LIBERAL,
                null_mut(),
            )
        })?;
        Ok(Self {
            table,
            nest: Some(nest),
        })
    }

    pub(crate) fn get(&self, number: u16) -> Option<Attribute<'a>> {
        *self.table.get(usize::from(number))?
    }

    pub(crate) fn flag(&self, number: u16) -> bool {
        self.get(number).is_some()
    }
}

#[kunit_tests(smapp_pm_attribute)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Raw {
        header: bindings::nlattr,
        bytes: [u8; 8],
    }

    /// The first `len` bytes of 1, 2, 3 .. behind a header.
    fn raw(len: u16) -> Raw {
        let mut header: bindings::nlattr = pin_init::zeroed();
        header.nla_len = size_of::<bindings::nlattr>() as u16 + len;
        Raw {
            header,
            bytes: [1, 2, 3, 4, 5, 6, 7, 8],
        }
    }

    #[test]
    fn a_number_has_its_size() {
        for len in 0..8 {
            let raw = raw(len);
            let attribute = Attribute(&raw.header);
            assert_eq!(attribute.u32().is_some(), len == 4);
            assert_eq!(attribute.be16(), (len == 2).then_some(0x0102));
            assert_eq!(attribute.u8(), (len > 0).then_some(1));
            assert_eq!(attribute.payload().len(), usize::from(len));
        }
    }

    #[test]
    fn an_attribute_shorter_than_its_header_is_empty() {
        let mut raw = raw(0);
        raw.header.nla_len = 1;
        assert!(Attribute(&raw.header).payload().is_empty());
    }
}
