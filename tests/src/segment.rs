// SPDX-License-Identifier: GPL-2.0
//! TCP segments of a capture, with what Multipath TCP says in them (RFC 8684).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A TCP segment on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// When it was on the wire, since the Unix epoch.
    pub time: Duration,
    /// It left the host, or was forwarded by it on its way out.
    pub outgoing: bool,
    /// Number of the interface (`ip link`).
    pub interface: u32,
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// Flags, as in the header.
    pub flags: u8,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Bytes of data.
    pub length: u32,
    /// What a SYN or the first segments after it ask for.
    pub request: Option<Request>,
    /// Where its data belongs in the connection.
    pub mapping: Option<Mapping>,
    /// What the connection acknowledges (DATA_ACK): the low 32 bits.
    pub data_ack: Option<u32>,
}

/// What a handshake asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A Multipath TCP connection (MP_CAPABLE).
    Capable,
    /// A subflow (MP_JOIN), in a SYN with the receiver's token.
    Join {
        /// The receiver's token; 0 in what follows the SYN.
        token: u32,
    },
}

/// A part of the data of a connection on a subflow (Data Sequence Mapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Data sequence number of its first byte: the low 32 bits.
    pub dsn: u32,
    /// Relative sequence number of that byte on the subflow, the SYN is 0.
    pub ssn: u32,
    /// Bytes, a DATA_FIN included.
    pub length: u32,
    /// The connection has no data after it.
    pub data_fin: bool,
}

impl Segment {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;

    /// It opens a connection or a subflow.
    pub fn is_syn(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN
    }

    /// It accepts a connection or a subflow.
    pub fn is_syn_ack(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    /// It ends one direction of a subflow.
    pub fn is_fin(&self) -> bool {
        self.flags & Self::FIN != 0
    }

    /// It resets a subflow.
    pub fn is_rst(&self) -> bool {
        self.flags & Self::RST != 0
    }
}

/// Read a capture file of this machine's byte order, nanoseconds and LINUX_SLL2
/// (`pcap-savefile(5)`), and return its TCP segments.
pub fn parse(pcap: &[u8]) -> Result<Vec<Segment>> {
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    const LINUX_SLL2: u32 = 276;
    let mut rest = Bytes(pcap);
    let header = rest.take(24).context("capture without a header")?;
    ensure!(
        header.native_u32(0) == Some(NANOSECONDS),
        "capture without nanoseconds"
    );
    ensure!(
        header.native_u32(20) == Some(LINUX_SLL2),
        "capture is not LINUX_SLL2"
    );
    let mut segments = Vec::new();
    while let Some(record) = rest.take(16) {
        let field = |offset| record.native_u32(offset).context("short record");
        let time = Duration::new(field(0)?.into(), field(4)?);
        let packet = rest
            .take(field(8)? as usize)
            .context("the capture is cut short")?;
        segments.extend(segment(packet, time));
    }
    ensure!(rest.0.is_empty(), "the capture is cut short");
    Ok(segments)
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
        self.0.get(offset..)?.get(..N)?.try_into().ok()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_be_bytes)
    }

    fn native_u32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_ne_bytes)
    }

    /// The low half of a number of 4 or 8 bytes.
    fn low_u32(&mut self, long: bool) -> Option<u32> {
        let number = self.take(if long { 8 } else { 4 })?;
        number.u32(if long { 4 } else { 0 })
    }
}

/// Read a packet behind the header LINUX_SLL2; none if it is not TCP or cut within
/// its headers.
fn segment(mut packet: Bytes, time: Duration) -> Option<Segment> {
    const PACKET_OUTGOING: u8 = 4;
    const TCP: u8 = 6;
    let link = packet.take(20)?;
    let (protocol, from, to, payload): (_, IpAddr, IpAddr, _) = match packet.u8(0)? >> 4 {
        4 => {
            let length = usize::from(packet.u8(0)? & 15) * 4;
            let ip = packet.take(length)?;
            let payload = u32::from(ip.u16(2)?).checked_sub(length as u32)?;
            let (from, to) = (ip.array::<4>(12)?, ip.array::<4>(16)?);
            (ip.u8(9)?, from.into(), to.into(), payload)
        }
        6 => {
            let ip = packet.take(40)?;
            let (from, to) = (ip.array::<16>(8)?, ip.array::<16>(24)?);
            (ip.u8(6)?, from.into(), to.into(), ip.u16(4)?.into())
        }
        _ => return None,
    };
    if protocol != TCP {
        return None;
    }
    let header = usize::from(packet.u8(12)? >> 4) * 4;
    let mut tcp = packet.take(header)?;
    let fixed = tcp.take(20)?;
    let mut segment = Segment {
        time,
        outgoing: link.u8(10)? == PACKET_OUTGOING,
        interface: link.u32(4)?,
        from: SocketAddr::new(from, fixed.u16(0)?),
        to: SocketAddr::new(to, fixed.u16(2)?),
        flags: fixed.u8(13)?,
        seq: fixed.u32(4)?,
        length: payload.checked_sub(header as u32)?,
        request: None,
        mapping: None,
        data_ack: None,
    };
    // Options that are broken end the list of options, not the segment.
    let _ = read_options(tcp, &mut segment);
    Some(segment)
}

fn read_options(mut options: Bytes, segment: &mut Segment) -> Option<()> {
    const NOP: u8 = 1;
    const MPTCP: u8 = 30;
    const MP_CAPABLE: u8 = 0;
    const MP_JOIN: u8 = 1;
    const DSS: u8 = 2;
    loop {
        match options.u8(0)? {
            0 => return None,
            NOP => drop(options.take(1)?),
            kind => {
                let length = usize::from(options.u8(1)?);
                let mut option = options.take(length.max(2))?;
                if kind != MPTCP {
                    continue;
                }
                match option.u8(2)? >> 4 {
                    MP_CAPABLE => segment.request = Some(Request::Capable),
                    MP_JOIN => {
                        let token = if segment.is_syn() { option.u32(4)? } else { 0 };
                        segment.request = Some(Request::Join { token });
                    }
                    DSS => {
                        let flags = option.take(4)?.u8(3)?;
                        let has = |flag: u8| flags & flag != 0;
                        if has(0x01) {
                            segment.data_ack = Some(option.low_u32(has(0x02))?);
                        }
                        if has(0x04) {
                            segment.mapping = Some(Mapping {
                                dsn: option.low_u32(has(0x08))?,
                                ssn: option.take(4)?.u32(0)?,
                                length: option.u16(0)?.into(),
                                data_fin: has(0x10),
                            });
                        }
                    }
                    _ => (),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 2;
    const JOIN: [u8; 12] = [30, 12, 0x10, 1, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];

    /// An IPv4 packet with the link header before it.
    fn v4(flags: u8, options: &[u8], data: u16) -> Vec<u8> {
        let mut ip = [0; 20];
        let length = 40 + options.len() as u16 + data;
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[9] = 6;
        ip[12..16].copy_from_slice(&[10, 0, 2, 2]);
        ip[16..20].copy_from_slice(&[10, 0, 3, 2]);
        [&link()[..], &ip, &tcp(flags, options)].concat()
    }

    /// The same over IPv6.
    fn v6(flags: u8, options: &[u8], data: u16) -> Vec<u8> {
        let mut ip = [0; 40];
        let length = 20 + options.len() as u16 + data;
        ip[0] = 0x60;
        ip[4..6].copy_from_slice(&length.to_be_bytes());
        ip[6] = 6;
        ip[23] = 1;
        ip[39] = 2;
        [&link()[..], &ip, &tcp(flags, options)].concat()
    }

    fn link() -> [u8; 20] {
        let mut link = [0; 20];
        link[7] = 3;
        link[10] = 4;
        link
    }

    fn tcp(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut tcp = [0; 20];
        tcp[..2].copy_from_slice(&4444u16.to_be_bytes());
        tcp[2..4].copy_from_slice(&80u16.to_be_bytes());
        tcp[4..8].copy_from_slice(&7777u32.to_be_bytes());
        tcp[12] = (((20 + options.len()) / 4) << 4) as u8;
        tcp[13] = flags;
        [&tcp[..], options].concat()
    }

    /// A capture with one packet.
    fn capture(packet: &[u8]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header: Vec<u8> = words(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 96, 276]);
        let length = packet.len() as u32;
        let record: Vec<u8> = words(&[7, 5, length, length]);
        [header, record, packet.to_vec()].concat()
    }

    fn only(packet: &[u8]) -> Segment {
        let segments = parse(&capture(packet)).unwrap();
        assert_eq!(segments.len(), 1);
        segments[0]
    }

    #[test]
    fn the_headers_are_read_in_both_families() {
        for (packet, from, to) in [
            (v4(SYN, &[], 100), "10.0.2.2:4444", "10.0.3.2:80"),
            (v6(SYN, &[], 100), "[::1]:4444", "[::2]:80"),
        ] {
            let segment = only(&packet);
            assert_eq!(segment.time, Duration::new(7, 5));
            assert_eq!(segment.from, from.parse().unwrap());
            assert_eq!(segment.to, to.parse().unwrap());
            assert!(segment.outgoing && segment.is_syn() && !segment.is_syn_ack());
            assert_eq!(
                (segment.seq, segment.length, segment.interface),
                (7777, 100, 3)
            );
        }
    }

    #[test]
    fn a_join_is_found_behind_other_options() {
        let options = [&[2, 4, 5, 180, 1, 1, 1, 1][..], &JOIN].concat();
        let token = 0xdead_beef;
        assert_eq!(
            only(&v4(SYN, &options, 0)).request,
            Some(Request::Join { token })
        );
    }

    #[test]
    fn a_capable_syn_and_a_plain_one_are_told_apart() {
        let request = |options| only(&v4(SYN, options, 0)).request;
        assert_eq!(request(&[30, 4, 1, 1]), Some(Request::Capable));
        assert_eq!(request(&[2, 4, 5, 180]), None);
        assert_eq!(request(&[]), None);
    }

    #[test]
    fn mappings_are_read_in_all_lengths() {
        // DATA_ACK of 4 and 8 bytes, DSN of 4 and 8 bytes, with and without checksum.
        let short = [
            &[30, 18, 0x20, 0x05][..],
            &[0, 0, 0, 9],
            &[0, 0, 1, 0],
            &[0, 0, 0, 2, 3, 232],
            &[1, 1],
        ];
        let long = [
            &[30, 28, 0x20, 0x1f][..],
            &[5, 5, 5, 5, 0, 0, 0, 9],
            &[6, 6, 6, 6, 0, 0, 1, 0],
            &[0, 0, 0, 2, 3, 232, 170, 170],
        ];
        for (options, data_fin) in [(short.concat(), false), (long.concat(), true)] {
            let segment = only(&v4(16, &options, 1000));
            assert_eq!(segment.data_ack, Some(9));
            let mapping = Mapping {
                dsn: 256,
                ssn: 2,
                length: 1000,
                data_fin,
            };
            assert_eq!(segment.mapping, Some(mapping));
        }
    }

    #[test]
    fn broken_options_do_not_loop() {
        for options in [
            &[30, 0, 0, 0][..],
            &[30, 200, 16, 0],
            &[8, 1, 30, 4],
            &[30, 4, 0x20, 0xff],
        ] {
            assert_eq!(only(&v4(SYN, options, 0)).mapping, None);
        }
    }

    #[test]
    fn a_capture_that_is_cut_short_is_an_error() {
        let whole = capture(&v4(SYN, &[], 0));
        assert!(parse(&whole[..whole.len() - 1]).is_err());
        assert!(parse(&whole[..30]).is_err());
        assert!(parse(&whole[..10]).is_err());
    }
}
