// SPDX-License-Identifier: GPL-2.0
//! Rate and delay of a link, by what the kernel has for them.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::netns::Netns;

/// Packets that wait in front of a link, at most.
const QUEUE: u32 = 80;
/// Bytes of one of them, with its header.
const PACKET: u32 = 1514;

/// Speed of a path.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Mbit/s in each direction.
    pub rate: u32,
    /// One way delay, where the kernel can ([`Shaping`]).
    pub delay: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            rate: 20,
            delay: Duration::from_millis(1),
        }
    }
}

/// How links are shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shaping {
    /// By netem.
    Netem,
    /// By a token bucket, where the kernel has no netem: no delay, no loss.
    TokenBucket,
}

impl Shaping {
    /// What the kernel has. It is tried once, on the loopback device of a host.
    pub fn of_this_kernel(host: &Netns) -> Result<Self> {
        static FOUND: OnceLock<Shaping> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(*found);
        }
        let found = match host.tc("qdisc add dev lo root netem\n") {
            Ok(()) => {
                host.tc("qdisc delete dev lo root\n")?;
                Shaping::Netem
            }
            Err(_) => Shaping::TokenBucket,
        };
        Ok(*FOUND.get_or_init(|| found))
    }

    /// The discipline of a queue that loses so many percent of its packets, in words of `tc`.
    pub fn discipline(self, shape: Shape, loss: u32) -> Result<String> {
        let Shape { rate, delay } = shape;
        let delay = delay.as_micros();
        match self {
            Shaping::Netem => Ok(format!(
                "netem rate {rate}mbit delay {delay}us limit {QUEUE} loss {loss}%"
            )),
            Shaping::TokenBucket => {
                ensure!(
                    loss == 0,
                    "this kernel has no netem (CONFIG_NET_SCH_NETEM) to lose packets"
                );
                // What comes in a millisecond, but two packets at least: timers are no finer.
                let burst = (rate * 125).max(2 * PACKET);
                let limit = QUEUE * PACKET;
                Ok(format!("tbf rate {rate}mbit burst {burst} limit {limit}"))
            }
        }
    }
}
