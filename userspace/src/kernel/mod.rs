// SPDX-License-Identifier: GPL-2.0
//! Kernels.
pub(crate) mod stock;
