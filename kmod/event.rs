// SPDX-License-Identifier: GPL-2.0

//! Hooks become events: one message each, to those who registered for it.

use crate::{
    module_parameters,
    stats::{self, ATTACHED, RELEASED},
    sys::{
        connection::{Connection, ConnectionInfo, Endpoint, Join, Subflow, SubflowInfo},
        local_address::{LocalAddress, Watcher},
        message::{Body, Context},
        net::Net,
        path_manager::PathManager,
    },
    uapi::{address, cmd, connection, group, subflow},
    FAMILY,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Counts what makes two listings of the connections differ.
pub(crate) static CHANGES: Atomic<i64> = Atomic::new(0);

/// The path manager: it decides next to nothing, and tells the rest.
pub(crate) struct Smapp;

impl PathManager for Smapp {
    const NAME: &'static str = "smapp";

    fn attached() {
        ATTACHED.fetch_add(1, Relaxed);
    }

    fn released() {
        RELEASED.fetch_add(1, Relaxed);
        CHANGES.fetch_add(1, Relaxed);
    }

    fn created(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        CREATED.send_start(connection, subflow);
    }

    fn established(connection: &Connection, subflow: &Subflow) {
        ESTAB.send_start(connection, subflow);
    }

    fn closed(connection: &Connection) {
        CHANGES.fetch_add(1, Relaxed);
        CLOSED.send(connection, 0, |_, _| Ok(()));
    }

    fn subflow_established(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        SUB_ESTAB.send_subflow(connection, subflow, put_subflow);
    }

    fn subflow_closed(connection: &Connection, subflow: &Subflow) {
        CHANGES.fetch_add(1, Relaxed);
        SUB_CLOSED.send_subflow(connection, subflow, put_fate);
    }

    fn subflow_timeout(connection: &Connection, subflow: &Subflow) {
        TIMEOUT.send_subflow(connection, subflow, put_timeout);
    }

    fn subflow_priority(connection: &Connection, subflow: &Subflow) {
        SUB_PRIORITY.send_subflow(connection, subflow, put_subflow);
    }

    fn address_announced(connection: &Connection, address: Endpoint<'_>) -> bool {
        if !FAMILY.has_listeners(group::ADD_ADDR) {
            return module_parameters::echo_add_addr.value();
        }
        ADD_ADDR.send(connection, ADDRESS_SIZE, |body, _| {
            put_address(body, &address)
        })
    }

    fn addresses_withdrawn(connection: &Connection, ids: &[u8]) {
        REM_ADDR.send(connection, IDS_SIZE, |body, _| {
            body.bytes(connection::REMOTE_IDS, ids)
        });
    }

    fn accepts_subflow(connection: &Connection) -> bool {
        connection.info().extra_subflows() < module_parameters::peer_subflows.value()
    }

    fn accepts_join(join: &Join<'_>) -> bool {
        join.siblings() < u32::from(module_parameters::peer_address_subflows.value())
    }
}

impl Watcher for Smapp {
    fn usable(address: &LocalAddress<'_>) {
        NEW_LOCAL_ADDR.send_local(address);
    }

    fn gone(address: &LocalAddress<'_>) {
        DEL_LOCAL_ADDR.send_local(address);
    }
}

/// A kind of event: its group, the number that its messages carry, the context of its hook.
struct Kind(usize, u8, Context);

const CREATED: Kind = Kind(group::CREATED, cmd::CREATED, Context::ATOMIC);
const ESTAB: Kind = Kind(group::ESTAB, cmd::ESTAB, Context::ATOMIC);
const CLOSED: Kind = Kind(group::CLOSED, cmd::CLOSED, Context::PROCESS);
const SUB_ESTAB: Kind = Kind(group::SUB_ESTAB, cmd::SUB_ESTAB, Context::ATOMIC);
const SUB_CLOSED: Kind = Kind(group::SUB_CLOSED, cmd::SUB_CLOSED, Context::PROCESS);
const SUB_PRIORITY: Kind = Kind(group::SUB_PRIORITY, cmd::SUB_PRIORITY, Context::ATOMIC);
const TIMEOUT: Kind = Kind(group::TIMEOUT, cmd::TIMEOUT, Context::ATOMIC);
const ADD_ADDR: Kind = Kind(group::ADD_ADDR, cmd::ADD_ADDR, Context::ATOMIC);
const REM_ADDR: Kind = Kind(group::REM_ADDR, cmd::REM_ADDR, Context::ATOMIC);
const NEW_LOCAL_ADDR: Kind = Kind(group::NEW_LOCAL_ADDR, cmd::NEW_LOCAL_ADDR, Context::ATOMIC);
const DEL_LOCAL_ADDR: Kind = Kind(group::DEL_LOCAL_ADDR, cmd::DEL_LOCAL_ADDR, Context::ATOMIC);

impl Kind {
    /// Sends an event of at most `size` bytes, beside those of the connection, to those who
    /// listen. False if somebody did and it was lost.
    fn send(
        &self,
        connection: &Connection,
        size: usize,
        fill: impl FnOnce(&mut Body<'_>, &ConnectionInfo<'_>) -> Result,
    ) -> bool {
        if !FAMILY.has_listeners(self.0) {
            return true;
        }
        let info = connection.info();
        let size = CONNECTION_SIZE.saturating_add(size);
        self.multicast(info.net(), size, |body| {
            put_connection(body, &info)?;
            fill(body, &info)
        })
    }

    /// Sends an event about a local address to those who listen.
    fn send_local(&self, address: &LocalAddress<'_>) {
        if FAMILY.has_listeners(self.0) {
            self.multicast(address.net(), LOCAL_ADDRESS_SIZE, |body| {
                put_local_address(body, address)
            });
        }
    }

    fn multicast(
        &self,
        net: &Net,
        size: usize,
        fill: impl FnOnce(&mut Body<'_>) -> Result,
    ) -> bool {
        let &Self(group, cmd, context) = self;
        let sent = FAMILY.multicast(net, (group, cmd), (size, context), fill);
        stats::count(cmd, sent);
        sent
    }

    /// Sends an event about a connection that begins, with its initial subflow.
    fn send_start(&self, connection: &Connection, subflow: &Subflow) {
        self.send(connection, SOCKET_SIZE + SUBFLOW_SIZE, |body, info| {
            put_socket(body, info)?;
            body.nest(connection::SUBFLOW, |body| {
                put_subflow(body, &subflow.info())
            })
        });
    }

    /// Sends an event about a subflow, which `put` describes.
    fn send_subflow(
        &self,
        connection: &Connection,
        subflow: &Subflow,
        put: fn(&mut Body<'_>, &SubflowInfo) -> Result,
    ) {
        self.send(connection, SUBFLOW_SIZE + FATE_SIZE, |body, _| {
            body.nest(connection::SUBFLOW, |body| put(body, &subflow.info()))
        });
    }
}

// What the functions below write at most, a nest with its header.
pub(crate) const CONNECTION_SIZE: usize = 8 + 2 * 4;
pub(crate) const SOCKET_SIZE: usize = 3 * 8 + 2 * 12;
pub(crate) const SUBFLOW_SIZE: usize = 4 + 8 + 2 * (20 + 8 + 8) + 8 + 4 * 4 + 8;
pub(crate) const TIMER_SIZE: usize = 5 * 8;
const FATE_SIZE: usize = 3 * 8 + 2 * 4 + 2 * 12;
pub(crate) const ADDRESS_SIZE: usize = 4 + 8 + 20 + 8;
const LOCAL_ADDRESS_SIZE: usize = 4 + 20 + 8 + 20 + 8;
/// `MPTCP_RM_IDS_MAX` bytes.
const IDS_SIZE: usize = 4 + 8;

/// Which connection it is.
pub(crate) fn put_connection(body: &mut Body<'_>, info: &ConnectionInfo<'_>) -> Result {
    body.u32(connection::TOKEN, info.token())?;
    body.flag(connection::SERVER_SIDE, info.server_side())?;
    body.flag(connection::DENY_JOIN_ID0, info.deny_join_id0())
}

/// Whose it is: what rules of a controller can ask for.
pub(crate) fn put_socket(body: &mut Body<'_>, info: &ConnectionInfo<'_>) -> Result {
    body.u32(connection::UID, info.uid())?;
    if info.mark() != 0 {
        body.u32(connection::MARK, info.mark())?;
    }
    if info.ifindex() != 0 {
        body.u32(connection::IFINDEX, info.ifindex())?;
    }
    body.u64(connection::COOKIE, info.cookie())?;
    match info.cgroup() {
        0 => Ok(()),
        cgroup => body.u64(connection::CGROUP, cgroup),
    }
}

/// Which subflow it is; goes into a nest.
pub(crate) fn put_subflow(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    body.u32(subflow::ID, info.id())?;
    let local = info.local();
    body.bytes(subflow::LOCAL_ADDRESS, local.address())?;
    body.be16(subflow::LOCAL_PORT, local.port())?;
    body.u8(subflow::LOCAL_ID, local.id())?;
    let remote = info.remote();
    body.bytes(subflow::REMOTE_ADDRESS, remote.address())?;
    body.be16(subflow::REMOTE_PORT, remote.port())?;
    body.u8(subflow::REMOTE_ID, remote.id())?;
    if info.ifindex() != 0 {
        body.u32(subflow::IFINDEX, info.ifindex())?;
    }
    body.flag(subflow::BACKUP, info.requests_backup())?;
    body.flag(subflow::BACKUP_PEER, info.peer_requests_backup())?;
    body.flag(subflow::INITIAL, info.initial())?;
    body.flag(subflow::ACTIVE, info.active())?;
    body.u8(subflow::STATE, info.state())
}

/// An address, in a nest.
pub(crate) fn put_address(body: &mut Body<'_>, address: &Endpoint<'_>) -> Result {
    body.nest(connection::ADDRESS, |body| {
        body.u8(address::ID, address.id())?;
        body.bytes(address::ADDRESS, address.address())?;
        match address.port() {
            0 => Ok(()),
            port => body.be16(address::PORT, port),
        }
    })
}

/// An address of this host, in a nest.
fn put_local_address(body: &mut Body<'_>, local: &LocalAddress<'_>) -> Result {
    body.nest(connection::ADDRESS, |body| {
        body.bytes(address::ADDRESS, local.address())?;
        body.u32(address::IFINDEX, local.ifindex())?;
        body.string(address::INTERFACE, local.interface())?;
        body.u8(address::SCOPE, local.scope())
    })
}

/// Why a subflow closed, and what it was.
fn put_fate(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    put_subflow(body, info)?;
    body.u32(subflow::ERRNO, info.errno())?;
    body.u32(subflow::ERRNO_SOFT, info.errno_soft())?;
    if let Some((reason, transient)) = info.reset() {
        body.u8(subflow::RESET_REASON, reason)?;
        body.flag(subflow::RESET_TRANSIENT, transient)?;
    }
    body.flag(subflow::ESTABLISHED, info.established())?;
    body.u64(subflow::BYTES_ACKED, info.bytes_acked())?;
    body.u64(subflow::BYTES_RECEIVED, info.bytes_received())
}

/// Whose timer has expired, and how it stands.
fn put_timeout(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    put_subflow(body, info)?;
    put_timer(body, info)
}

/// How the retransmission timer of a subflow stands.
pub(crate) fn put_timer(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    body.u32(subflow::RTO, info.rto())?;
    body.u8(subflow::BACKOFF, info.backoff())?;
    body.u8(subflow::RETRANSMITS, info.retransmits())?;
    body.u32(subflow::ERRNO_SOFT, info.errno_soft())?;
    body.u32(subflow::UNACKED, info.unacked())
}

/// A message is allocated before it is filled: too small loses an event, too large wastes memory.
#[kunit_tests(smapp_pm_size)]
mod tests {
    use super::*;
    use crate::sys::{connection::Address, message::written};

    #[test]
    fn an_address_is_as_long_as_said() -> Result {
        let address = Address::new(&[1; 16], 1, 1)?;
        let length = written(ADDRESS_SIZE, |body| put_address(body, &address.endpoint()));
        assert_eq!(length, Ok(ADDRESS_SIZE));
        Ok(())
    }

    #[test]
    fn a_subflow_is_as_long_as_said() -> Result {
        let info = SubflowInfo::full()?;
        let length = |size, put: fn(&mut Body<'_>, &SubflowInfo) -> Result| {
            written(size, |body| {
                body.nest(connection::SUBFLOW, |body| put(body, &info))
            })
        };
        assert_eq!(length(SUBFLOW_SIZE, put_subflow), Ok(SUBFLOW_SIZE));
        let size = SUBFLOW_SIZE + FATE_SIZE;
        assert_eq!(length(size, put_fate), Ok(size));
        let size = SUBFLOW_SIZE + TIMER_SIZE;
        assert_eq!(length(size, put_timeout), Ok(size));
        // Events about a subflow are allocated with room for its fate.
        assert!(TIMER_SIZE <= FATE_SIZE);
        Ok(())
    }

    #[test]
    fn withdrawn_ids_are_as_long_as_said() {
        let ids = [0; kernel::bindings::MPTCP_RM_IDS_MAX as usize];
        let length = written(IDS_SIZE, |body| body.bytes(connection::REMOTE_IDS, &ids));
        assert_eq!(length, Ok(IDS_SIZE));
    }
}
