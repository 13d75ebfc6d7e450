// SPDX-License-Identifier: GPL-2.0
//! Addresses of this host that are gone, and peers that have to know.

use crate::engine::Context;
use crate::model::{Address, Subflow, Token};

/// Tells the peer that the local address of a subflow which has closed is gone, if it is and
/// no other subflow has it: the peer may not have heard of the end of the subflow, and would
/// keep its side of it for a long time. The answer: whether it is gone.
pub(crate) fn withdraw_if_gone(context: &mut Context<'_>, token: Token, closed: &Subflow) -> bool {
    let address = closed.local_address;
    let subflows = context.connection(token).map(|c| &c.subflows[..]);
    let held = subflows.is_none_or(|all| all.iter().any(|s| s.local_address == address));
    if context.addresses().iter().any(|a| a.address == address) {
        return false;
    }
    // What never joined is unknown to the peer.
    if held || !closed.is_own() || closed.established == Some(false) {
        return true;
    }
    let (id, port) = (closed.local_id, None);
    let withdrawn = Address { id, address, port };
    match context.withdraw(token, &withdrawn) {
        Ok(()) => context.explain(
            token,
            format_args!("{address} is gone: withdrawing address id {id}"),
        ),
        Err(error) => context.explain(
            token,
            format_args!("{address} is gone: address id {id} not withdrawn, {error}"),
        ),
    }
    true
}
