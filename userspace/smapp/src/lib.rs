// SPDX-License-Identifier: GPL-2.0
//! Multipath TCP path manager decisions in user space.
//!
//! A kernel tells what happens to connections and subflows; a [`Policy`] decides which
//! subflows exist. From the bottom up:
//!
//! - the model: connections, subflows, addresses, [`Event`]s, [`Command`]s, as plain values;
//! - [`Kernel`]: what tells and is told, the running kernel ([`Client`]) or a simulated
//!   one with a virtual clock ([`sim::Sim`]);
//! - [`Engine`]: a table of the live connections, timers, and a policy that is told what
//!   happens; after a loss of events it lists the connections and tells the policy what it
//!   has missed;
//! - [`policy`] has the policies, [`rules`] give each connection its own.
//!
//! With the feature `tokio` there is `AsyncEvents`, for programs that await.
//!
//! ```no_run
//! use smapp::policy::fullmesh::{Fullmesh, Options};
//! use smapp::{Client, Engine};
//!
//! let client = Client::connect()?;
//! Engine::new(client, Fullmesh::new(Options::default(), 1)).run()?;
//! # Ok::<(), smapp::Error>(())
//! ```
#![forbid(unsafe_code)]

mod engine;
mod kernel;
mod model;
mod netlink;
pub mod policy;
mod random;
pub mod rules;
pub mod sim;

pub use engine::{Context, Decision, Engine, Notice, Policy};
#[cfg(feature = "tokio")]
pub use kernel::AsyncEvents;
pub use kernel::{Capabilities, Client, Error, Input, Kernel, KernelKind, Lack, SubflowIds};
pub use model::{
    Address, AddressChange, AddressId, AddressIds, Answer, Command, Connection, Errno, Event,
    EventKind, EventSet, IfIndex, InterfaceName, LocalAddress, MptcpInfo, OperationStatistics,
    Owner, Pattern, Prefix, RouteQuery, Start, Statistics, Subflow, SubflowCreate, SubflowDestroy,
    SubflowId, TcpInfo, TcpState, Token, What, WhichSubflow,
};
pub use netlink::Malformed;

/// The interface of the module `smapp_pm`.
pub mod module {
    pub use crate::kernel::module::{Missing, sysctl};
}

/// The byte layer, for the tests, fuzz targets and measurements of this repository: no
/// part of the API.
#[cfg(feature = "wire")]
#[doc(hidden)]
pub mod wire {
    pub use crate::kernel::module::decode::{
        decode_address, decode_connection, decode_event, decode_statistics, operation_word,
    };
    pub use crate::kernel::module::encode::{Query, encode_command};
    pub use crate::kernel::module::{Family, uapi};
    pub use crate::kernel::route::Listing;
    pub use crate::kernel::tcp_info::{decode_mptcp_info, decode_tcp_info};
    pub use crate::netlink::{
        ACK, Attributes, DONE, DUMP, ERROR, Error, Message, Messages, Received, Request, Socket,
    };
}

/// The policy on that page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/policies.md")]
struct PoliciesPage;
