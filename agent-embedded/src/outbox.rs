//! Messages on their way to the server, in RAM until they are echoed.

#[cfg(test)]
mod tests;

use heapless::{Deque, Vec};
use protocol_core::{
    message::{Echo, Kind, Message, StreamId},
    session::OPENING_MAX_FRAME,
};

/// A queue of at most `MESSAGES` messages with bodies of at most `BODY` bytes, oldest first.
#[derive(Debug)]
pub struct Outbox<const MESSAGES: usize, const BODY: usize> {
    stream: StreamId,
    /// The number of the newest message; those in the queue count down from here.
    newest: u64,
    /// The largest frame that the last server took, in bytes.
    max_frame: u16,
    waiting: Deque<Waiting<BODY>, MESSAGES>,
}

#[derive(Debug)]
struct Waiting<const BODY: usize> {
    time: u64,
    kind: Kind<'static>,
    body: Vec<u8, BODY>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full.
    #[error("as many messages wait as may; try again once one is echoed")]
    Full,
    /// The body is longer than the queue has room for each.
    #[error("the body has {length} bytes, and at most {limit} fit; send less at once")]
    TooLong {
        /// The body's length, in bytes.
        length: usize,
        /// The longest that fits, in bytes.
        limit: usize,
    },
    /// The server has said that it takes no frame as large. Known once the device was welcomed.
    #[error(
        "the message takes up to {length} bytes, and the server takes frames of {limit}; send less at once"
    )]
    TooLarge {
        /// What the frame takes at most, in bytes.
        length: usize,
        /// The largest frame that the server takes, in bytes.
        limit: u16,
    },
}

impl<const MESSAGES: usize, const BODY: usize> Outbox<MESSAGES, BODY> {
    /// Whether the frames of every server hold each message: then none is ever too large.
    pub(crate) const ALL_FIT: bool =
        Message::OVERHEAD.saturating_add(Kind::MAX).saturating_add(BODY) <= OPENING_MAX_FRAME as usize;

    /// An empty queue.
    pub(crate) const fn new(stream: StreamId) -> Self {
        Self { stream, newest: 0, max_frame: u16::MAX, waiting: Deque::new() }
    }

    /// The queue's stream.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// How many messages wait for their echo.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many more messages there is room for.
    pub fn free(&self) -> usize {
        MESSAGES.saturating_sub(self.waiting.len())
    }

    /// Whether there is room for one more message.
    pub fn has_room(&self) -> bool {
        !self.waiting.is_full()
    }

    /// Whether everything was echoed.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a message, made at `time` (milliseconds since 1970; 0 if that is not known).
    ///
    /// # Errors
    /// [`Refused`]: nothing was taken.
    pub fn push(&mut self, time: u64, kind: Kind<'static>, body: &[u8]) -> Result<(), Refused> {
        let too_long = Refused::TooLong { length: body.len(), limit: BODY };
        let length = Message::OVERHEAD.saturating_add(kind.as_bytes().len()).saturating_add(body.len());
        let body = Vec::from_slice(body).map_err(|_| too_long)?;
        if !Self::ALL_FIT && length > usize::from(self.max_frame) {
            return Err(Refused::TooLarge { length, limit: self.max_frame });
        }
        self.waiting.push_back(Waiting { time, kind, body }).map_err(|_| Refused::Full)?;
        self.newest = self.newest.saturating_add(1);
        Ok(())
    }

    /// Moves all that waits to a new stream, numbered from 1: this answers a
    /// [conflict](protocol_core::code::CloseReason::Conflict). `stream` is random. To be called between two
    /// connections only: what is in flight would come twice.
    pub fn begin_stream(&mut self, stream: StreamId) {
        self.stream = stream;
        self.newest = self.waiting.len() as u64;
    }

    /// Notes the largest frame that the server takes, in bytes.
    #[inline(never)]
    pub(crate) fn bound(&mut self, max_frame: u16) {
        self.max_frame = max_frame.max(OPENING_MAX_FRAME);
    }

    /// The message at `position`, counted from the oldest; nothing if fewer wait.
    pub(crate) fn get(&self, position: usize) -> Option<Message<'_>> {
        let waiting = self.waiting.get(position)?;
        let behind = self.waiting.len().checked_sub(position)?.checked_sub(1)?;
        let number = self.newest.saturating_sub(behind as u64);
        Some(Message {
            stream: self.stream,
            number,
            time: waiting.time,
            kind: waiting.kind,
            body: &waiting.body,
        })
    }

    /// Drops what the server has on disk.
    pub(crate) fn echoed(&mut self, echo: Echo) {
        // The session has checked that it is in flight.
        let behind = self.newest.saturating_sub(echo.number) as usize;
        if echo.stream == self.stream {
            while self.waiting.len() > behind {
                self.drop_oldest();
            }
        }
    }

    /// Drops the oldest message; its number is left out.
    pub(crate) fn drop_oldest(&mut self) {
        self.waiting.pop_front();
    }
}
