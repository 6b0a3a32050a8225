//! Access units: however the bytes are split, the units are the same; and no byte is lost, whatever is flushed.

use protocol_core::h264::{Piece, Splitter, nal_units};

use super::Script;

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let (mut all, mut reads) = (Vec::new(), Vec::new());
    while !script.is_done() {
        let operation = script.byte();
        let bytes = script.take(usize::from(operation / 4));
        all.extend_from_slice(bytes);
        reads.push((bytes, operation % 4 == 0));
    }
    let at_once = units(&play(&[(&all[..], false)]).0);
    let by_reads: Vec<_> = reads.iter().map(|(bytes, _)| (*bytes, false)).collect();
    let byte_by_byte: Vec<_> = all.chunks(1).map(|byte| (byte, false)).collect();
    assert_eq!(units(&play(&by_reads).0), at_once, "in its reads it is otherwise");
    assert_eq!(units(&play(&byte_by_byte).0), at_once, "byte by byte it is otherwise");
    let (flushed, rest) = play(&reads);
    let whole: Vec<u8> = flushed.iter().flat_map(|(_, bytes)| bytes.clone()).chain(rest).collect();
    assert_eq!(whole, all, "bytes were lost or added");
    for (piece, bytes) in &flushed {
        let has_slices = nal_units(bytes).next().is_some();
        assert!(has_slices == matches!(piece, Piece::Unit { .. }), "{piece:?} of {bytes:02x?}");
    }
}

type Pieces = Vec<(Piece, Vec<u8>)>;

/// Plays the reads; behind some of them it is quiet. Gives the pieces, and what is left over.
fn play(reads: &[(&[u8], bool)]) -> (Pieces, Vec<u8>) {
    let (mut splitter, mut held, mut pieces) = (Splitter::default(), Vec::new(), Vec::new());
    for (bytes, is_quiet) in reads {
        held.extend_from_slice(bytes);
        loop {
            let next = splitter.next(&held);
            let Some(piece) = next.or_else(|| is_quiet.then(|| splitter.flush(&held)).flatten()) else {
                break;
            };
            assert!((1..=held.len()).contains(&piece.length()), "{piece:?} of {held:02x?}");
            pieces.push((piece, held.drain(..piece.length()).collect()));
        }
    }
    (pieces, held)
}

fn units(pieces: &Pieces) -> Pieces {
    pieces.iter().filter(|(piece, _)| matches!(piece, Piece::Unit { .. })).cloned().collect()
}
