//! Live video: which cameras a device has, and what it sends of one on its data connection.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::{Body as _, Kind};
use crate::frame::{self, HEADER_LENGTH};

/// The largest frame on the data connection of a `video`, header included, in bytes: no picture is nearly as large.
pub const VIDEO_MAX_FRAME: u32 = 2 << 20;

/// The most cameras that a device tells of.
pub const MAX_CAMERAS: usize = 16;

/// `CAMS`, client to server, behind the [`Offer`](super::Offer): which cameras the device has. The newest list stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cameras<'a> {
    /// Each by a name of its own.
    #[serde(borrow)]
    pub cameras: Vec<Camera<'a>, MAX_CAMERAS>,
}

/// A camera, as the device's configuration has it. What it really shows stands in its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Camera<'a> {
    /// Its name on this device.
    #[serde(borrow)]
    pub name: Kind<'a>,
    /// What it is, for people: `rpicam`, `v4l2`, `rtsp`, `command`, `test`.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// The width of its pictures, in pixels; 0 if the camera decides.
    #[serde(with = "crate::narrow")]
    pub width: u16,
    /// Their height, in pixels; 0 if the camera decides.
    #[serde(with = "crate::narrow")]
    pub height: u16,
    /// How many there are in a second; 0 if the camera decides.
    #[serde(with = "crate::narrow")]
    pub framerate: u16,
}

/// `UNIT`, client to server on the data connection of a `video`: one access unit of H.264.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit<'a> {
    /// [`Unit::KEYFRAME`], [`Unit::GAP`]. Others are none yet: 0, and not looked at.
    pub flags: u8,
    /// When it came from the camera, since the task began, in microseconds. Never less than that of the unit before.
    #[serde(with = "crate::fixed")]
    pub microseconds: u64,
    /// The access unit in the form of Annex B, with its start codes.
    #[serde(with = "serde_bytes")]
    pub bytes: &'a [u8],
}

impl Unit<'_> {
    /// An IDR picture with its parameter sets: who has seen nothing before can begin here.
    pub const KEYFRAME: u8 = 1;

    /// Units were left out before this one, or the camera was started anew. It is a keyframe.
    pub const GAP: u8 = 2;

    /// What its frame holds beside the access unit, in bytes, at most: header, flags, time, length.
    #[allow(clippy::arithmetic_side_effects, reason = "the compiler checks constants")]
    pub const OVERHEAD: usize = HEADER_LENGTH + 1 + 8 + 3;

    /// The longest access unit, in bytes.
    #[allow(clippy::arithmetic_side_effects, reason = "the compiler checks constants")]
    pub const LONGEST: usize = VIDEO_MAX_FRAME as usize - Self::OVERHEAD;

    /// Whether it is a keyframe.
    pub const fn is_keyframe(&self) -> bool {
        self.flags & Self::KEYFRAME != 0
    }

    /// Writes the frame up to the access unit, which is sent behind it without being copied. Gives nothing if the access
    /// unit is longer than [`Unit::LONGEST`].
    pub fn encode_head<'b>(&self, room: &'b mut [u8; Unit::<'static>::OVERHEAD]) -> Option<&'b [u8]> {
        if self.bytes.len() > Self::LONGEST {
            return None;
        }
        let length = self.bytes.len() as u32;
        let (header, rest) = room.split_first_chunk_mut()?;
        let head = Head { flags: self.flags, microseconds: self.microseconds, length };
        let fields = postcard::to_slice(&head, rest).ok()?.len();
        frame::encode_header(Self::TAG, length.saturating_add(fields as u32), header);
        room.get(..HEADER_LENGTH.saturating_add(fields))
    }
}

/// A [`Unit`] without its bytes.
#[derive(Serialize)]
struct Head {
    flags: u8,
    #[serde(with = "crate::fixed")]
    microseconds: u64,
    length: u32,
}

/// `VSTA`, client to server on the data connection of a `video`, each second: what came since the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoStatus {
    /// Access units that the camera gave.
    pub frames: u32,
    /// Their bytes.
    pub bytes: u32,
    /// Access units that were not sent: the connection did not take them in time, or they could not be begun with.
    pub dropped: u32,
    /// How often the camera's program was started anew.
    pub restarts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    #[test]
    fn a_head_and_its_bytes_are_the_whole_frame() {
        let bytes = [7; 70_000];
        for length in [0, 1, 127, 128, 16_383, 16_384, 60_000] {
            let unit = Unit { flags: Unit::KEYFRAME, microseconds: u64::MAX - 1, bytes: &bytes[..length] };
            let mut whole = [0; 65_535];
            let written = message::encode(&unit, u16::MAX, &mut whole).unwrap();
            let mut room = [0; Unit::OVERHEAD];
            let head = unit.encode_head(&mut room).unwrap();
            assert_eq!(head, &whole[..head.len()]);
            assert_eq!(head.len() + length, written);
        }
    }

    #[test]
    fn the_longest_unit_fills_the_largest_frame() {
        static ZEROS: [u8; Unit::LONGEST + 1] = [0; Unit::LONGEST + 1];
        let unit = |bytes| Unit { flags: 0, microseconds: 0, bytes };
        let mut room = [0; Unit::OVERHEAD];
        let head = unit(&ZEROS[1..]).encode_head(&mut room).unwrap();
        assert_eq!(head.len() + Unit::LONGEST, VIDEO_MAX_FRAME as usize);
        assert_eq!(unit(&ZEROS).encode_head(&mut [0; Unit::OVERHEAD]), None);
    }
}
