// SPDX-License-Identifier: GPL-2.0
//! How `smapp why` asks the daemon of its network namespace.
//!
//! Question and answer are one datagram of a unix socket each: a token, and a line of
//! JSON for each decision.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where the sockets are, one for each network namespace, unless `RUNTIME_DIRECTORY` says.
const DIRECTORY: &str = "/run/smapp";

/// A decision, as one line of JSON.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct DecisionLine {
    /// Seconds since 1970.
    pub time: f64,
    /// The connection.
    pub token: String,
    /// The word for the event at hand.
    pub event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The event, what the policy made of it, and what is done.
    pub text: String,
}

/// The socket of the daemon in this network namespace.
pub fn socket_path() -> Result<PathBuf> {
    let directory = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or(DIRECTORY.into());
    let namespace = fs::metadata("/proc/thread-self/ns/net").context("network namespace")?;
    Ok(Path::new(&directory).join(format!("{}.sock", namespace.ino())))
}
