// SPDX-License-Identifier: GPL-2.0
//! The counters of the module.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::netlink::Attributes;
use crate::uapi::{cmd, operation_stats, stats};

/// What the module has counted since it was loaded, in all network namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Sockets that were given this path manager, those that listen included.
    pub attached: u64,
    /// Those of them that are gone.
    pub released: u64,
    /// Every command and every event.
    #[serde(rename = "operation")]
    pub operations: Vec<OperationStats>,
}

/// How often an event was sent or a command run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationStats {
    /// Number of the command or event, as in [`cmd`].
    pub number: u8,
    /// Events sent because somebody listened, or commands that succeeded.
    pub done: u64,
    /// Events lost for want of memory, or commands refused.
    pub failed: u64,
}

impl Stats {
    /// Reads the answer to stats-get.
    pub fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let mut all = Self::default();
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                stats::ATTACHED => all.attached = a.u64()?,
                stats::RELEASED => all.released = a.u64()?,
                stats::OPERATION => all.operations.push(OperationStats::decode(a.nest())?),
                _ => {}
            }
        }
        Ok(all)
    }

    /// The counters of one command or event, as in [`cmd`].
    pub fn operation(&self, number: u8) -> OperationStats {
        let found = self.operations.iter().find(|o| o.number == number);
        found.copied().unwrap_or(OperationStats {
            number,
            ..OperationStats::default()
        })
    }
}

impl OperationStats {
    fn decode(attributes: Attributes<'_>) -> Result<Self, Error> {
        let mut operation = Self::default();
        for attribute in attributes {
            let a = attribute?;
            match a.kind {
                operation_stats::OPERATION => operation.number = a.u8()?,
                operation_stats::DONE => operation.done = a.u64()?,
                operation_stats::FAILED => operation.failed = a.u64()?,
                _ => {}
            }
        }
        Ok(operation)
    }

    /// The word for the command or event, or its number if it has none here.
    pub fn word(&self) -> String {
        cmd::name(self.number).map_or(self.number.to_string(), |name| name.replace('-', "_"))
    }
}

impl Serialize for OperationStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("OperationStats", 3)?;
        fields.serialize_field("operation", &self.word())?;
        fields.serialize_field("done", &self.done)?;
        fields.serialize_field("failed", &self.failed)?;
        fields.end()
    }
}
