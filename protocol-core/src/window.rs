//! What is in flight: messages that were sent and not yet echoed.

use crate::message::{StreamId, Window};

/// The most messages in flight, whatever the window says: the session keeps the size of each.
pub const MAX_IN_FLIGHT: usize = 24;

const LENGTH: u8 = MAX_IN_FLIGHT as u8;

/// Messages in flight in one direction of one connection, oldest first. All are of one stream, and
/// their numbers follow on each other.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    stream: StreamId,
    /// The number of the newest message; those before it count down from here.
    newest: u64,
    /// The sum of `sizes` in use.
    bytes: u32,
    limit: Window,
    /// The sizes of the frames in flight: a ring. `first < MAX_IN_FLIGHT`, `count <= MAX_IN_FLIGHT`.
    sizes: [u16; MAX_IN_FLIGHT],
    first: u8,
    count: u8,
}

/// Why a message can't be in flight beside the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The window is full.
    Full,
    /// The message does not follow on the one before it, and that one is not echoed yet.
    Order { expected: u64 },
}

impl InFlight {
    pub(crate) const fn new() -> Self {
        Self {
            stream: StreamId(0),
            newest: 0,
            bytes: 0,
            limit: Window { messages: 0, bytes: 0 },
            sizes: [0; MAX_IN_FLIGHT],
            first: 0,
            count: 0,
        }
    }

    pub(crate) fn grant(&mut self, limit: Window) {
        self.limit = limit;
    }

    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The number of the newest message that was ever in flight, 0 for none.
    pub(crate) const fn newest(&self) -> u64 {
        self.newest
    }

    pub(crate) const fn count(&self) -> u8 {
        self.count
    }

    /// Whether a frame of `size` bytes may be sent as the message `number` of `stream`.
    ///
    /// A frame larger than the whole window of bytes passes when nothing else is in flight: else it
    /// could never be sent.
    #[inline(never)]
    pub(crate) fn admits(&self, stream: StreamId, number: u64, size: u16) -> Result<(), Refused> {
        if self.count >= self.limit.messages || self.count >= LENGTH {
            return Err(Refused::Full);
        }
        if self.count == 0 {
            return Ok(());
        }
        if self.bytes.saturating_add(u32::from(size)) > self.limit.bytes {
            return Err(Refused::Full);
        }
        match self.newest.checked_add(1) {
            Some(expected) if stream == self.stream && number == expected => Ok(()),
            expected => Err(Refused::Order { expected: expected.unwrap_or(u64::MAX) }),
        }
    }

    /// Notes a message that [`InFlight::admits`] has let pass.
    #[inline(never)]
    pub(crate) fn push(&mut self, stream: StreamId, number: u64, size: u16) {
        let last = wrapped(self.first.wrapping_add(self.count));
        if let Some(slot) = self.sizes.get_mut(usize::from(last)) {
            *slot = size;
        }
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u32::from(size));
        self.stream = stream;
        self.newest = number;
    }

    /// Drops the messages of `stream` up to `number`. Gives how many there were; none if that message
    /// is not in flight.
    #[inline(never)]
    pub(crate) fn echoed(&mut self, stream: StreamId, number: u64) -> Option<u8> {
        let left = self.newest.checked_sub(number)?;
        if stream != self.stream || left >= u64::from(self.count) {
            return None;
        }
        let done = self.count.saturating_sub(left as u8);
        for _ in 0..done {
            let size = self.sizes.get(usize::from(self.first)).copied().unwrap_or(0);
            self.bytes = self.bytes.saturating_sub(u32::from(size));
            self.first = wrapped(self.first.wrapping_add(1));
            self.count = self.count.saturating_sub(1);
        }
        Some(done)
    }
}

/// A place in the ring, of one that is at most once around it further.
const fn wrapped(place: u8) -> u8 {
    if place < LENGTH { place } else { place.wrapping_sub(LENGTH) }
}
