// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading the kernel module.

use std::ffi::CStr;
use std::fs::{self, File};

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::system::{delete_module, finit_module};

/// Where the guest keeps the module.
pub const MODULE: &str = "/lib/smapp/smapp_pm.ko";

/// Is the module loaded?
pub fn is_loaded() -> bool {
    fs::exists("/sys/module/smapp_pm/refcnt").unwrap_or(false)
}

/// Load the module.
pub fn insert() -> Result<()> {
    insert_with(c"")
}

/// Load the module with parameters, `name=value` separated by spaces.
pub fn insert_with(parameters: &CStr) -> Result<()> {
    let file = File::open(MODULE).with_context(|| format!("cannot open {MODULE}"))?;
    finit_module(file, parameters, 0).context("cannot load smapp_pm")
}

/// Try to unload the module, without waiting until it is free.
pub fn remove() -> Result<(), Errno> {
    delete_module(c"smapp_pm", OFlags::NONBLOCK.bits() as i32)
}

/// Loads the module again when dropped: a test that fails without the module must
/// not take the others with it.
#[derive(Debug)]
pub struct LoadAgain;

impl Drop for LoadAgain {
    fn drop(&mut self) {
        if is_loaded() {
            return;
        }
        if let Err(error) = insert() {
            eprintln!("{error:#}");
        }
    }
}
