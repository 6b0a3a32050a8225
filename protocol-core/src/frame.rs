//! Frames: bytes to a checked view of tag and body, and back (`docs/protocol.md`, Frames).

use nom::{IResult, Parser, bytes::streaming::take, error::ErrorKind, number::streaming::be_u32};

use crate::tag::Tag;

/// Bytes before a frame's body: the tag, then the body's length.
pub const HEADER_LENGTH: usize = 8;

/// The largest whole frame, header included, that any peer may allow: its body's length fits 16 bits. Only a camera's
/// pictures have [a limit of their own](crate::message::VIDEO_MAX_FRAME).
pub const MAX_FRAME: u16 = u16::MAX;

/// One frame, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the frame is.
    pub tag: Tag,
    /// Its body; empty for `PING` and `PONG`.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Writes the frame to `buffer`: gives its length in bytes, or nothing if `buffer` has no room.
    #[inline]
    pub fn encode(&self, buffer: &mut [u8]) -> Option<usize> {
        if self.tag.is_whole_frame() {
            return encode_whole(self.tag, buffer);
        }
        let (header, rest) = buffer.split_first_chunk_mut::<HEADER_LENGTH>()?;
        rest.get_mut(..self.body.len())?.copy_from_slice(self.body);
        encode_header(self.tag, u32::try_from(self.body.len()).ok()?, header);
        Some(HEADER_LENGTH.saturating_add(self.body.len()))
    }
}

/// What the start of the caller's bytes holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame {
        /// The frame.
        frame: Frame<'a>,
        /// How many bytes it took: the caller drops them before the next call.
        consumed: usize,
    },
    /// The start of a frame: call again with these bytes and more.
    Incomplete,
}

/// Why bytes are no frame. The connection can't go on: where the next frame starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A tag holds something else than upper-case ASCII letters.
    #[error("expected a tag of four upper-case letters, found the bytes {found:02x?}")]
    BadTag {
        /// The bytes in the tag's place; zero where they had not come yet.
        found: [u8; 4],
    },
    /// A frame is larger than this connection allows.
    #[error(
        "a {tag} frame of {length} bytes of body is larger than the {limit} bytes agreed on; send less at once"
    )]
    TooLarge {
        /// The frame's tag.
        tag: Tag,
        /// The body's length, as announced.
        length: u32,
        /// The largest whole frame allowed, header included, in bytes; [`MAX_FRAME`] where it is even more. (As a `u32` it
        /// would take 188 bytes of a microcontroller's flash.)
        limit: u16,
    },
}

/// Reads the frame at the start of `bytes`, if it is there as a whole, without copying.
///
/// A frame, header included, may take `max_frame` bytes: more is an error as soon as the header is
/// there, before its body is. The same bytes give the same frames however they are split.
///
/// # Errors
/// [`FrameError`], as soon as the first byte that is wrong is there.
#[inline]
pub fn decode(bytes: &[u8], max_frame: impl Into<u32>) -> Result<Decoded<'_>, FrameError> {
    decode_within(bytes, max_frame.into())
}

#[inline(never)]
fn decode_within(bytes: &[u8], max_frame: u32) -> Result<Decoded<'_>, FrameError> {
    let Ok((rest, tag)) = tag(bytes) else {
        return incomplete_tag(bytes);
    };
    if tag.is_whole_frame() {
        return Ok(Decoded::Frame { frame: Frame { tag, body: &[] }, consumed: 4 });
    }
    let Ok((rest, length)) = be_u32::<_, (&[u8], ErrorKind)>(rest) else {
        return Ok(Decoded::Incomplete);
    };
    if length > max_frame.saturating_sub(HEADER_LENGTH as u32) {
        return Err(FrameError::TooLarge {
            tag,
            length,
            limit: u16::try_from(max_frame).unwrap_or(u16::MAX),
        });
    }
    match take::<_, _, (&[u8], ErrorKind)>(length).parse(rest) {
        Ok((_, body)) => Ok(Decoded::Frame {
            frame: Frame { tag, body },
            consumed: HEADER_LENGTH.saturating_add(body.len()),
        }),
        Err(_) => Ok(Decoded::Incomplete),
    }
}

#[inline]
fn tag(bytes: &[u8]) -> IResult<&[u8], Tag, (&[u8], ErrorKind)> {
    take(4_usize).map_opt(|tag: &[u8]| tag.try_into().ok().and_then(Tag::new)).parse(bytes)
}

/// Fewer than four bytes may be the start of a tag; anything else here is no tag.
#[cold]
fn incomplete_tag<'a>(bytes: &[u8]) -> Result<Decoded<'a>, FrameError> {
    let start = bytes.get(..4).unwrap_or(bytes);
    if start.len() < 4 && start.iter().all(u8::is_ascii_uppercase) {
        return Ok(Decoded::Incomplete);
    }
    let mut found = [0; 4];
    found.iter_mut().zip(start).for_each(|(to, from)| *to = *from);
    Err(FrameError::BadTag { found })
}

/// Writes `PING` or `PONG`, or gives back nothing if `buffer` has no room.
pub(crate) fn encode_whole(tag: Tag, buffer: &mut [u8]) -> Option<usize> {
    *buffer.first_chunk_mut::<4>()? = tag.bytes();
    Some(4)
}

/// Writes the header of a frame whose body of `length` bytes stands, or will stand, behind it.
#[inline]
pub(crate) fn encode_header(tag: Tag, length: u32, header: &mut [u8; HEADER_LENGTH]) {
    let [a, b, c, d] = tag.bytes();
    let [e, f, g, h] = length.to_be_bytes();
    *header = [a, b, c, d, e, f, g, h];
}
