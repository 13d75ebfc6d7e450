// SPDX-License-Identifier: GPL-2.0
//! What smapp talks about: connections, subflows, addresses, what happens to them and
//! what can be done to them. Plain values; no kernel interface is named here.

mod address;
mod address_change;
mod command;
mod connection;
mod destination;
mod errno;
mod event;
mod id;
mod info;
mod interface;
mod prefix;
mod route_query;
mod statistics;
mod subflow;

pub use address::{Address, LocalAddress};
pub use address_change::AddressChange;
pub use command::{Answer, Command, SubflowCreate, SubflowDestroy, WhichSubflow};
pub use connection::{Connection, Owner};
pub use errno::Errno;
pub use event::{Event, EventKind, EventSet, Start, What};
pub use id::{AddressId, AddressIds, IfIndex, SubflowId, Token};
pub use info::{MptcpInfo, TcpInfo};
pub use interface::{InterfaceName, Pattern};
pub use prefix::Prefix;
pub use route_query::RouteQuery;
pub use statistics::{OperationStatistics, Statistics};
pub use subflow::{Subflow, TcpState};

pub(crate) use address_change::changes;
pub(crate) use destination::{is_host, is_private};
