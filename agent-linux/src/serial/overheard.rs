//! What the server says to a wired device, overheard as it passes, as far as people are shown it: that it is welcome, or
//! why it has to go and when it may come back.

use protocol_core::{
    code::CloseReason,
    frame::HEADER_LENGTH,
    message::{self, Close},
    session::OPENING_MAX_FRAME,
    tag::Tag,
};

/// Something that people are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The device's session is open.
    Welcome,
    /// The server ends it.
    Closed {
        /// Why.
        reason: CloseReason,
        /// Why, in the server's words.
        detail: String,
        /// The least time that the device is asked to wait, in seconds; 0 if it is its own to choose.
        retry_after: u32,
    },
}

/// Follows the server's frames as they pass; whatever is wrong with them is for the device to find.
#[derive(Debug, Default)]
pub(super) struct Overheard {
    /// The beginning of a frame: [`OPENING_MAX_FRAME`] bytes at most.
    part: Vec<u8>,
    /// So many bytes of a body that nobody is shown are to come.
    skip: usize,
}

impl Overheard {
    /// Takes some bytes that pass, and gives the last that people are shown of them.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Option<Heard> {
        let mut heard = None;
        for byte in bytes {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.part.push(*byte);
            heard = self.whole().or(heard);
        }
        heard
    }

    /// What the part is, if it is whole; one that nobody is shown is skipped as soon as its header is there.
    fn whole(&mut self) -> Option<Heard> {
        let (tag, rest) = self.part.split_first_chunk()?;
        let Some(tag) = Tag::new(*tag) else {
            // Where the next frame begins is not known.
            self.part.clear();
            self.skip = usize::MAX;
            return None;
        };
        if tag.is_whole_frame() {
            self.part.clear();
            return None;
        }
        let (length, body) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let is_shown = matches!(tag, Tag::WELCOME | Tag::CLOSE)
            && length.saturating_add(HEADER_LENGTH) <= usize::from(OPENING_MAX_FRAME);
        if is_shown && body.len() < length {
            return None;
        }
        let heard = match tag {
            Tag::WELCOME if is_shown => Some(Heard::Welcome),
            Tag::CLOSE if is_shown => message::decode(body).ok().map(|close: Close<'_>| Heard::Closed {
                reason: close.reason,
                detail: close.detail.as_str().to_owned(),
                retry_after: close.retry_after,
            }),
            _ => {
                self.skip = length;
                None
            }
        };
        self.part.clear();
        heard
    }
}
