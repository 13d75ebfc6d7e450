// SPDX-License-Identifier: GPL-2.0
//! Segments on the wire: tcpdump's capture, reduced to Multipath TCP handshakes.
//!
//! IPv4 only: a capture filter cannot look into TCP over IPv6.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::Netns;
use crate::process::Process;
use crate::wait::DEADLINE;

/// A SYN, without the SYN/ACKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syn {
    /// When it was on the wire, since the Unix epoch.
    pub time: Duration,
    /// Source address.
    pub from: Ipv4Addr,
    /// Source port.
    pub port: u16,
    /// What it asks for.
    pub kind: SynKind,
}

/// What a SYN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynKind {
    /// A Multipath TCP connection (MP_CAPABLE).
    Capable,
    /// A subflow of the connection with this token of the receiver (MP_JOIN).
    Join {
        /// The receiver's token.
        token: u32,
    },
    /// A TCP connection.
    Plain,
}

/// A running tcpdump, on all interfaces of a host.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Start, and return when it listens. The first 96 bytes of each SYN are kept.
    pub fn start(host: &Netns) -> Result<Self> {
        let file = PathBuf::from(format!("/tmp/{}.pcap", host.name()));
        let how = "-i any -y LINUX_SLL2 -s 96 -U --immediate-mode --nano -Z root -w";
        let mut args: Vec<&str> = how.split(' ').collect();
        let name = file.to_str().context("a path of ASCII")?;
        let filter = "tcp[tcpflags] & (tcp-syn | tcp-ack) == tcp-syn";
        args.extend([name, filter]);
        let mut tcpdump = Process::start(host, "tcpdump", &args)?;
        tcpdump.expect("tcpdump to listen", DEADLINE, |line| {
            line.contains("listening on")
        })?;
        Ok(Capture { tcpdump, file })
    }

    /// Stop, and return the SYNs that left the host.
    pub fn stop(mut self) -> Result<Vec<Syn>> {
        self.tcpdump.interrupt()?;
        let pcap = fs::read(&self.file).context("cannot read the capture")?;
        fs::remove_file(&self.file)?;
        parse(&pcap)
    }
}

/// Read a capture file of this machine's byte order, nanoseconds and LINUX_SLL2
/// (`pcap-savefile(5)`), and return its outgoing SYNs.
pub fn parse(pcap: &[u8]) -> Result<Vec<Syn>> {
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    const LINUX_SLL2: u32 = 276;
    let mut rest = Bytes(pcap);
    let header = rest.take(24).context("capture without a header")?;
    ensure!(
        native_u32(header.0, 0) == Some(NANOSECONDS),
        "capture without nanoseconds"
    );
    ensure!(
        native_u32(header.0, 20) == Some(LINUX_SLL2),
        "capture is not LINUX_SLL2"
    );
    let mut syns = Vec::new();
    while let Some(record) = rest.take(16) {
        let field = |offset| native_u32(record.0, offset).context("short record");
        let time = Duration::new(field(0)?.into(), field(4)?);
        let packet = rest
            .take(field(8)? as usize)
            .context("the capture is cut short")?;
        syns.extend(outgoing_syn(packet, time));
    }
    Ok(syns)
}

/// Bytes of a packet, read from the front and never beyond the end.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<Bytes<'a>> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(Bytes(head))
    }

    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }
}

fn native_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Bytes(bytes).array(offset).map(u32::from_ne_bytes)
}

fn outgoing_syn(mut packet: Bytes, time: Duration) -> Option<Syn> {
    const PACKET_OUTGOING: u8 = 4;
    let link = packet.take(20)?;
    if link.u8(10)? != PACKET_OUTGOING {
        return None;
    }
    let from = packet.array::<4>(12)?.into();
    packet.take(usize::from(packet.u8(0)? & 15) * 4)?;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    if packet.u8(13)? & (SYN | ACK) != SYN {
        return None;
    }
    let port = packet.u16(0)?;
    let mut tcp = packet.take(usize::from(packet.u8(12)? >> 4) * 4)?;
    tcp.take(20)?;
    Some(Syn {
        time,
        from,
        port,
        kind: multipath_option(tcp).unwrap_or(SynKind::Plain),
    })
}

/// Find the option of RFC 8684 among the options of a SYN.
fn multipath_option(mut options: Bytes) -> Option<SynKind> {
    const NOP: u8 = 1;
    const MPTCP: u8 = 30;
    const MP_CAPABLE: u8 = 0;
    const MP_JOIN: u8 = 1;
    loop {
        match options.u8(0)? {
            0 => return None,
            NOP => drop(options.take(1)?),
            kind => {
                let length = usize::from(options.u8(1)?);
                let option = options.take(length.max(2))?;
                match (kind, option.u8(2).map(|byte| byte >> 4)) {
                    (MPTCP, Some(MP_CAPABLE)) => return Some(SynKind::Capable),
                    (MPTCP, Some(MP_JOIN)) => {
                        let token = u32::from_be_bytes(option.array(4)?);
                        return Some(SynKind::Join { token });
                    }
                    _ => (),
                }
            }
        }
    }
}

/// The delay from the SYN of each connection to the first SYN of a further subflow.
///
/// Which join belongs to which connection is only known through keys that are not
/// in the SYNs, so connections must be made one after the other.
pub fn join_delays(syns: &[Syn]) -> Vec<Duration> {
    let mut delays = Vec::new();
    let mut capable = None;
    for syn in syns {
        match syn.kind {
            SynKind::Capable => capable = Some(syn.time),
            SynKind::Join { .. } => {
                delays.extend(capable.take().and_then(|start| syn.time.checked_sub(start)));
            }
            SynKind::Plain => (),
        }
    }
    delays
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture with one packet: a SYN of `flags` with these TCP options.
    fn capture(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut link = [0; 20];
        link[..2].copy_from_slice(&0x0800u16.to_be_bytes());
        link[10] = 4;
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[12..16].copy_from_slice(&[10, 0, 2, 2]);
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&4444u16.to_be_bytes());
        tcp[12] = (((20 + options.len()) / 4) << 4) as u8;
        tcp[13] = flags;
        let packet = [&link[..], &ip, &tcp, options].concat();
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header: Vec<u8> = words(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 96, 276]);
        let length = packet.len() as u32;
        let record: Vec<u8> = words(&[7, 5, length, length]);
        [header, record, packet].concat()
    }

    const SYN: u8 = 2;
    const JOIN: [u8; 12] = [30, 12, 0x10, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];

    #[test]
    fn a_join_is_found_behind_other_options() {
        let options = [&[2, 4, 5, 180, 1, 1, 1, 1][..], &JOIN].concat();
        let syns = parse(&capture(SYN, &options)).unwrap();
        let kind = SynKind::Join { token: 0xdead_beef };
        let from = Ipv4Addr::new(10, 0, 2, 2);
        assert_eq!(
            syns,
            [Syn {
                time: Duration::new(7, 5),
                from,
                port: 4444,
                kind
            }]
        );
    }

    #[test]
    fn a_capable_syn_and_a_plain_one_are_told_apart() {
        let kinds = |options| {
            parse(&capture(SYN, options))
                .unwrap()
                .pop()
                .map(|syn| syn.kind)
        };
        assert_eq!(kinds(&[30, 4, 1, 1]), Some(SynKind::Capable));
        assert_eq!(kinds(&[2, 4, 5, 180]), Some(SynKind::Plain));
        assert_eq!(kinds(&[]), Some(SynKind::Plain));
    }

    #[test]
    fn only_the_syn_of_a_connection_counts() {
        for flags in [SYN | 16, 16, 4] {
            assert_eq!(parse(&capture(flags, &[])).unwrap(), []);
        }
    }

    #[test]
    fn broken_options_do_not_loop() {
        for options in [&[30, 0, 0, 0][..], &[30, 200, 16, 0], &[8, 1, 30, 4]] {
            assert_eq!(parse(&capture(SYN, options)).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_capture_that_is_cut_short_is_an_error() {
        let whole = capture(SYN, &[]);
        assert!(parse(&whole[..whole.len() - 1]).is_err());
        assert!(parse(&whole[..10]).is_err());
    }

    #[test]
    fn each_connection_has_the_delay_to_its_first_join() {
        let syn = |ms, kind| Syn {
            time: Duration::from_millis(ms),
            from: Ipv4Addr::LOCALHOST,
            port: 1,
            kind,
        };
        let join = SynKind::Join { token: 1 };
        let syns = [
            syn(0, SynKind::Capable),
            syn(2, join),
            syn(3, join),
            syn(10, SynKind::Capable),
            syn(20, SynKind::Capable),
            syn(25, join),
        ];
        assert_eq!(join_delays(&syns), [2, 5].map(Duration::from_millis));
    }
}
