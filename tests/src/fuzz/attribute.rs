// SPDX-License-Identifier: GPL-2.0
//! What the grammar of the family is made of.

/// What the value of an attribute is.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the types of the specification
pub enum Kind {
    Flag,
    U8,
    U32,
    U64,
    Port,
    Address,
    Binary,
    String,
    Nest(&'static [Attribute]),
}

/// An attribute of the family.
#[derive(Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: u16,
    /// Its type.
    pub kind: Kind,
}

impl Attribute {
    pub(super) const fn new(name: &'static str, number: u16, kind: Kind) -> Self {
        Attribute { name, number, kind }
    }
}

/// A command of the family.
#[derive(Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: u8,
    /// Names of the attributes that its request may have.
    pub request: &'static [&'static str],
}

impl Command {
    pub(super) const fn new(
        name: &'static str,
        number: u8,
        request: &'static [&'static str],
    ) -> Self {
        Command {
            name,
            number,
            request,
        }
    }
}
