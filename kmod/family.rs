// SPDX-License-Identifier: GPL-2.0

//! The netlink family: what it can be asked, and which groups hear its events.

use crate::{
    command::{
        Announce, ConnGet, Counted, StatsGet, SubflowCreate, SubflowDestroy, SubflowSet, Withdraw,
    },
    sys::family::{Family, Group, Operation},
    uapi, LocalModule,
};
use kernel::module::this_module;

pub(crate) static FAMILY: Family = Family::new(
    this_module::<LocalModule>(),
    (uapi::FAMILY, uapi::VERSION),
    &OPERATIONS,
    &GROUPS,
);

static OPERATIONS: [Operation; 8] = [
    Operation::command::<Counted<ConnGet>>(),
    Operation::dump::<ConnGet>(),
    Operation::command::<Counted<SubflowCreate>>(),
    Operation::command::<Counted<SubflowDestroy>>(),
    Operation::command::<Counted<SubflowSet>>(),
    Operation::command::<Counted<Announce>>(),
    Operation::command::<Counted<Withdraw>>(),
    Operation::command::<Counted<StatsGet>>(),
];

static GROUPS: [Group; uapi::GROUPS.len()] = {
    let mut groups = [const { Group::new("") }; uapi::GROUPS.len()];
    let mut i = 0;
    while i < groups.len() {
        groups[i] = Group::new(uapi::GROUPS[i]);
        i += 1;
    }
    groups
};
