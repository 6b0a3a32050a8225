//! What decoding begins with: the parameter sets of a keyframe, and what they say of its pictures.

use std::fmt;

use h264_reader::nal::{Nal, RefNal, sps::SeqParameterSet};
use protocol_core::h264::{nal_type, nal_units, type_of};

/// The longest parameter set that is taken, in bytes: real ones have some dozens.
const LONGEST: usize = 1024;

/// How many sets of parameters of pictures there may be.
const MOST_PICTURE_PARAMETERS: usize = 16;

/// The parameter sets of a keyframe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The one of the sequence (SPS).
    pub(super) sequence: Vec<u8>,
    /// Those of pictures (PPS).
    pub(super) pictures: Vec<Vec<u8>>,
    /// In pixels.
    width: u16,
    height: u16,
    /// The format of colours, and how many bits those have.
    colours: [u8; 3],
}

impl Parameters {
    /// Reads those of an access unit in the form of Annex B. None: it is no keyframe, or not a whole one.
    pub fn find(access_unit: &[u8]) -> Option<Self> {
        let (mut sequence, mut pictures, mut is_keyframe) = (None, Vec::new(), false);
        for unit in nal_units(access_unit) {
            match unit.first().map(|first| type_of(*first)) {
                Some(nal_type::SPS) => sequence = Some(unit),
                Some(nal_type::PPS) if unit.len() > LONGEST => return None,
                Some(nal_type::PPS) => pictures.push(unit.to_vec()),
                Some(nal_type::IDR) => is_keyframe = true,
                _ => {}
            }
        }
        let sequence = sequence.filter(|set| (4..=LONGEST).contains(&set.len()))?;
        let has_pictures = (1..=MOST_PICTURE_PARAMETERS).contains(&pictures.len());
        if !is_keyframe || !has_pictures {
            return None;
        }
        let nal = RefNal::new(sequence, &[], true);
        let read = SeqParameterSet::from_bits(nal.rbsp_bits()).ok()?;
        let (width, height) = read.pixel_dimensions().ok()?;
        let in_pixels = |size| u16::try_from(size).ok().filter(|size| *size > 0);
        let colours = &read.chroma_info;
        Some(Self {
            sequence: sequence.to_vec(),
            pictures,
            width: in_pixels(width)?,
            height: in_pixels(height)?,
            colours: [
                colours.chroma_format.to_u32() as u8 & 3,
                colours.bit_depth_luma_minus8 & 7,
                colours.bit_depth_chroma_minus8 & 7,
            ],
        })
    }

    /// The width and the height of the pictures, in pixels.
    pub const fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// Which decoder the pictures need, as browsers know it (RFC 6381): `avc1.42c01f`.
    pub fn codec(&self) -> String {
        let [profile, constraints, level] = self.profile();
        format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
    }

    /// What the head of a file says of colours where the profile has a choice: their format, their bits less 8, and no
    /// more parameter sets.
    pub(super) const fn colours(&self) -> [u8; 4] {
        let [format, luma, chroma] = self.colours;
        [0xfc | format, 0xf8 | luma, 0xf8 | chroma, 0]
    }

    /// The profile, its constraints, and the level.
    pub(super) fn profile(&self) -> [u8; 3] {
        self.sequence.get(1..4).and_then(|three| three.try_into().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} × {} pixels", self.codec(), self.width, self.height)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::Parameters;

    /// A keyframe of 64 × 48 pixels in the baseline profile, as x264 makes it; its picture itself is none.
    pub(in crate::video) const KEYFRAME: &[u8] =
        b"\0\0\0\x01\x67\x42\xc0\x0a\xda\x11\xec\x04\x40\0\0\x03\0\x40\0\0\x07\x83\xc4\x89\xa8\
        \0\0\0\x01\x68\xce\x0f\xc8\0\0\x01\x65picture";

    #[test]
    fn a_keyframe_tells_size_and_codec() {
        let found = Parameters::find(KEYFRAME).unwrap();
        assert_eq!(found.codec(), "avc1.42c00a");
        assert_eq!(found.size(), (64, 48));
    }

    #[test]
    fn what_is_not_whole_is_no_keyframe() {
        let at = |pattern: &[u8]| KEYFRAME.windows(pattern.len()).position(|part| part == pattern).unwrap();
        let (pictures, idr) = (at(b"\0\0\0\x01\x68"), at(b"\0\0\x01\x65"));
        let without = |from: usize, to: usize| [&KEYFRAME[..from], &KEYFRAME[to..]].concat();
        assert_eq!(Parameters::find(&without(0, pictures)), None, "no parameters of the sequence");
        assert_eq!(Parameters::find(&without(pictures, idr)), None, "none of pictures");
        assert_eq!(Parameters::find(&without(idr, KEYFRAME.len())), None, "no picture");
        for length in 0..pictures {
            let cut = [&KEYFRAME[..length], &KEYFRAME[pictures..]].concat();
            // What is cut off may still be read; it must not be believed to be large, or panic.
            let _ = Parameters::find(&cut);
        }
    }

    #[test]
    fn hostile_bytes_harm_nobody() {
        for seed in 0..2_000_u32 {
            let noise = (0..40_u32).map(|at| (seed.wrapping_mul(2_654_435_761).rotate_left(at) ^ at) as u8);
            let mut unit = b"\0\0\x01\x67".to_vec();
            unit.extend(noise);
            unit.extend_from_slice(b"\0\0\x01\x68\xce\0\0\x01\x65picture");
            if let Some(found) = Parameters::find(&unit) {
                assert!(found.size().0 > 0);
            }
        }
        let large = [b"\0\0\x01\x67".to_vec(), vec![0xff; 2 << 20], b"\0\0\x01\x68\xce\0\0\x01\x65".to_vec()]
            .concat();
        assert_eq!(Parameters::find(&large), None);
        let many = [KEYFRAME, &b"\0\0\x01\x68\xce".repeat(10_000)].concat();
        assert_eq!(Parameters::find(&many), None);
    }
}
