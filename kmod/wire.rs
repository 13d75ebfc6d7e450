// SPDX-License-Identifier: GPL-2.0

//! What connections, subflows and addresses look like in a message.
//!
//! Each function writes one attribute set of the specification, and at most as many bytes as
//! [`size`](crate::size) says for it.

use crate::{
    sys::{
        address::Endpoint, connection::ConnectionInfo, local_address::LocalAddress, message::Body,
        subflow::SubflowInfo,
    },
    uapi::{address, connection, subflow},
};
use kernel::prelude::*;

/// Which connection it is.
pub(crate) fn put_connection(body: &mut Body<'_>, info: &ConnectionInfo<'_>) -> Result {
    body.u32(connection::TOKEN, info.token())?;
    body.flag(connection::SERVER_SIDE, info.server_side())?;
    body.flag(connection::DENY_JOIN_ID0, info.deny_join_id0())
}

/// Whose it is: what rules of a daemon can ask for.
pub(crate) fn put_owner(body: &mut Body<'_>, info: &ConnectionInfo<'_>) -> Result {
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
pub(crate) fn put_local_address(body: &mut Body<'_>, local: &LocalAddress<'_>) -> Result {
    body.nest(connection::ADDRESS, |body| {
        body.bytes(address::ADDRESS, local.address())?;
        body.u32(address::IFINDEX, local.ifindex())?;
        body.string(address::INTERFACE, local.interface())?;
        body.u8(address::SCOPE, local.scope())
    })
}

/// Why a subflow closed, and what it was.
pub(crate) fn put_fate(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
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
pub(crate) fn put_timeout(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    put_subflow(body, info)?;
    put_timer(body, info)
}

/// How the retransmission timer of a subflow stands.
pub(crate) fn put_timer(body: &mut Body<'_>, info: &SubflowInfo) -> Result {
    body.u32(subflow::RTO, info.rto())?;
    body.u8(subflow::BACKOFF, info.backoff())?;
    body.u8(subflow::RETRANSMITS, info.retransmits())?;
    body.u32(subflow::ERRNO_SOFT, info.errno_soft())?;
    body.u32(subflow::UNACKED, info.unacked())?;
    match info.probes() {
        0 => Ok(()),
        probes => body.u8(subflow::PROBES, probes),
    }
}

/// Too small a message loses an event, too large a one wastes memory.
#[kunit_tests(smapp_pm_size)]
mod tests {
    use super::*;
    use crate::{
        size,
        sys::{address::Address, message::written},
    };

    #[test]
    fn an_address_is_as_long_as_said() -> Result {
        let address = Address::new(&[1; 16], 1, 1)?;
        let size = size::NEST + size::ADDRESS_ANNOUNCED;
        let length = written(size, |body| put_address(body, &address.endpoint()));
        assert_eq!(length, Ok(size));
        Ok(())
    }

    #[test]
    fn a_subflow_is_as_long_as_said() -> Result {
        const IDENTITY: usize = size::SUBFLOW_IDENTITY;
        const FATE: usize = IDENTITY + size::SUBFLOW_FATE;
        const TIMEOUT: usize = IDENTITY + size::SUBFLOW_TIMER;

        let info = SubflowInfo::full()?;
        let length = |size, put: fn(&mut Body<'_>, &SubflowInfo) -> Result| {
            written(size, |body| put(body, &info))
        };
        assert_eq!(length(IDENTITY, put_subflow), Ok(IDENTITY));
        assert_eq!(length(FATE, put_fate), Ok(FATE));
        assert_eq!(length(TIMEOUT, put_timeout), Ok(TIMEOUT));
        Ok(())
    }

    #[test]
    fn withdrawn_ids_are_as_long_as_said() {
        const SIZE: usize = size::CONNECTION_WITHDRAWN;

        let ids = [0; kernel::bindings::MPTCP_RM_IDS_MAX as usize];
        let length = written(SIZE, |body| body.bytes(connection::REMOTE_IDS, &ids));
        assert_eq!(length, Ok(SIZE));
    }
}
