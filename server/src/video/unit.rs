//! Access units of H.264, one picture each, and the NAL units that they are made of.

use std::sync::{Arc, OnceLock};

use hyper::body::Bytes;
use protocol_core::h264::{nal_type, nal_units, type_of};

use super::{
    memory::{Held, Memory},
    parameters::Parameters,
};

/// How many bytes stand before the access unit in what viewers are sent: flags, and the time.
pub const HEAD: usize = 1 + 8;

/// The flag of a unit with which decoding can begin.
pub const KEYFRAME: u8 = 1;

/// A picture as a camera gave it. Whoever is sent it shares it.
#[derive(Debug)]
pub struct Unit {
    /// What decoding begins with, of a picture that needs none before it.
    parameters: Option<Arc<Parameters>>,
    time: u64,
    message: Bytes,
    /// Made when it is first asked for.
    sample: OnceLock<Bytes>,
    _held: Option<Held>,
}

impl Unit {
    /// A picture of this time, in microseconds since its stream began, in the form of Annex B. It is a keyframe where it
    /// has the parameters of one.
    pub fn new(parameters: Option<Arc<Parameters>>, time: u64, access_unit: &[u8]) -> Self {
        let mut message = Vec::with_capacity(HEAD + access_unit.len());
        message.push(if parameters.is_some() { KEYFRAME } else { 0 });
        message.extend_from_slice(&time.to_be_bytes());
        message.extend_from_slice(access_unit);
        Self { parameters, time, message: message.into(), sample: OnceLock::new(), _held: None }
    }

    /// The same, counted as long as somebody has it.
    pub(super) fn held_in(self, memory: &Arc<Memory>) -> Self {
        Self { _held: Some(memory.hold(self.size())), ..self }
    }

    /// Whether decoding can begin with it.
    pub const fn is_keyframe(&self) -> bool {
        self.parameters.is_some()
    }

    /// What decoding begins with; only keyframes have it.
    pub const fn parameters(&self) -> Option<&Arc<Parameters>> {
        self.parameters.as_ref()
    }

    /// When it came from the camera, in microseconds since the stream began.
    pub const fn time(&self) -> u64 {
        self.time
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.message.len()
    }

    /// As viewers are sent it: [`KEYFRAME`] or 0, the time (eight bytes, big-endian), and the access unit in the form of
    /// Annex B.
    pub fn message(&self) -> Bytes {
        self.message.clone()
    }

    /// The same as MP4 has it: each NAL unit behind its length. What stands in the file's head is left out.
    pub fn sample(&self) -> Bytes {
        self.sample.get_or_init(|| sample(self.message.get(HEAD..).unwrap_or_default())).clone()
    }
}

fn sample(access_unit: &[u8]) -> Bytes {
    let mut sample = Vec::with_capacity(access_unit.len() + 16);
    for unit in nal_units(access_unit) {
        let kind = unit.first().map(|first| type_of(*first));
        if !matches!(kind, Some(nal_type::SPS | nal_type::PPS | nal_type::AUD)) {
            // An access unit is far shorter than 4 GiB.
            sample.extend_from_slice(&u32::try_from(unit.len()).unwrap_or(u32::MAX).to_be_bytes());
            sample.extend_from_slice(unit);
        }
    }
    sample.into()
}

#[cfg(test)]
mod tests {
    use super::Unit;

    #[test]
    fn a_sample_has_lengths_and_no_parameters() {
        let unit = Unit::new(
            None,
            0x0102,
            b"\0\0\0\x01\x09\x10\0\0\x01\x67abc\0\0\x01\x68d\0\0\x01\x65pic\0\0\x01\x06s",
        );
        assert_eq!(&unit.sample()[..], b"\0\0\0\x04\x65pic\0\0\0\x02\x06s");
        assert_eq!(&unit.message()[..13], b"\0\0\0\0\0\0\0\x01\x02\0\0\0\x01");
        assert_eq!(unit.size(), unit.message().len());
    }
}
