// SPDX-License-Identifier: GPL-2.0
//! Netlink on the byte level: messages, attributes, requests, sockets.
//!
//! It knows no family: what attributes mean is written in the folder of each kernel
//! interface. Reading is total: whatever the bytes are, an iterator ends or yields an
//! error, it never panics and never reads out of bounds. Nothing allocates, except that a
//! request grows the buffer it is written into.
//!
//! C header: `linux/netlink.h`

mod attribute;
mod error;
mod message;
mod request;
mod socket;

pub use attribute::{Attribute, Attributes};
pub use error::{Error, Malformed};
pub use message::{ACK, DONE, DUMP, DUMP_INTERRUPTED, ERROR, MULTI, Message, Messages};
pub use request::Request;
pub use socket::{Received, Socket};
