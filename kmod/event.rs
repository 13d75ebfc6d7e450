// SPDX-License-Identifier: GPL-2.0

//! Hooks become events: one message each, to those who registered for it.

use crate::{
    sys::{
        connection::{Connection, ConnectionInfo, Subflow, SubflowInfo},
        message::{Body, Context},
        path_manager::PathManager,
    },
    uapi::{cmd, connection, group, subflow},
    FAMILY,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Subflows beside the initial one that peers may open, as nobody else limits them.
const SUBFLOWS_MAX: u8 = 8;

static ATTACHED: Atomic<i64> = Atomic::new(0);
static RELEASED: Atomic<i64> = Atomic::new(0);

/// How many connections were attached and released since the module was loaded.
pub(crate) fn audit() -> (i64, i64) {
    (ATTACHED.load(Relaxed), RELEASED.load(Relaxed))
}

/// The path manager: it decides next to nothing, and tells the rest.
pub(crate) struct Smapp;

impl PathManager for Smapp {
    const NAME: &'static str = "smapp";

    fn attached() {
        ATTACHED.fetch_add(1, Relaxed);
    }

    fn released() {
        RELEASED.fetch_add(1, Relaxed);
    }

    fn created(connection: &Connection, subflow: &Subflow) {
        send(CREATED, connection, Some(subflow), Context::ATOMIC);
    }

    fn established(connection: &Connection, subflow: &Subflow) {
        send(ESTAB, connection, Some(subflow), Context::ATOMIC);
    }

    fn closed(connection: &Connection) {
        send(CLOSED, connection, None, Context::PROCESS);
    }

    fn subflow_established(connection: &Connection, subflow: &Subflow) {
        send(SUB_ESTAB, connection, Some(subflow), Context::ATOMIC);
    }

    fn subflow_closed(connection: &Connection, subflow: &Subflow) {
        send(SUB_CLOSED, connection, Some(subflow), Context::PROCESS);
    }

    fn subflow_timeout(connection: &Connection, subflow: &Subflow) {
        send(TIMEOUT, connection, Some(subflow), Context::ATOMIC);
    }

    fn accepts_subflow(connection: &Connection) -> bool {
        connection.info().extra_subflows() < SUBFLOWS_MAX
    }
}

/// A group and the command that its messages carry.
type Kind = (usize, u8);

const CREATED: Kind = (group::CREATED, cmd::CREATED);
const ESTAB: Kind = (group::ESTAB, cmd::ESTAB);
const CLOSED: Kind = (group::CLOSED, cmd::CLOSED);
const SUB_ESTAB: Kind = (group::SUB_ESTAB, cmd::SUB_ESTAB);
const SUB_CLOSED: Kind = (group::SUB_CLOSED, cmd::SUB_CLOSED);
const TIMEOUT: Kind = (group::TIMEOUT, cmd::TIMEOUT);

/// What the attributes of an event take, for IPv6: the skb is rounded up to more than that anyway.
const EVENT_SIZE: usize = CONNECTION_SIZE + SUBFLOW_SIZE + FATE_SIZE;

/// What [`put_connection`] writes.
pub(crate) const CONNECTION_SIZE: usize = 8 + 3 * 4 + 8;
/// What [`put_subflow`] writes, with the header of its nest.
pub(crate) const SUBFLOW_SIZE: usize = 4 + 8 + 2 * (20 + 8 + 8) + 8 + 4 * 4 + 8;
/// What [`put_fate`] or [`put_timer`] writes.
pub(crate) const FATE_SIZE: usize = 3 * 8;

fn send(kind: Kind, connection: &Connection, subflow: Option<&Subflow>, context: Context) {
    let info = connection.info();
    let (group, _) = kind;
    if !FAMILY.has_listeners(info.net(), group) {
        return;
    }
    FAMILY.multicast(info.net(), kind, (EVENT_SIZE, context), |body| {
        put_connection(body, &info)?;
        let Some(subflow) = subflow.map(Subflow::info) else {
            return Ok(());
        };
        body.nest(connection::SUBFLOW, |body| {
            put_subflow(body, &subflow)?;
            match kind {
                SUB_CLOSED => put_fate(body, &subflow),
                TIMEOUT => put_timer(body, &subflow),
                _ => Ok(()),
            }
        })
    });
}

/// Which connection it is.
pub(crate) fn put_connection(body: &mut Body<'_>, info: &ConnectionInfo<'_>) -> Result {
    body.u32(connection::TOKEN, info.token())?;
    body.flag(connection::SERVER_SIDE, info.server_side())?;
    body.flag(connection::DENY_JOIN_ID0, info.deny_join_id0())
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

/// Why a subflow closed.
fn put_fate(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    body.u32(subflow::ERRNO, info.errno())?;
    body.u32(subflow::ERRNO_SOFT, info.errno_soft())?;
    match info.reset_reason() {
        Some(reason) => body.u8(subflow::RESET_REASON, reason),
        None => Ok(()),
    }
}

/// How the retransmission timer of a subflow stands.
pub(crate) fn put_timer(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    body.u32(subflow::RTO, info.rto())?;
    body.u8(subflow::BACKOFF, info.backoff())?;
    body.u8(subflow::RETRANSMITS, info.retransmits())
}
