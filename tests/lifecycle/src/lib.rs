// SPDX-License-Identifier: GPL-2.0

//! The life of a path manager in the kernel, as a model: from the loading of its module to its
//! end, with sockets that select it and hooks that come late.
//!
//! Each function stands for the one in its name, statement by statement, as the series
//! (`kmod/patches`, 0005 to 0007) leaves it in net/mptcp/pm.c, and for what it relies on in
//! kernel/module/main.c. `tests/interleavings.rs` runs them against each other in every order
//! that the memory model allows, as they are and with one step left out or misplaced
//! ([`Fault`]): each step that is there is needed.
//!
//! What is asserted about (is the memory there?) is read by an atomic exchange, which gives the
//! latest value and orders nothing: only the kernel's own steps do.
//!
//! An RCU read-side critical section is a read lock, a grace period a write lock that is let go
//! of at once: what a reader has begun before is over by then, and one that begins later sees
//! all that was written before. That is what RCU promises, and no more.

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::sync::{Mutex, RwLock};

/// A step that is left out, or in the wrong place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Selection does not take a reference to the module.
    NoReference,
    /// Selection looks for the path manager outside of an RCU read-side critical section.
    LookupWithoutRcu,
    /// Selection lets hooks find the path manager before its `init` has been called.
    PublishBeforeInit,
    /// A hook is called outside of an RCU read-side critical section.
    HookWithoutRcu,
    /// Release leaves the path manager in the socket.
    PointerStays,
    /// Release drops the reference before hooks can no longer find the path manager.
    PutBeforeClear,
    /// Release drops the reference before it calls `release`.
    PutBeforeRelease,
    /// `mptcp_pm_unregister()` does not wait for a grace period.
    NoGracePeriod,
    /// The module fails to load after it has registered its path manager.
    InitFailsLate,
    /// The module ends its family before its path manager.
    FamilyEndsFirst,
}

/// What `msk->pm.ops` points to.
mod ops {
    pub const NULL: usize = 0;
    pub const KERNEL: usize = 1;
    pub const SMAPP: usize = 2;
}

/// `smapp_pm.ko`, and what the module loader knows of it.
struct Module {
    /// `refcnt`: 1 (MODULE_REF_BASE) for being loaded, one for each socket.
    references: AtomicUsize,
    /// Not yet MODULE_STATE_GOING.
    live: AtomicBool,
    /// The netlink family is registered: hooks send to it.
    family: AtomicBool,
    /// Its code and data are in memory.
    mapped: AtomicBool,
    attached: AtomicUsize,
    released: AtomicUsize,
}

/// The kernel, with one module and one MPTCP socket.
pub struct Kernel {
    fault: Option<Fault>,
    module: Module,
    rcu: RwLock<()>,
    /// `mptcp_pm_list` and `mptcp_pm_list_lock`: is the path manager in the list?
    list: AtomicBool,
    list_lock: Mutex<()>,
    /// `msk->pm.ops`.
    ops: AtomicUsize,
    /// The path manager has seen this socket: its `init` has been called.
    known: AtomicBool,
}

/// The latest value, ordering nothing.
fn now(flag: &AtomicBool) -> bool {
    flag.fetch_or(false, Relaxed)
}

impl Kernel {
    /// A kernel into which the module is being loaded: its family is registered, its path
    /// manager not yet.
    pub fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            module: Module {
                references: AtomicUsize::new(1),
                live: AtomicBool::new(true),
                family: AtomicBool::new(true),
                mapped: AtomicBool::new(true),
                attached: AtomicUsize::new(0),
                released: AtomicUsize::new(0),
            },
            rcu: RwLock::new(()),
            list: AtomicBool::new(false),
            list_lock: Mutex::new(()),
            ops: AtomicUsize::new(ops::NULL),
            known: AtomicBool::new(false),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn synchronize_rcu(&self) {
        drop(self.rcu.write().unwrap());
    }

    /// Code or data of the module is used.
    fn touch_module(&self, by: &str) {
        assert!(now(&self.module.mapped), "{by} uses freed memory");
    }

    fn try_module_get(&self) -> bool {
        self.touch_module("try_module_get");
        self.module.live.load(Relaxed)
            && self
                .module
                .references
                .fetch_update(AcqRel, Relaxed, |n| (n > 0).then_some(n + 1))
                .is_ok()
    }

    fn module_put(&self) {
        self.module.references.fetch_sub(1, AcqRel);
    }

    /// A socket is made, accepted or used again: `mptcp_pm_ops_init()`.
    pub fn select(&self) {
        let rcu = (!self.has(Fault::LookupWithoutRcu)).then(|| self.rcu.read().unwrap());
        let mut found = ops::KERNEL;
        if self.list.load(Acquire) {
            self.touch_module("mptcp_pm_find");
            if self.has(Fault::NoReference) || self.try_module_get() {
                found = ops::SMAPP;
            }
        }
        drop(rcu);

        if self.has(Fault::PublishBeforeInit) {
            self.ops.store(found, Release);
        }
        if found == ops::SMAPP {
            self.touch_module("init");
            self.module.attached.fetch_add(1, Relaxed);
            self.known.store(true, Relaxed);
        }
        self.ops.store(found, Release);
    }

    /// The socket is destroyed, or disconnected: `mptcp_pm_ops_release()`.
    pub fn release(&self) {
        let found = self.ops.load(Relaxed);
        if found == ops::SMAPP && self.has(Fault::PutBeforeClear) {
            self.module_put();
        }
        if !self.has(Fault::PointerStays) {
            self.ops.store(ops::NULL, Relaxed);
        }
        if found != ops::SMAPP {
            return;
        }
        if self.has(Fault::PutBeforeRelease) {
            self.module_put();
        }
        self.touch_module("release");
        self.module.released.fetch_add(1, Relaxed);
        if !matches!(
            self.fault,
            Some(Fault::NoReference | Fault::PutBeforeClear | Fault::PutBeforeRelease)
        ) {
            self.module_put();
        }
    }

    /// A packet comes for a subflow, which may outlive the socket: `mptcp_pm_new_connection()`
    /// and its like.
    pub fn hook(&self) {
        let rcu = (!self.has(Fault::HookWithoutRcu)).then(|| self.rcu.read().unwrap());
        if self.ops.load(Acquire) == ops::SMAPP {
            self.touch_module("a hook");
            assert!(now(&self.known), "a hook comes before init");
            assert!(
                now(&self.module.family),
                "a hook sends to a family that is gone"
            );
        }
        drop(rcu);
    }

    /// The module registers its path manager, the last step of its `init`.
    pub fn load(&self) {
        let lock = self.list_lock.lock().unwrap();
        self.list.store(true, Release);
        drop(lock);
        if self.has(Fault::InitFailsLate) {
            // do_init_module(): nobody is asked whether the module is in use.
            self.module.live.store(false, Relaxed);
            self.end();
        }
    }

    /// `delete_module()`; says whether the module went.
    pub fn unload(&self) -> bool {
        // try_release_module_ref()
        if self
            .module
            .references
            .compare_exchange(1, 0, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        self.module.live.store(false, Relaxed);
        self.end();
        true
    }

    /// `Module::drop` and its fields (kmod/smapp_pm.rs), then `free_module()`.
    fn end(&self) {
        let attached = self.module.attached.fetch_add(0, Relaxed);
        let released = self.module.released.fetch_add(0, Relaxed);
        assert_eq!(attached, released, "the audit is uneven");
        if self.has(Fault::FamilyEndsFirst) {
            self.module.family.store(false, Relaxed);
        }
        self.unregister();
        self.module.family.store(false, Relaxed);
        self.synchronize_rcu();
        self.module.mapped.store(false, Relaxed);
    }

    /// `mptcp_pm_unregister()`.
    fn unregister(&self) {
        let lock = self.list_lock.lock().unwrap();
        self.list.store(false, Release);
        drop(lock);
        if !self.has(Fault::NoGracePeriod) {
            self.synchronize_rcu();
        }
    }
}
