// SPDX-License-Identifier: GPL-2.0
//! The commands of the family `mptcp_pm`, as bytes for the kernel.
//!
//! C header: `linux/mptcp_pm.h`

use std::net::{IpAddr, SocketAddr};

use super::ends::{AF_INET, AF_INET6, Ends};
use crate::model::{AddressId, IfIndex, Token};
use crate::netlink::{self, Attributes, Malformed, Request};

const VERSION: u8 = 1;

const GET_ADDR: u8 = 3;
const SET_FLAGS: u8 = 7;
const ANNOUNCE: u8 = 8;
const REMOVE: u8 = 9;
const SUBFLOW_CREATE: u8 = 10;
const SUBFLOW_DESTROY: u8 = 11;

const ATTR_ADDR: u16 = 1;
const ATTR_TOKEN: u16 = 4;
const ATTR_LOC_ID: u16 = 5;
const ATTR_ADDR_REMOTE: u16 = 6;

const ADDR_FAMILY: u16 = 1;
const ADDR_ID: u16 = 2;
const ADDR_ADDR4: u16 = 3;
const ADDR_ADDR6: u16 = 4;
const ADDR_PORT: u16 = 5;
const ADDR_FLAGS: u16 = 6;
const ADDR_IF_IDX: u16 = 7;

const FLAG_SIGNAL: u32 = 0x1;
const FLAG_BACKUP: u32 = 0x4;

/// A command about the connection with this token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Create(Create),
    Destroy(Ends),
    SetBackup(Ends, bool),
    Announce(Local),
    Remove(AddressId),
    /// The list of local addresses.
    Addresses,
}

/// A local address: the kernel keeps a list of these for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    pub address: IpAddr,
    /// 0 for whatever port: one entry serves any number of subflows.
    pub port: u16,
    pub id: AddressId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub local: Local,
    pub remote: SocketAddr,
    pub remote_id: Option<AddressId>,
    pub ifindex: Option<IfIndex>,
    pub backup: bool,
}

impl Command {
    /// Its name for people: that of the protocol of smapp_pm, where there is one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "subflow-create",
            Self::Destroy(_) => "subflow-destroy",
            Self::SetBackup(..) => "subflow-set",
            Self::Announce(_) => "announce",
            Self::Remove(_) => "withdraw",
            Self::Addresses => "list of address ids",
        }
    }

    /// Writes the request into `buffer`, numbered `seq`.
    pub fn encode<'a>(
        &self,
        buffer: &'a mut Vec<u8>,
        family: u16,
        seq: u32,
        Token(token): Token,
    ) -> &'a [u8] {
        let (command, flags) = match self {
            Self::Create(_) => (SUBFLOW_CREATE, netlink::ACK),
            Self::Destroy(_) => (SUBFLOW_DESTROY, netlink::ACK),
            Self::SetBackup(..) => (SET_FLAGS, netlink::ACK),
            Self::Announce(_) => (ANNOUNCE, netlink::ACK),
            Self::Remove(_) => (REMOVE, netlink::ACK),
            Self::Addresses => (GET_ADDR, netlink::DUMP),
        };
        let r = Request::generic(buffer, family, flags, seq, command, VERSION);
        let r = r.u32(ATTR_TOKEN, token);
        let r = match self {
            Self::Addresses => r,
            Self::Remove(id) => r.attribute(ATTR_LOC_ID, &[id.0]),
            Self::Announce(local) => {
                r.nest(ATTR_ADDR, |r| local.encode(r).u32(ADDR_FLAGS, FLAG_SIGNAL))
            }
            Self::Create(create) => create.encode(r),
            Self::Destroy(ends) => encode_ends(r, ends, |r| r),
            Self::SetBackup(ends, backup) => encode_ends(r, ends, |r| {
                r.u32(ADDR_FLAGS, if *backup { FLAG_BACKUP } else { 0 })
            }),
        };
        r.finish()
    }
}

impl Create {
    fn encode<'a>(&self, r: Request<'a>) -> Request<'a> {
        let r = r.nest(ATTR_ADDR, |r| {
            let r = self.local.encode(r);
            let r = match self.backup {
                true => r.u32(ADDR_FLAGS, FLAG_BACKUP),
                false => r,
            };
            match self.ifindex {
                Some(index) => r.u32(ADDR_IF_IDX, index.0),
                None => r,
            }
        });
        r.nest(ATTR_ADDR_REMOTE, |r| {
            let r = encode_address(r, self.remote.ip(), self.remote.port());
            match self.remote_id {
                Some(id) => r.attribute(ADDR_ID, &[id.0]),
                None => r,
            }
        })
    }
}

impl Local {
    fn encode<'a>(&self, r: Request<'a>) -> Request<'a> {
        encode_address(r, self.address, self.port).attribute(ADDR_ID, &[self.id.0])
    }

    /// Reads an answer to [`Command::Addresses`].
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Malformed> {
        let (mut address, mut port, mut id) = (None, 0, AddressId(0));
        for attribute in attributes {
            let attribute = attribute?;
            if attribute.kind != ATTR_ADDR {
                continue;
            }
            for part in attribute.nest() {
                let part = part?;
                match part.kind {
                    ADDR_ADDR4 | ADDR_ADDR6 => address = Some(part.address()?),
                    ADDR_PORT => port = part.u16()?,
                    ADDR_ID => id = AddressId(part.u8()?),
                    _ => {}
                }
            }
        }
        Ok(Self {
            address: address.ok_or(Malformed::Absent("address"))?,
            port,
            id,
        })
    }
}

/// The ends as the socket has them; `with` adds to the local one.
fn encode_ends<'a>(
    r: Request<'a>,
    ends: &Ends,
    with: impl FnOnce(Request<'a>) -> Request<'a>,
) -> Request<'a> {
    let [local, remote] = ends.on_the_socket();
    let r = r.nest(ATTR_ADDR, |r| {
        with(encode_address(r, local, ends.local.port()))
    });
    r.nest(ATTR_ADDR_REMOTE, |r| {
        encode_address(r, remote, ends.remote.port())
    })
}

/// An address; a port of 0 is left out. Ports are in host byte order here.
fn encode_address(r: Request<'_>, address: IpAddr, port: u16) -> Request<'_> {
    let (family, kind) = match address {
        IpAddr::V4(_) => (AF_INET, ADDR_ADDR4),
        IpAddr::V6(_) => (AF_INET6, ADDR_ADDR6),
    };
    let r = r.attribute(ADDR_FAMILY, &family.to_ne_bytes());
    let r = r.address(kind, address);
    match port {
        0 => r,
        port => r.attribute(ADDR_PORT, &port.to_ne_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::captured::{self, bytes};
    use super::*;
    use crate::netlink::Messages;

    fn attributes(command: Command) -> Vec<u8> {
        let mut buffer = Vec::new();
        let request = command.encode(&mut buffer, 28, 1, Token(0x20f2_f24a));
        let message = Messages::new(request).next().unwrap().unwrap();
        message.payload.to_vec()
    }

    fn ends(mapped: bool) -> Ends {
        Ends {
            local: "10.71.2.1:9".parse().unwrap(),
            remote: "10.71.2.2:9".parse().unwrap(),
            mapped,
        }
    }

    /// As the kernel sent it back, beside its error message.
    #[test]
    fn destroy_is_what_the_kernel_understood() {
        let expected = "0b010000080004004af2f2201c0001800600010002000000080003000a470201\
             06000500090000001c0006800600010002000000080003000a4702020600050009000000";
        assert_eq!(attributes(Command::Destroy(ends(false))), bytes(expected));
    }

    #[test]
    fn a_mapped_subflow_is_named_as_it_is() {
        let [plain, mapped] = [false, true].map(|m| attributes(Command::Destroy(ends(m))));
        assert_eq!(mapped.len(), plain.len() + 2 * 12);
    }

    #[test]
    fn announce_is_what_the_kernel_understood() {
        let expected = "08010000080004004af2f2202400018006000100020000000800\
             03000a47020105000200040000000800060001000000";
        let local = Local {
            address: "10.71.2.1".parse().unwrap(),
            port: 0,
            id: AddressId(4),
        };
        assert_eq!(attributes(Command::Announce(local)), bytes(expected));
    }

    #[test]
    fn the_list_of_addresses() {
        let bytes = bytes(captured::LOCAL);
        let local = Local::decode(Attributes::new(&bytes[4..])).unwrap();
        assert_eq!(
            (local.address.to_string(), local.port),
            ("10.71.2.1".into(), 0)
        );
        assert_eq!(local.id, AddressId(1));
    }
}
