// SPDX-License-Identifier: GPL-2.0
//! What cannot be seen everywhere: the one list of tests that some kernel, or one of its
//! interfaces, has no chance to pass, each with what is lacking.
//!
//! The list is held to be true. Where something is lacking, the tests that need it are run
//! all the same: one that passes fails the run. So does a name that no test has.

use std::fmt;
use std::path::Path;

use crate::kernel_interface::KernelInterface;

/// What a test needs, and may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The module: the test is about its family, or about loading it.
    Module,
    /// A kernel that fails allocations on purpose.
    FailedAllocations,
    /// A kernel that nobody else uses: something global is changed.
    OwnKernel,
    /// A clock that does not wait: the test takes minutes of it. It is not even tried.
    VirtualTime,
    /// Something that the kernel does not tell or do over the stock interface.
    OfStock(&'static str),
}

/// All of them. A name is that of a test, or of a file of tests (`file::`).
pub const LIMITS: &[(Lack, &[&str])] = &[
    (
        Lack::OwnKernel,
        &[
            // net.core.rmem_max, by SmallQueues.
            "events::a_listener_that_is_too_slow_is_told",
            "fullmesh::a_daemon_that_lost_events_catches_up",
            "loss::after_a_loss_the_table_equals_the_kernels",
        ],
    ),
    (
        Lack::FailedAllocations,
        &[
            "faults::",
            "loss::a_closed_for_which_there_is_no_memory_is_made_good",
            "loss::a_sub_closed_for_which_there_is_no_memory_is_made_good",
            "loss::a_sub_priority_for_which_there_is_no_memory_is_made_good",
            "loss::an_add_addr_for_which_there_is_no_memory_comes_again",
        ],
    ),
    (
        Lack::Module,
        &["fuzz::", "malformed::", "module::", "stats::", "ynl::"],
    ),
];

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What they use of the kernel.
    pub interface: KernelInterface,
    /// Whether nobody else uses the kernel, as in a guest, where time is virtual as well.
    pub own_kernel: bool,
}

impl Lack {
    /// Whether this is lacking there.
    pub fn is_lacking(self, setting: Setting) -> bool {
        match self {
            Lack::Module | Lack::OfStock(_) => setting.interface == KernelInterface::Stock,
            Lack::FailedAllocations => !Path::new("/sys/kernel/debug/failslab").exists(),
            Lack::OwnKernel | Lack::VirtualTime => !setting.own_kernel,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Module => "it is about the module smapp_pm",
            Lack::FailedAllocations => "this kernel fails no allocations (CONFIG_FAILSLAB)",
            Lack::OwnKernel => "it changes what belongs to the whole machine",
            Lack::VirtualTime => "it waits for minutes, which only the guest does in no time",
            Lack::OfStock(reason) => reason,
        })
    }
}

/// What a test lacks there.
pub fn lack(test: &str, setting: Setting) -> Option<Lack> {
    let named = |tests: &[&str]| tests.iter().any(|name| covers(name, test));
    let lacks = LIMITS.iter().filter(|(_, tests)| named(tests));
    lacks
        .map(|(lack, _)| *lack)
        .find(|lack| lack.is_lacking(setting))
}

/// Names on the list that no test has.
pub fn stale(tests: &[String]) -> Vec<&'static str> {
    let names = LIMITS.iter().flat_map(|(_, tests)| *tests);
    let has_none = |name: &&&str| !tests.iter().any(|test| covers(name, test));
    names.filter(has_none).copied().collect()
}

fn covers(name: &str, test: &str) -> bool {
    test == name || (name.ends_with("::") && test.starts_with(name))
}
