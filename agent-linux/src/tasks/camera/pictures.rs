//! From the bytes that a camera's program writes to pictures, each as soon as it is there.

use std::time::Duration;

use protocol_core::{
    h264::{Piece, Splitter, nal_type, nal_units, type_of},
    message::Unit,
};
use tokio::time::Instant;

/// How long the program must be quiet, so that what it has written is taken for a whole picture: to wait for the next one
/// would delay each by a whole one.
const QUIET: Duration = Duration::from_millis(2);

/// The same, at most, with a program that pauses in the middle of its pictures.
const LONGEST_QUIET: Duration = Duration::from_millis(32);

/// The longest parameter sets that are kept, in bytes: none is nearly as long.
const LONGEST_PARAMETERS: usize = 4 * 1024;

/// A picture: an access unit that can be decoded behind those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// When its first byte came.
    pub(crate) at: Instant,
    /// It is an IDR picture with its parameter sets.
    pub(crate) is_keyframe: bool,
    /// The access unit, with start codes.
    pub(crate) bytes: Vec<u8>,
}

/// What came of a camera's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A picture.
    Picture(Picture),
    /// A picture that can't be decoded: what it builds on was not there, or was damaged.
    Unusable,
}

/// Cuts a camera's bytes into pictures.
pub(super) struct Pictures {
    splitter: Splitter,
    /// What was not given yet: the longest picture and one piece at most.
    held: Vec<u8>,
    /// When the first byte that is held came.
    began: Instant,
    /// When the last one did.
    came: Instant,
    quiet: Duration,
    /// The last picture was ended by quiet.
    was_flushed: bool,
    /// Quiet has ended nothing: what is held ends in the middle of something, and more has to come.
    is_cut: bool,
    /// Nothing can be decoded before the next keyframe.
    needs_keyframe: bool,
    /// The newest parameter sets, with start codes.
    sequence: Vec<u8>,
    picture: Vec<u8>,
}

impl Pictures {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            splitter: Splitter::default(),
            held: Vec::new(),
            began: now,
            came: now,
            quiet: QUIET,
            was_flushed: false,
            is_cut: false,
            needs_keyframe: true,
            sequence: Vec::new(),
            picture: Vec::new(),
        }
    }

    /// Takes what came. [`Pictures::next`] gives what is whole.
    pub(super) fn push(&mut self, now: Instant, bytes: &[u8]) {
        if self.held.is_empty() {
            self.began = now;
        }
        self.came = now;
        self.is_cut = false;
        self.held.extend_from_slice(bytes);
    }

    /// The next picture that is whole, or was one.
    pub(super) fn next(&mut self) -> Option<Found> {
        while let Some(piece) = self.splitter.next(&self.held) {
            if let Some(found) = self.take(piece) {
                return Some(found);
            }
        }
        if self.held.len() > Unit::LONGEST {
            self.held.clear();
            self.splitter = Splitter::default();
            self.needs_keyframe = true;
            return Some(Found::Unusable);
        }
        None
    }

    /// When what is held is taken for a whole picture, if no more comes before.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        (self.splitter.has_picture() && !self.is_cut).then(|| self.came + self.quiet)
    }

    /// Takes what is held for a whole picture.
    pub(super) fn flush(&mut self) -> Option<Found> {
        let Some(piece) = self.splitter.flush(&self.held) else {
            self.is_cut = true;
            return None;
        };
        let found = self.take(piece);
        self.was_flushed = true;
        found
    }

    fn take(&mut self, piece: Piece) -> Option<Found> {
        let at = self.began;
        let bytes: Vec<u8> = self.held.drain(..piece.length()).collect();
        self.began = self.came;
        let was_flushed = std::mem::take(&mut self.was_flushed);
        let (is_idr, is_whole) = match piece {
            // Zeros may stand between pictures.
            Piece::Noise { .. } if bytes.iter().all(|byte| *byte == 0) => {
                self.was_flushed = was_flushed;
                return None;
            }
            Piece::Noise { .. } => (false, false),
            Piece::Unit { is_idr, is_whole, .. } => (is_idr, is_whole),
        };
        if !is_whole {
            if was_flushed {
                // The rest of a picture that was taken for whole: this program needs more time.
                self.quiet = (self.quiet * 2).min(LONGEST_QUIET);
            }
            self.needs_keyframe = true;
            return matches!(piece, Piece::Unit { .. }).then_some(Found::Unusable);
        }
        let bytes = if is_idr { self.with_parameters(bytes) } else { self.noting_parameters(bytes) };
        let is_keyframe = is_idr && has(&bytes, nal_type::SPS) && has(&bytes, nal_type::PPS);
        self.needs_keyframe &= !is_keyframe;
        Some(match self.needs_keyframe {
            true => Found::Unusable,
            false => Found::Picture(Picture { at, is_keyframe, bytes }),
        })
    }

    /// Remembers the parameter sets of a picture.
    fn noting_parameters(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        for (kind, kept) in [(nal_type::SPS, &mut self.sequence), (nal_type::PPS, &mut self.picture)] {
            let found = parameters(&bytes, kind);
            if !found.is_empty() && found.len() <= LONGEST_PARAMETERS {
                *kept = found;
            }
        }
        bytes
    }

    /// A picture with its parameter sets: not all cameras repeat them.
    fn with_parameters(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let bytes = self.noting_parameters(bytes);
        let missing = |kind, kept: &[u8]| if has(&bytes, kind) { Vec::new() } else { kept.to_vec() };
        let mut missing =
            [missing(nal_type::SPS, &self.sequence), missing(nal_type::PPS, &self.picture)].concat();
        if missing.is_empty() {
            return bytes;
        }
        // A delimiter is always the first.
        let delimiter = parameters(&bytes, nal_type::AUD);
        let rest: Vec<u8> = nal_units(&bytes)
            .filter(|unit| kind_of(unit) != nal_type::AUD)
            .flat_map(with_start_code)
            .collect();
        let mut whole = delimiter;
        whole.append(&mut missing);
        whole.extend(rest);
        whole
    }
}

const fn kind_of(unit: &[u8]) -> u8 {
    match unit.first() {
        Some(first) => type_of(*first),
        None => 0,
    }
}

fn with_start_code(unit: &[u8]) -> impl Iterator<Item = u8> {
    [0, 0, 0, 1].into_iter().chain(unit.iter().copied())
}

fn has(bytes: &[u8], kind: u8) -> bool {
    nal_units(bytes).any(|unit| kind_of(unit) == kind)
}

/// The NAL units of one type, with start codes.
fn parameters(bytes: &[u8], kind: u8) -> Vec<u8> {
    nal_units(bytes).filter(|unit| kind_of(unit) == kind).flat_map(with_start_code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, 1, 0x60 | kind], payload].concat()
    }

    fn keyframe() -> Vec<u8> {
        [nal(7, &[66, 1]), nal(8, &[2, 1]), nal(5, &[0x88, 9])].concat()
    }

    #[test]
    fn what_stops_in_the_middle_is_waited_for() {
        let start = Instant::now();
        let mut pictures = Pictures::new(start);
        pictures.push(start, &[keyframe(), vec![0, 0, 1]].concat());
        assert_eq!(pictures.next(), None);
        assert_eq!(pictures.flush_at(), Some(start + QUIET));
        assert_eq!(pictures.flush(), None);
        assert_eq!(pictures.flush_at(), None, "quiet says nothing new");
        pictures.push(start, &[0x61, 0x9a, 1]);
        assert!(matches!(pictures.next(), Some(Found::Picture(picture)) if picture.bytes == keyframe()));
        assert_eq!(pictures.next(), None);
        assert_eq!(pictures.flush_at(), Some(start + QUIET), "and quiet ends the next one");
    }

    /// What is found of bytes that come in these parts, each followed by quiet.
    fn found(pictures: &mut Pictures, parts: &[Vec<u8>]) -> Vec<Option<(bool, Vec<u8>)>> {
        let mut all = Vec::new();
        for part in parts {
            pictures.push(Instant::now(), part);
            while let Some(found) = pictures.next().or_else(|| pictures.flush()) {
                all.push(match found {
                    Found::Picture(picture) => Some((picture.is_keyframe, picture.bytes)),
                    Found::Unusable => None,
                });
            }
        }
        all
    }

    #[test]
    fn pictures_are_given_when_it_is_quiet() {
        let mut pictures = Pictures::new(Instant::now());
        let plain = nal(1, &[0x9a, 5]);
        let all = found(&mut pictures, &[plain.clone(), keyframe(), plain.clone(), plain.clone()]);
        let usable = |is_keyframe, bytes: &Vec<u8>| Some((is_keyframe, bytes.clone()));
        assert_eq!(all, [None, usable(true, &keyframe()), usable(false, &plain), usable(false, &plain)]);
        assert_eq!((pictures.flush_at(), pictures.quiet), (None, QUIET));
    }

    #[test]
    fn parameter_sets_are_put_before_keyframes_that_lack_them() {
        let mut pictures = Pictures::new(Instant::now());
        let bare = [nal(9, &[0x10]), nal(6, &[1, 1]), nal(5, &[0x88, 9])].concat();
        assert_eq!(found(&mut pictures, std::slice::from_ref(&bare)), [None], "nothing is known of it");
        found(&mut pictures, &[keyframe()]);
        let whole = [nal(9, &[0x10]), nal(7, &[66, 1]), nal(8, &[2, 1]), nal(6, &[1, 1]), nal(5, &[0x88, 9])]
            .concat();
        assert_eq!(found(&mut pictures, &[bare]), [Some((true, whole))]);
        // The newest ones count.
        let newer = [nal(8, &[2, 7]), nal(1, &[0x9a, 5])].concat();
        found(&mut pictures, &[newer]);
        let all = found(&mut pictures, &[nal(5, &[0x88, 9])]);
        assert_eq!(all, [Some((true, [nal(7, &[66, 1]), nal(8, &[2, 7]), nal(5, &[0x88, 9])].concat()))]);
    }

    #[test]
    fn a_picture_that_comes_with_pauses_costs_those_up_to_the_next_keyframe_and_teaches_patience() {
        let mut pictures = Pictures::new(Instant::now());
        let (begin, rest) = (nal(1, &[0x9a, 5]), vec![9, 9, 9]);
        let slices = [nal(1, &[0x9a, 5]), nal(1, &[0x40, 5])];
        for (pause, more) in [(begin, rest), (slices[0].clone(), slices[1].clone())] {
            let before = pictures.quiet;
            let all = found(&mut pictures, &[keyframe(), pause, more, nal(1, &[0x9a, 6]), keyframe()]);
            assert_eq!(pictures.quiet, before * 2);
            let usable: Vec<_> = all.iter().map(Option::is_some).collect();
            assert!(
                usable.starts_with(&[true, true, false]) && usable.ends_with(&[false, true]),
                "{usable:?}"
            );
        }
        for _ in 0..10 {
            found(&mut pictures, &[keyframe(), vec![9]]);
        }
        assert_eq!(pictures.quiet, LONGEST_QUIET);
    }

    #[test]
    fn memory_is_bounded() {
        let mut pictures = Pictures::new(Instant::now());
        let mut unusable = 0;
        pictures.push(Instant::now(), &keyframe());
        for _ in 0..100 {
            pictures.push(Instant::now(), &[0x55; 64 * 1024]);
            while let Some(found) = pictures.next() {
                unusable += usize::from(found == Found::Unusable);
            }
            assert!(pictures.held.len() <= Unit::LONGEST);
        }
        // What is behind it belongs to nothing, and is not kept.
        assert_eq!((unusable, pictures.held.len()), (1, 0));
    }
}
