// SPDX-License-Identifier: GPL-2.0
//! The data of a connection, found again in the segments that carry it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use smapp_tests::segment::{Mapping, Request, Segment};

/// Some data of a connection in one segment, a retransmission perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// When it was on the wire, since the Unix epoch.
    pub time: Duration,
    /// Where the subflow comes from.
    pub from: SocketAddr,
    /// Place of its first byte in the data of the connection.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// The data that segments bring to a port, of one connection.
///
/// Places count from the lowest that is seen behind the handshake: what comes with
/// the handshake (MP_CAPABLE) has no mapping. The SYNs of the subflows must be among the
/// segments. Data without a mapping is an error.
pub fn pieces(segments: &[Segment], port: u16) -> Result<Vec<Piece>> {
    let mut flows: BTreeMap<(SocketAddr, SocketAddr), Flow> = BTreeMap::new();
    let mut found = Vec::new();
    for segment in segments.iter().filter(|segment| segment.to.port() == port) {
        if segment.is_syn() {
            let flow = flows.entry((segment.from, segment.to)).or_default();
            flow.first = segment.seq;
            continue;
        }
        if segment.length == 0 || segment.request == Some(Request::Capable) {
            continue;
        }
        let flow = flows.get_mut(&(segment.from, segment.to));
        let flow = flow.with_context(|| format!("no SYN before {segment:?}"))?;
        let dsn = flow.dsn(segment);
        let dsn = dsn.with_context(|| format!("no mapping for {segment:?}"))?;
        found.push((segment, dsn));
    }
    let any = found.first().map_or(0, |&(_, dsn)| dsn);
    // The first may come late: its first copy may have been lost.
    let place = |dsn: u32| dsn.wrapping_sub(any) as i32;
    let base = found.iter().map(|&(_, dsn)| place(dsn)).min().unwrap_or(0);
    let piece = |&(segment, dsn): &(&Segment, u32)| Piece {
        time: segment.time,
        from: segment.from,
        start: u64::from(place(dsn).abs_diff(base)),
        length: segment.length.into(),
    };
    Ok(found.iter().map(piece).collect())
}

/// One direction of a subflow.
#[derive(Default)]
struct Flow {
    /// Sequence number of the SYN.
    first: u32,
    /// By the place on the subflow where they begin.
    mappings: BTreeMap<u32, Mapping>,
}

impl Flow {
    /// The data sequence number of the first byte of a segment.
    fn dsn(&mut self, segment: &Segment) -> Option<u32> {
        if let Some(mapping) = segment.mapping {
            self.mappings.insert(mapping.ssn, mapping);
        }
        let place = segment.seq.wrapping_sub(self.first);
        let (_, mapping) = self.mappings.range(..=place).next_back()?;
        let offset = place - mapping.ssn;
        let within = offset < mapping.length - u32::from(mapping.data_fin);
        within.then(|| mapping.dsn.wrapping_add(offset))
    }
}

/// When the data of a connection was complete up to each place, in the order of both.
pub fn progress(pieces: &[Piece]) -> Vec<(Duration, u64)> {
    let mut early: BTreeMap<u64, u64> = BTreeMap::new();
    let mut complete = 0;
    let mut progress = Vec::new();
    for piece in pieces {
        let end = piece.start + piece.length;
        let known = early.entry(piece.start).or_default();
        *known = end.max(*known);
        let before = complete;
        while let Some(first) = early.first_entry().filter(|first| *first.key() <= complete) {
            complete = first.remove().max(complete);
        }
        if complete > before {
            progress.push((piece.time, complete));
        }
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    fn segment(ms: u64, from: u16, seq: u32, length: u32) -> Segment {
        Segment {
            time: Duration::from_millis(ms),
            outgoing: true,
            interface: 1,
            from: any(from),
            to: any(80),
            flags: 16,
            seq,
            length,
            request: None,
            mapping: None,
            data_ack: None,
        }
    }

    fn syn(from: u16, seq: u32) -> Segment {
        Segment {
            flags: 2,
            ..segment(0, from, seq, 0)
        }
    }

    fn mapped(segment: Segment, dsn: u32, ssn: u32, length: u32) -> Segment {
        let mapping = Some(Mapping {
            dsn,
            ssn,
            length,
            data_fin: false,
        });
        Segment { mapping, ..segment }
    }

    fn places(segments: &[Segment]) -> Vec<(u16, u64, u64)> {
        let pieces = pieces(segments, 80).unwrap();
        pieces
            .iter()
            .map(|p| (p.from.port(), p.start, p.length))
            .collect()
    }

    #[test]
    fn subflows_carry_one_stream() {
        // The numbers of the data and of one subflow wrap around.
        let segments = [
            syn(1, u32::MAX),
            syn(2, 500),
            mapped(segment(1, 1, 0, 100), u32::MAX - 49, 1, 100),
            mapped(segment(2, 2, 501, 10), 50, 1, 10),
            mapped(segment(3, 2, 511, 10), 60, 11, 10),
        ];
        assert_eq!(places(&segments), [(1, 0, 100), (2, 100, 10), (2, 110, 10)]);
    }

    #[test]
    fn a_part_of_a_mapping_has_its_place() {
        let segments = [
            syn(1, 0),
            mapped(segment(1, 1, 1, 100), 1000, 1, 300),
            segment(2, 1, 201, 100),
        ];
        assert_eq!(places(&segments), [(1, 0, 100), (1, 200, 100)]);
    }

    #[test]
    fn the_first_data_may_come_late() {
        let segments = [
            syn(1, 0),
            mapped(segment(1, 1, 101, 100), 1100, 101, 100),
            mapped(segment(2, 1, 1, 100), 1000, 1, 100),
        ];
        assert_eq!(places(&segments), [(1, 100, 100), (1, 0, 100)]);
    }

    #[test]
    fn data_without_a_place_is_an_error() {
        assert!(pieces(&[segment(1, 1, 1, 100)], 80).is_err());
        assert!(pieces(&[syn(1, 0), segment(1, 1, 1, 100)], 80).is_err());
        let behind = [
            syn(1, 0),
            mapped(segment(1, 1, 1, 100), 1000, 1, 100),
            segment(2, 1, 101, 100),
        ];
        assert!(pieces(&behind, 80).is_err());
    }

    #[test]
    fn data_is_complete_when_its_gaps_are_filled() {
        let piece = |ms, start, length| Piece {
            time: Duration::from_millis(ms),
            from: any(1),
            start,
            length,
        };
        let pieces = [
            piece(1, 0, 10),
            piece(2, 20, 10),
            piece(3, 20, 15),
            piece(4, 10, 10),
            piece(5, 0, 10),
            piece(6, 35, 5),
        ];
        let expected = [(1, 10), (4, 35), (6, 40)];
        let expected = expected.map(|(ms, complete)| (Duration::from_millis(ms), complete));
        assert_eq!(progress(&pieces), expected);
    }
}
