use std::{vec, vec::Vec};

use proptest::{collection::vec as many, prelude::*};

use super::*;

/// A NAL unit with its start code.
fn nal(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1, 0x60 | kind], payload].concat()
}

const FIRST: &[u8] = &[0x88, 0x84, 0x21];
const LATER: &[u8] = &[0x40, 0x84, 0x21];

/// All pieces of `bytes`, which come in parts that end at `cuts`. What is left over comes last.
fn split(bytes: &[u8], cuts: &[usize]) -> (Vec<(Piece, Vec<u8>)>, Vec<u8>) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let (mut splitter, mut held, mut pieces) = (Splitter::default(), vec![], vec![]);
    for pair in cuts.windows(2) {
        held.extend_from_slice(&bytes[pair[0]..pair[1]]);
        while let Some(piece) = splitter.next(&held) {
            assert!((1..=held.len()).contains(&piece.length()), "{piece:?} of {held:02x?}");
            pieces.push((piece, held.drain(..piece.length()).collect()));
        }
    }
    (pieces, held)
}

fn units(bytes: &[u8], cuts: &[usize]) -> Vec<(Piece, Vec<u8>)> {
    let is_unit = |(piece, _): &(Piece, Vec<u8>)| matches!(piece, Piece::Unit { .. });
    split(bytes, cuts).0.into_iter().filter(is_unit).collect()
}

#[test]
fn units_begin_where_the_standard_says() {
    let idr =
        [nal(9, &[0x10]), nal(7, &[66]), nal(8, &[1]), nal(6, &[5]), nal(5, FIRST), nal(5, LATER)].concat();
    let plain = nal(1, FIRST);
    let with_sei = [nal(6, &[1]), nal(1, FIRST), nal(1, LATER), nal(12, &[0xff])].concat();
    let partitioned = [nal(2, FIRST), nal(3, LATER), nal(4, LATER)].concat();
    let all = [&idr[..], &plain, &with_sei, &partitioned, &plain].concat();
    let found = units(&all, &[]);
    let expected = [(&idr, true), (&plain, false), (&with_sei, false), (&partitioned, false)];
    assert_eq!(found.len(), expected.len());
    for ((piece, bytes), (unit, is_idr)) in found.iter().zip(expected) {
        assert_eq!(bytes, unit);
        assert_eq!(*piece, Piece::Unit { length: unit.len(), is_idr, is_whole: true });
    }
}

#[test]
fn a_quiet_line_ends_a_unit() {
    let (mut splitter, unit) = (Splitter::default(), [nal(7, &[66]), nal(5, FIRST)].concat());
    assert_eq!(splitter.next(&nal(7, &[66])), None);
    assert!(!splitter.has_picture() && splitter.flush(&nal(7, &[66])).is_none());
    assert_eq!(splitter.next(&unit), None);
    assert!(splitter.has_picture());
    // A start code whose NAL unit is not there yet, and zeros that may be one.
    let more = [&unit[..], &[0, 0, 0, 1]].concat();
    assert_eq!((splitter.next(&more), splitter.flush(&more)), (None, None));
    let mut splitter = Splitter::default();
    let zeros = [&unit[..], &[0, 0]].concat();
    assert_eq!(splitter.next(&zeros), None);
    let whole = Piece::Unit { length: unit.len(), is_idr: true, is_whole: true };
    assert_eq!(splitter.flush(&zeros), Some(whole));
    // What comes late belongs to nothing.
    let late = [&[0, 0, 9, 9][..], &nal(1, LATER), &nal(1, FIRST)].concat();
    assert_eq!(splitter.next(&late), Some(Piece::Noise { length: 4 }));
    let rest = Piece::Unit { length: nal(1, LATER).len(), is_idr: false, is_whole: false };
    assert_eq!(splitter.next(&late[4..]), Some(rest));
}

#[test]
fn nal_units_stand_between_start_codes() {
    let bytes = [&[9, 9][..], &nal(9, &[0x10]), &[0, 0], &[0, 0, 1, 0x65, 0x88, 0, 0, 3, 1]].concat();
    let found: Vec<_> = nal_units(&bytes).collect();
    assert_eq!(found, [&[0x69, 0x10][..], &[0x65, 0x88, 0, 0, 3, 1]]);
    assert_eq!(nal_units(&[0, 0, 1]).count() + nal_units(&[0, 0, 1, 0, 0, 1]).count(), 0);
    assert_eq!(nal_units(&[]).count(), 0);
}

/// Bytes in which start codes are frequent.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(vec![0, 0, 1]),
        Just(vec![0]),
        (0..32_u8, any::<u8>()).prop_map(|(kind, byte)| vec![0, 0, 0, 1, kind, byte]),
        many(any::<u8>(), 0..6),
    ];
    many(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_units(bytes in any_bytes(), cuts in many(0..300_usize, 0..40)) {
        prop_assert_eq!(units(&bytes, &cuts), units(&bytes, &[]));
    }

    #[test]
    fn nothing_is_lost_or_added(bytes in any_bytes(), cuts in many(0..300_usize, 0..40)) {
        let (pieces, rest) = split(&bytes, &cuts);
        let all: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).chain(rest).collect();
        prop_assert_eq!(all, bytes);
    }

    #[test]
    fn flushed_where_units_end_the_units_are_the_same(count in 1..6_usize, sizes in many(1..50_usize, 6)) {
        let stream: Vec<_> = sizes.iter().take(count).map(|size| nal(1, &[0x9a].repeat(*size))).collect();
        let mut splitter = Splitter::default();
        for unit in &stream {
            prop_assert_eq!(splitter.next(unit), None);
            let piece = Piece::Unit { length: unit.len(), is_idr: false, is_whole: true };
            prop_assert_eq!(splitter.flush(unit), Some(piece));
        }
    }

    #[test]
    fn nothing_that_is_not_begun_is_kept(bytes in any_bytes()) {
        let (_, rest) = split(&bytes, &[]);
        let has_start = rest.windows(3).any(|window| window == START_CODE);
        prop_assert!(has_start || rest.len() <= START_CODE.len() , "{rest:02x?}");
    }
}
