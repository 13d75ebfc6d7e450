// SPDX-License-Identifier: GPL-2.0

//! The path manager, by which the kernel and the commands know whose a connection is.

use crate::{sys::path_manager::Ops, LocalModule};
use kernel::module::this_module;

/// What it does is in [`hooks`](crate::hooks).
pub(crate) struct Smapp;

pub(crate) static PATH_MANAGER: Ops = Ops::new::<Smapp>(this_module::<LocalModule>());
