// SPDX-License-Identifier: GPL-2.0

//! The interleavings of a socket, a late packet and the module's life.

use loom::sync::Arc;
use loom::thread;
use smapp_lifecycle::{Fault, Kernel};

/// How often a thread may be stopped where it could have gone on. Every fault is found with two;
/// LOOM_MAX_PREEMPTIONS overrides it.
const PREEMPTIONS: usize = 3;

/// Runs the module, a packet, and a socket that is used `uses` times against each other.
fn check(fault: Option<Fault>, uses: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(move || {
        let kernel = Arc::new(Kernel::new(fault));
        let softirq = thread::spawn({
            let kernel = kernel.clone();
            move || kernel.hook()
        });
        let socket = thread::spawn({
            let kernel = kernel.clone();
            move || {
                for _ in 0..uses {
                    kernel.select();
                    kernel.release();
                }
            }
        });
        kernel.load();
        let gone = kernel.unload();
        socket.join().unwrap();
        softirq.join().unwrap();
        assert!(
            gone || kernel.unload(),
            "nobody uses the module, and it stays"
        );
    });
}

#[test]
fn nothing_goes_wrong() {
    check(None, 1);
}

#[test]
fn nothing_goes_wrong_when_a_socket_is_used_again() {
    check(None, 2);
}

/// Each fault is found, by its harm.
macro_rules! faults {
    ($($test:ident: $fault:ident => $harm:literal,)*) => {$(
        #[test]
        #[should_panic(expected = $harm)]
        fn $test() {
            check(Some(Fault::$fault), 1);
        }
    )*};
}

faults! {
    no_reference: NoReference => "release uses freed memory",
    lookup_without_rcu: LookupWithoutRcu => "mptcp_pm_find uses freed memory",
    publish_before_init: PublishBeforeInit => "a hook comes before init",
    hook_without_rcu: HookWithoutRcu => "a hook uses freed memory",
    pointer_stays: PointerStays => "a hook uses freed memory",
    put_before_clear: PutBeforeClear => "a hook sends to a family that is gone",
    put_before_release: PutBeforeRelease => "the audit is uneven",
    no_grace_period: NoGracePeriod => "a hook sends to a family that is gone",
    init_fails_late: InitFailsLate => "release uses freed memory",
    family_ends_first: FamilyEndsFirst => "a hook sends to a family that is gone",
}
