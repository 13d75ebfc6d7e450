// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading: what is registered, in which order.

use crate::{
    family::FAMILY,
    path_manager::{Smapp, PATH_MANAGER},
    stats::{ATTACHED, RELEASED},
    sys::notifier::Notifiers,
    Module,
};
use kernel::{prelude::*, sync::atomic::Relaxed};

static LOCAL_ADDRESSES: Notifiers = Notifiers::new::<Smapp>();

impl kernel::Module for Module {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let family = FAMILY.register()?;
        let local_addresses = LOCAL_ADDRESSES.register()?;
        // Last: from here on sockets hold references to the module.
        let path_manager = PATH_MANAGER.register()?;
        pr_info!("loaded: select it with sysctl net.mptcp.path_manager=smapp\n");
        Ok(Self {
            _path_manager: path_manager,
            _local_addresses: local_addresses,
            _family: family,
        })
    }
}

impl Drop for Module {
    /// No connection is left: each holds a reference to the module.
    fn drop(&mut self) {
        let (attached, released) = (ATTACHED.load(Relaxed), RELEASED.load(Relaxed));
        pr_info!("unloaded: {attached} connections attached, {released} released\n");
    }
}
