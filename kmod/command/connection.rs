// SPDX-License-Identifier: GPL-2.0

//! Showing connections.

use super::{find, NO_SUCH};
use crate::{
    path_manager::PATH_MANAGER,
    policy, size,
    stats::CHANGES,
    sys::{
        attribute::PolicyTable,
        family::{Command, Dump},
        held::{Held, MptcpInfo},
        message::Body,
        request::{Cursor, Page, Request},
        subflow::{SubflowInfo, TcpInfo},
    },
    uapi::{cmd, connection, subflow},
    wire::{put_connection, put_owner, put_subflow, put_timer},
};
use kernel::{error::code, prelude::*, sync::atomic::Relaxed};

/// What [`put_details`] writes.
const DETAILS_SIZE: usize =
    size::NEST + size::SUBFLOW_IDENTITY + size::SUBFLOW_TIMER + size::SUBFLOW_TCP + TcpInfo::SIZE;

/// Everything about a subflow, in a nest.
fn put_details(body: &mut Body<'_>, info: &SubflowInfo, tcp: &TcpInfo) -> Result {
    body.nest(connection::SUBFLOW, |body| {
        put_subflow(body, info)?;
        put_timer(body, info)?;
        body.u32(subflow::SND_UNA, info.snd_una())?;
        body.bytes(subflow::TCP_INFO, tcp.as_bytes())
    })
}

/// What [`put_head`] writes.
const HEAD_SIZE: usize =
    size::CONNECTION_IDENTITY + size::CONNECTION_OWNER + size::CONNECTION_STATE + MptcpInfo::SIZE;

/// Everything about a connection but its subflows. Fails if it has given its token back since it
/// was found.
fn put_head(body: &mut Body<'_>, held: &Held) -> Result {
    let info = held.info();
    if info.token() == 0 {
        return Err(code::ESRCH);
    }
    put_connection(body, &info)?;
    put_owner(body, &info)?;
    body.flag(connection::FALLBACK, info.fallback())?;
    body.u8(connection::EXTRA_SUBFLOWS, info.extra_subflows())?;
    body.bytes(connection::INFO, held.mptcp_info().as_bytes())
}

/// `conn-get`: a connection with its subflows.
pub(crate) struct ConnGet;

impl Command for ConnGet {
    const CMD: u8 = cmd::CONN_GET;
    const POLICY: &'static PolicyTable = &policy::CONNECTION_REQUEST;

    fn run(request: &Request<'_>) -> Result {
        let (_, held) = find(request, &request.attributes())?;
        // Beside the extra ones: the initial one, and one that joins meanwhile.
        let mut spare = 2;
        loop {
            let subflows = usize::from(held.info().extra_subflows()).saturating_add(spare);
            let size = subflows
                .saturating_mul(DETAILS_SIZE)
                .saturating_add(HEAD_SIZE);
            let replied = request.reply(size, |body| {
                put_head(body, &held)?;
                held.for_each_subflow(|info, tcp| put_details(body, info, tcp))
            });
            match replied {
                Err(code::EMSGSIZE) if spare <= usize::from(u8::MAX) => {}
                // Closed since it was found.
                Err(code::ESRCH) => return Err(request.refuse(code::ESRCH, None, NO_SUCH)),
                replied => return replied,
            }
            // More have joined meanwhile: again, with more room.
            spare = spare.saturating_mul(4);
        }
    }
}

impl Dump for ConnGet {
    const CMD: u8 = cmd::CONN_GET;

    fn generation() -> u32 {
        CHANGES.load(Relaxed) as u32
    }

    /// A connection whose subflows do not fit goes on in the next page, as a message of its own
    /// with the subflows of higher ids.
    fn fill(page: &mut Page<'_>, cursor: &mut Cursor) -> Result {
        let mut empty = true;
        loop {
            let before = *cursor;
            let Some(held) = Held::next(page.net(), cursor, &PATH_MANAGER) else {
                return Ok(());
            };
            let [_, token, split, from, ..] = *cursor;
            // The one that was split may be gone: then this one begins with its first subflow.
            let first = if split == token { from } else { 0 };
            let mut next = first;
            let mut cut = false;
            let filled = page.message(|body| {
                put_head(body, &held)?;
                let result = held.for_each_subflow(|info, tcp| {
                    let id = info.id() as c_long;
                    if id >= first {
                        put_details(body, info, tcp)?;
                        next = id.saturating_add(1);
                    }
                    Ok(())
                });
                cut = result.is_err() && next > first;
                if cut {
                    Ok(())
                } else {
                    result
                }
            });
            match filled {
                Ok(()) if !cut => empty = false,
                Ok(()) => {
                    let [slot, last, ..] = before;
                    *cursor = [slot, last, token, next, 0, 0];
                    return Ok(());
                }
                // Closed since it was found.
                Err(code::ESRCH) => {}
                Err(error) => {
                    *cursor = before;
                    return if empty { Err(error) } else { Ok(()) };
                }
            }
        }
    }
}
