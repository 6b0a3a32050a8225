//! Fragmented MP4 (ISO/IEC 14496-12 and -15) of one track of H.264: what browsers, players and files take.
//!
//! A head that says how pictures are decoded, and then fragments, each of one or more pictures. What has been written can
//! be played, however it ends.

use hyper::body::Bytes;

use super::{parameters::Parameters, unit::Unit};

/// The units of time in a second.
pub const TIMESCALE: u64 = 90_000;

/// The media type of a stream with these parameters, as browsers want to know it.
pub fn media_type(parameters: &Parameters) -> String {
    format!("video/mp4; codecs=\"{}\"", parameters.codec())
}

/// A picture in a fragment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// How long it is shown, in [`TIMESCALE`].
    pub duration: u32,
    /// Whether decoding can begin with it.
    pub is_keyframe: bool,
    /// Its NAL units, each behind its length.
    pub bytes: Bytes,
}

/// The head of a file or stream.
pub fn head(parameters: &Parameters) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    boxed(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso5");
        word(out, 512);
        out.extend_from_slice(b"iso5iso6mp41");
    });
    boxed(&mut out, b"moov", |out| {
        full(out, b"mvhd", 0, |out| {
            words(out, &[0, 0, 1_000, 0, ONE, 0x0100_0000, 0, 0]);
            words(out, &MATRIX);
            words(out, &[0; 6]);
            word(out, TRACK + 1);
        });
        boxed(out, b"trak", |out| track(out, parameters));
        boxed(out, b"mvex", |out| full(out, b"trex", 0, |out| words(out, &[TRACK, 1, 0, 0, 0])));
    });
    out
}

/// A box of words: players pass over it, and whoever wants to know how a stream does, or why it has ended, finds it there.
pub fn words_beside(words: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + words.len());
    boxed(&mut out, b"free", |out| out.extend_from_slice(words.as_bytes()));
    out
}

/// The only track.
const TRACK: u32 = 1;

/// One, with 16 bits behind the point.
const ONE: u32 = 1 << 16;

/// Nothing is turned or stretched.
const MATRIX: [u32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30];

fn track(out: &mut Vec<u8>, parameters: &Parameters) {
    let (width, height) = parameters.size();
    // It is enabled, and shown.
    full(out, b"tkhd", 3, |out| {
        words(out, &[0, 0, TRACK, 0, 0, 0, 0, 0, 0]);
        words(out, &MATRIX);
        words(out, &[u32::from(width) << 16, u32::from(height) << 16]);
    });
    boxed(out, b"mdia", |out| {
        full(out, b"mdhd", 0, |out| {
            words(out, &[0, 0, TIMESCALE as u32, 0]);
            // No language, as `und` is packed.
            word(out, 0x55c4_0000);
        });
        full(out, b"hdlr", 0, |out| {
            word(out, 0);
            out.extend_from_slice(b"vide");
            words(out, &[0; 3]);
            out.extend_from_slice(b"camera\0");
        });
        boxed(out, b"minf", |out| {
            full(out, b"vmhd", 1, |out| words(out, &[0; 2]));
            boxed(out, b"dinf", |out| {
                full(out, b"dref", 0, |out| {
                    word(out, 1);
                    // What is shown stands in the same file.
                    full(out, b"url ", 1, |_| {});
                });
            });
            boxed(out, b"stbl", |out| {
                full(out, b"stsd", 0, |out| {
                    word(out, 1);
                    boxed(out, b"avc1", |out| entry(out, parameters));
                });
                // All pictures stand in fragments.
                for (name, count) in [(b"stts", 1), (b"stsc", 1), (b"stsz", 2), (b"stco", 1)] {
                    full(out, name, 0, |out| words(out, &[0; 2][..count]));
                }
            });
        });
    });
}

/// How pictures are decoded.
fn entry(out: &mut Vec<u8>, parameters: &Parameters) {
    let (width, height) = parameters.size();
    // The first description of where the data is.
    words(out, &[0, 1, 0, 0, 0, 0]);
    short(out, width);
    short(out, height);
    // 72 pixels an inch; one picture in each sample; no name; colours of 24 bits.
    words(out, &[72 << 16, 72 << 16, 0]);
    short(out, 1);
    out.extend_from_slice(&[0; 32]);
    words(out, &[0x0018_ffff]);
    boxed(out, b"avcC", |out| {
        let [profile, constraints, level] = parameters.profile();
        // Lengths have four bytes; one parameter set of the sequence. They are bounded where they are read.
        out.extend_from_slice(&[1, profile, constraints, level, 0xff, 0xe1]);
        counted(out, &parameters.sequence);
        out.push(parameters.pictures.len() as u8);
        parameters.pictures.iter().for_each(|set| counted(out, set));
        if [100, 110, 122, 144].contains(&profile) {
            out.extend_from_slice(&parameters.colours());
        }
    });
}

fn counted(out: &mut Vec<u8>, set: &[u8]) {
    short(out, set.len() as u16);
    out.extend_from_slice(set);
}

/// A fragment of these pictures, the first of which is decoded at this time, in [`TIMESCALE`].
pub fn fragment(sequence: u32, decode_time: u64, samples: &[Sample]) -> Vec<u8> {
    let bytes: usize = samples.iter().map(|sample| sample.bytes.len()).sum();
    let mut out = Vec::with_capacity(bytes + 100 + 12 * samples.len());
    let mut offset_at = 0;
    boxed(&mut out, b"moof", |out| {
        full(out, b"mfhd", 0, |out| word(out, sequence));
        boxed(out, b"traf", |out| {
            // Offsets are counted from the beginning of the fragment.
            full(out, b"tfhd", 0x02_0000, |out| word(out, TRACK));
            full(out, b"tfdt", 1 << 24, |out| out.extend_from_slice(&decode_time.to_be_bytes()));
            // An offset; and of each picture duration, size and flags.
            full(out, b"trun", 0x00_0701, |out| {
                word(out, samples.len() as u32);
                offset_at = out.len();
                word(out, 0);
                for sample in samples {
                    // Whether it needs others, and whether one can begin with it.
                    let flags = if sample.is_keyframe { 0x0200_0000 } else { 0x0101_0000 };
                    words(out, &[sample.duration, sample.bytes.len() as u32, flags]);
                }
            });
        });
    });
    let offset = (out.len() as u32 + 8).to_be_bytes();
    if let Some(place) = out.get_mut(offset_at..offset_at + 4) {
        place.copy_from_slice(&offset);
    }
    boxed(&mut out, b"mdat", |out| samples.iter().for_each(|sample| out.extend_from_slice(&sample.bytes)));
    out
}

/// Where the first picture stands in a fragment's `moof`, as [`fragment`] writes it, and how many bytes each has there.
const SAMPLES_AT: usize = 88;
const SAMPLE_LENGTH: usize = 12;

/// What the `moof` of a fragment, as [`fragment`] writes it, says of its pictures: how many they are, and when the last of
/// them ends, in [`TIMESCALE`].
pub fn told_by(moof: &[u8]) -> Option<(u64, u64)> {
    let time = u64::from_be_bytes(*moof.get(60..)?.first_chunk()?);
    let samples = moof.get(SAMPLES_AT..)?.chunks_exact(SAMPLE_LENGTH);
    let count = samples.len() as u64;
    let durations = samples.filter_map(|sample| Some(u32::from_be_bytes(*sample.first_chunk()?)));
    Some((count, durations.fold(time, |end, duration| end.saturating_add(duration.into()))))
}

fn boxed(out: &mut Vec<u8>, name: &[u8; 4], content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    word(out, 0);
    out.extend_from_slice(name);
    content(out);
    let size = ((out.len() - start) as u32).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size);
    }
}

/// A box with a version, in the highest byte, and flags.
fn full(out: &mut Vec<u8>, name: &[u8; 4], flags: u32, content: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, name, |out| {
        word(out, flags);
        content(out);
    });
}

fn short(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn word(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn words(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| word(out, *number));
}

/// Makes fragments of a stream that is watched as it comes: one for each picture, whose times never jump.
///
/// A browser that finds a gap throws all away until the next keyframe, and a picture that comes a moment too early is not
/// shown at all. So each step of time is kept near the time of one picture, whatever the device says.
#[derive(Debug)]
pub struct Fragmenter {
    sequence: u32,
    /// How long a picture lasts, as they come, in microseconds.
    frame_time: u64,
    /// When the last picture came from the camera.
    last: Option<u64>,
    /// When the next one is decoded, in [`TIMESCALE`].
    decode_time: u64,
}

/// How long a picture lasts where nobody says it, in microseconds.
const FRAME_TIME: u64 = 33_333;

/// How long one may last.
const FRAME_TIMES: std::ops::RangeInclusive<u64> = 2_000..=2_000_000;

impl Fragmenter {
    /// Of a camera that gives so many pictures a second; 0 if that is not known.
    pub fn new(framerate: u16) -> Self {
        let frame_time = 1_000_000_u64.checked_div(framerate.into()).unwrap_or(FRAME_TIME);
        let frame_time = frame_time.clamp(*FRAME_TIMES.start(), *FRAME_TIMES.end());
        Self { sequence: 0, frame_time, last: None, decode_time: 0 }
    }

    /// The next picture as a fragment.
    pub fn fragment(&mut self, unit: &Unit) -> Bytes {
        if let Some(last) = self.last.replace(unit.time()) {
            let step = unit.time().saturating_sub(last).clamp(self.frame_time / 4, self.frame_time * 4);
            self.decode_time += ticks(step.clamp(self.frame_time / 2, self.frame_time * 19 / 10));
            // Slowly, to the pace that the camera really has.
            self.frame_time = (self.frame_time * 15 + step) / 16;
            self.frame_time = self.frame_time.clamp(*FRAME_TIMES.start(), *FRAME_TIMES.end());
        }
        self.sequence = self.sequence.wrapping_add(1);
        let sample = Sample {
            duration: ticks(self.frame_time) as u32,
            is_keyframe: unit.is_keyframe(),
            bytes: unit.sample(),
        };
        fragment(self.sequence, self.decode_time, &[sample]).into()
    }
}

/// A time in [`TIMESCALE`], in milliseconds.
pub const fn milliseconds(time: u64) -> u64 {
    time.saturating_mul(1_000) / TIMESCALE
}

/// Microseconds in [`TIMESCALE`].
pub const fn ticks(microseconds: u64) -> u64 {
    microseconds.saturating_mul(9) / 100
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::{Fragmenter, Sample, fragment, ticks, told_by};
    use crate::video::unit::Unit;

    /// The times at which these pictures are decoded, in ticks.
    fn decode_times(fragmenter: &mut Fragmenter, times: &[u64]) -> Vec<u64> {
        let of = |time: &u64| {
            let fragment = fragmenter.fragment(&Unit::new(None, *time, b"\0\0\x01\x41picture"));
            let at = fragment.windows(4).position(|part| part == b"tfdt").unwrap() + 8;
            u64::from_be_bytes(fragment[at..at + 8].try_into().unwrap())
        };
        times.iter().map(of).collect()
    }

    #[test]
    fn times_never_jump_and_never_stand_still() {
        let mut fragmenter = Fragmenter::new(30);
        let times = decode_times(
            &mut fragmenter,
            &[5_000_000, 5_033_333, 5_033_334, 9_000_000, 8_000_000, u64::MAX, 0],
        );
        assert_eq!(times[..2], [0, ticks(33_333)]);
        for pair in times.windows(2) {
            let step = pair[1] - pair[0];
            assert!((ticks(10_000)..ticks(120_000)).contains(&step), "{step}");
        }
    }

    #[test]
    fn the_pace_is_the_cameras() {
        let mut fragmenter = Fragmenter::new(30);
        let slow: Vec<_> = (0..200).map(|number| number * 100_000).collect();
        let times = decode_times(&mut fragmenter, &slow);
        let last = times[199] - times[198];
        assert!((ticks(95_000)..=ticks(100_001)).contains(&last), "{last}");
    }

    #[test]
    fn a_fragment_tells_its_pictures_and_its_end() {
        let sample = |duration| Sample { duration, is_keyframe: true, bytes: Bytes::from_static(b"picture") };
        let made = fragment(7, 1 << 40, &[sample(3), sample(4)]);
        let moof = u32::from_be_bytes(*made.first_chunk().unwrap()) as usize;
        assert_eq!(told_by(&made[..moof]), Some((2, (1 << 40) + 7)));
        assert_eq!(told_by(&made[..67]), None);
    }

    #[test]
    fn any_framerate_is_taken() {
        for framerate in [0, 1, u16::MAX] {
            decode_times(&mut Fragmenter::new(framerate), &[0, 1, u64::MAX / 2]);
        }
    }
}
