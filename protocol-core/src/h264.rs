//! H.264 in its byte stream format (Rec. ITU-T H.264, Annex B): where pictures begin and end.
//!
//! Nothing here decodes, and nothing is copied: the caller owns the bytes.

#[cfg(test)]
mod tests;

/// Types of NAL units (table 7-1).
pub mod nal_type {
    /// A slice of a picture that is not an IDR picture.
    pub const SLICE: u8 = 1;
    /// The first part of such a slice, where its data is partitioned.
    pub const PARTITION: u8 = 2;
    /// A slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// A sequence parameter set.
    pub const SPS: u8 = 7;
    /// A picture parameter set.
    pub const PPS: u8 = 8;
    /// An access unit delimiter.
    pub const AUD: u8 = 9;
}

/// What stands before each NAL unit; often with one more zero before it.
const START_CODE: [u8; 3] = [0, 0, 1];

fn find_start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let at = bytes.get(from..)?.windows(START_CODE.len()).position(|window| window == START_CODE)?;
    from.checked_add(at)
}

fn without_trailing_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1))
}

/// The type of a NAL unit, by its first byte.
pub const fn type_of(first: u8) -> u8 {
    first & 0x1f
}

/// The NAL units in bytes of the byte stream format, each without start code and the zeros behind it. What stands before
/// the first start code is passed over.
pub fn nal_units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let behind = |start: usize| start.saturating_add(START_CODE.len());
    let mut next = find_start_code(bytes, 0).map(behind);
    core::iter::from_fn(move || {
        let begin = next?;
        let following = find_start_code(bytes, begin);
        next = following.map(behind);
        let unit = bytes.get(begin..following.unwrap_or(bytes.len()))?;
        unit.get(..without_trailing_zeros(unit))
    })
    .filter(|unit| !unit.is_empty())
}

/// The beginning of what [`Splitter`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An access unit: one picture and what belongs to it.
    Unit {
        /// How many bytes it has.
        length: usize,
        /// It holds an IDR picture.
        is_idr: bool,
        /// Its first slice is the picture's first: nothing of the picture's beginning is missing.
        is_whole: bool,
    },
    /// Bytes that belong to no NAL unit that has begun here.
    Noise {
        /// How many.
        length: usize,
    },
}

impl Piece {
    /// How many bytes it has.
    pub const fn length(&self) -> usize {
        match self {
            Self::Unit { length, .. } | Self::Noise { length } => *length,
        }
    }
}

/// Cuts a stream of bytes into access units, by the rules of 7.4.1.2.3, as far as cameras need them: a slice begins a
/// picture if it begins with the picture's first macroblock.
///
/// The caller keeps the bytes. It calls [`Splitter::next`] with all that it holds, removes the piece that it is given from
/// the beginning, and calls again until there is none; and then again when more bytes have come behind. However the bytes
/// are split on their way, the units are the same.
///
/// Where a unit ends is known by the next one only. To wait for that would delay each picture by a whole one: when no
/// bytes come for a while, [`Splitter::flush`] takes what there is for a whole unit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Splitter {
    /// No start code that was not looked at begins before.
    scanned: usize,
    /// The bytes begin with a start code.
    has_begun: bool,
    has_slices: bool,
    is_idr: bool,
    misses_beginning: bool,
}

impl Splitter {
    /// The next piece at the beginning of `held`, if it is there as a whole.
    pub fn next(&mut self, held: &[u8]) -> Option<Piece> {
        while let Some(start) = find_start_code(held, self.scanned) {
            let before = start.checked_sub(1).filter(|at| held.get(*at) == Some(&0));
            let begin = before.unwrap_or(start);
            if !self.has_begun && begin > 0 {
                return Some(Piece::Noise { length: begin });
            }
            self.has_begun = true;
            self.scanned = start;
            let rest = held.get(start.saturating_add(START_CODE.len())..).unwrap_or_default();
            let (kind, is_first) = match rest {
                [] => return None,
                [first, rest @ ..] => match (type_of(*first), rest) {
                    (kind @ (nal_type::SLICE | nal_type::PARTITION | nal_type::IDR), rest) => {
                        // The number of the slice's first macroblock comes first, and 0 is written as a bit that is set.
                        let [second, ..] = rest else { return None };
                        (kind, second & 0x80 != 0)
                    }
                    (kind, _) => (kind, false),
                },
            };
            if self.has_slices && begins_unit(kind, is_first) {
                return Some(self.unit(begin));
            }
            self.note(kind, is_first);
            self.scanned = start.saturating_add(START_CODE.len());
        }
        self.scanned = held.len().saturating_sub(START_CODE.len().saturating_sub(1)).max(self.scanned);
        if self.has_begun {
            return None;
        }
        // Zeros at the end may belong to a start code.
        let zeros = held.len().saturating_sub(without_trailing_zeros(held)).min(START_CODE.len());
        let length = held.len().saturating_sub(zeros);
        self.scanned = 0;
        (length > 0).then_some(Piece::Noise { length })
    }

    /// The unit that `held` is, if nothing more belongs to it. [`Splitter::next`] has given nothing for the same bytes.
    pub fn flush(&mut self, held: &[u8]) -> Option<Piece> {
        let is_complete = self.has_slices && find_start_code(held, self.scanned).is_none();
        // Zeros at the end may belong to the next start code.
        is_complete.then(|| self.unit(without_trailing_zeros(held)))
    }

    /// Whether there is a picture that [`Splitter::flush`] would take for whole.
    pub const fn has_picture(&self) -> bool {
        self.has_slices
    }

    fn note(&mut self, kind: u8, is_first: bool) {
        if matches!(kind, nal_type::SLICE | nal_type::PARTITION | nal_type::IDR) {
            self.misses_beginning |= !self.has_slices && !is_first;
            self.has_slices = true;
            self.is_idr |= kind == nal_type::IDR;
        }
    }

    fn unit(&mut self, length: usize) -> Piece {
        let Self { is_idr, misses_beginning, .. } = core::mem::take(self);
        Piece::Unit { length, is_idr, is_whole: !misses_beginning }
    }
}

/// Whether a NAL unit behind a picture's slices belongs to the next picture.
const fn begins_unit(kind: u8, is_first: bool) -> bool {
    match kind {
        // A prefix (14) is left out: it stands before each slice, and not before the first of a picture only.
        nal_type::SEI..=nal_type::AUD | 15..=18 => true,
        _ => is_first,
    }
}
