// SPDX-License-Identifier: GPL-2.0

//! The netlink family: what it can be asked, and which groups hear its events.

use crate::{
    command::{
        Announce, ConnGet, Counted, StatsGet, SubflowCreate, SubflowDestroy, SubflowSet, Withdraw,
    },
    group::{GROUPS, NAME},
    sys::family::{family, Operation},
    uapi, LocalModule,
};
use kernel::{module::this_module, net::netlink::Family};

pub(crate) static FAMILY: Family = family(
    this_module::<LocalModule>(),
    (NAME, uapi::VERSION),
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
    Operation::host_command::<Counted<StatsGet>>(),
];
