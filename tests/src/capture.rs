// SPDX-License-Identifier: GPL-2.0
//! What is on the wire of a host: tcpdump's capture.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::process::Process;
use crate::segment::{self, Request, Segment};
use crate::wait::DEADLINE;

/// SYNs without the SYN/ACKs. A filter cannot look into TCP over IPv6.
const SYNS: &str = "tcp[tcpflags] & (tcp-syn | tcp-ack) == tcp-syn";

/// A running tcpdump, on all interfaces of a host.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
    bulk: bool,
}

impl Capture {
    /// Start to keep SYNs (IPv4), and return when it listens.
    pub fn start(host: &Netns) -> Result<Self> {
        Self::with_filter(host, SYNS, false)
    }

    /// Start to keep what matches a filter (`pcap-filter(7)`), many segments at a
    /// time: a segment costs less, stopping takes longer.
    pub fn of(host: &Netns, filter: &str) -> Result<Self> {
        Self::with_filter(host, filter, true)
    }

    fn with_filter(host: &Netns, filter: &str, bulk: bool) -> Result<Self> {
        let file = PathBuf::from(format!("/tmp/{}.pcap", host.name()));
        // Link, IPv6 and TCP headers: 20 + 40 + 60 bytes. 16 MiB hold a burst of packets.
        let how = "-i any -y LINUX_SLL2 -s 120 -B 16384 --nano -Z root -w";
        let mut args: Vec<&str> = how.split(' ').collect();
        args.push(file.to_str().context("a path of ASCII")?);
        if !bulk {
            args.extend(["-U", "--immediate-mode"]);
        }
        args.push(filter);
        let mut tcpdump = Process::start(host, "tcpdump", &args)?;
        tcpdump.expect("tcpdump to listen", DEADLINE, |line| {
            line.contains("listening on")
        })?;
        Ok(Capture {
            tcpdump,
            file,
            bulk,
        })
    }

    /// Stop, and return the segments in the order in which they were seen. That one
    /// was missed is an error.
    pub fn stop(mut self) -> Result<Vec<Segment>> {
        if self.bulk {
            // tcpdump gets what the kernel has collected once a second.
            sleep(Duration::from_secs(2));
        }
        self.tcpdump.interrupt()?;
        let told = self.tcpdump.seen().join("\n");
        ensure!(
            told.contains("\n0 packets dropped by kernel"),
            "the capture is not complete: {told}"
        );
        let pcap = fs::read(&self.file).context("cannot read the capture")?;
        fs::remove_file(&self.file)?;
        segment::parse(&pcap)
    }
}

/// The delay from the SYN of each connection to the first SYN of a further subflow
/// that leaves the host.
///
/// Which join belongs to which connection is only known through keys that are not
/// in the SYNs, so connections must be made one after the other.
pub fn join_delays(segments: &[Segment]) -> Vec<Duration> {
    let mut delays = Vec::new();
    let mut capable = None;
    for syn in segments.iter().filter(|s| s.outgoing && s.is_syn()) {
        match syn.request {
            Some(Request::Capable) => capable = Some(syn.time),
            Some(Request::Join { .. }) => {
                delays.extend(capable.take().and_then(|start| syn.time.checked_sub(start)));
            }
            None => (),
        }
    }
    delays
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn each_connection_has_the_delay_to_its_first_join() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let syn = |ms, request| Segment {
            time: Duration::from_millis(ms),
            outgoing: true,
            interface: 1,
            from: any,
            to: any,
            flags: 2,
            seq: 0,
            length: 0,
            request: Some(request),
            mapping: None,
            data_ack: None,
        };
        let join = Request::Join { token: 1 };
        let incoming = Segment {
            outgoing: false,
            ..syn(1, join)
        };
        let segments = [
            syn(0, Request::Capable),
            incoming,
            syn(2, join),
            syn(3, join),
            syn(10, Request::Capable),
            syn(20, Request::Capable),
            syn(25, join),
        ];
        assert_eq!(join_delays(&segments), [2, 5].map(Duration::from_millis));
    }
}
