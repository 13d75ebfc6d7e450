// SPDX-License-Identifier: GPL-2.0
//! Multipath TCP path manager decisions in user space.
//!
//! The module `smapp_pm` tells what happens to connections and subflows; a
//! [`Controller`] decides which subflows exist. From the bottom up:
//!
//! - [`netlink`], [`message`], [`command`], [`Event`]: bytes from and to typed values;
//! - [`Backend`]: a kernel, either the running one ([`Client`]) or a simulated
//!   one with a virtual clock ([`sim::Sim`]);
//! - [`Engine`]: a table of the live connections, timers, and the dispatch of
//!   events to the controller; after a loss of events it lists the connections
//!   and tells the controller what it has missed;
//! - [`controller`] has the policies.
//!
//! With the feature `tokio` there is `AsyncEvents`, for programs that await.
//!
//! ```no_run
//! use smapp::controller::fullmesh::{Fullmesh, Options};
//! use smapp::{Client, Engine};
//!
//! let client = Client::connect()?;
//! Engine::new(client, Fullmesh::new(Options::default(), 1)).run()?;
//! # Ok::<(), smapp::Error>(())
//! ```
#![forbid(unsafe_code)]

mod address;
mod allowance;
#[cfg(feature = "tokio")]
mod async_events;
mod backend;
pub mod cgroup;
mod client;
pub mod command;
pub mod config;
pub mod controller;
mod destination;
mod engine;
mod error;
mod event;
mod family;
mod info;
mod interface;
mod journal;
pub mod message;
pub mod netlink;
mod policy;
pub mod rule;
pub mod sim;
mod socket;
mod span;
mod stats;
mod table;
mod timer;
pub mod uapi;

pub use address::{AddressChange, Listing, LocalAddress};
#[cfg(feature = "tokio")]
pub use async_events::AsyncEvents;
pub use backend::{Backend, Input};
pub use client::Client;
pub use controller::{Context, Controller};
pub use engine::Engine;
pub use error::{Errno, Error};
pub use event::{AddressId, Event, EventKind, EventSet, IfIndex, SubflowId, Token};
pub use family::{Family, Missing, sysctl};
pub use info::{MptcpInfo, TcpInfo};
pub use interface::{InterfaceName, Pattern};
pub use journal::Decision;
pub use policy::Policy;
pub use span::Span;
pub use stats::{OperationStats, Stats};

/// The controller on that page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/controllers.md")]
struct ControllersPage;
