// SPDX-License-Identifier: GPL-2.0

//! Names in the fixed arrays of C structures.

use kernel::prelude::*;

/// At build time only: does not build if the name is too long.
pub(super) const fn copy_name(to: &mut [c_char], name: &str) {
    let name = name.as_bytes();
    assert!(name.len() < to.len());
    let mut i = 0;
    while i < name.len() {
        to[i] = name[i] as c_char;
        i += 1;
    }
}
