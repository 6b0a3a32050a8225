//! What was taken of the messages from the server, in RAM.

use core::mem;

use protocol_core::message::{Echo, StreamId};

/// The highest number that was taken of each of the server's last `STREAMS` streams, newest stream first.
///
/// The server draws a stream each time it opens its store, and sends again only what it has no echo of: what was
/// forgotten here comes twice only if the server was started `STREAMS` times before it got the echo.
#[derive(Debug)]
pub(crate) struct Inbox<const STREAMS: usize> {
    /// A place with the number 0 is free: numbers count from 1.
    taken: [Echo; STREAMS],
}

impl<const STREAMS: usize> Inbox<STREAMS> {
    pub(crate) const fn new() -> Self {
        Self { taken: [Echo { stream: StreamId(0), number: 0 }; STREAMS] }
    }

    /// Whether the message was taken before.
    pub(crate) fn has(&self, message: Echo) -> bool {
        self.taken.iter().any(|taken| taken.stream == message.stream && taken.number >= message.number)
    }

    /// Notes that the message was taken. The stream that was longest not heard of makes room for a new one.
    pub(crate) fn note(&mut self, message: Echo) {
        let mut moved = message;
        for place in &mut self.taken {
            mem::swap(place, &mut moved);
            if moved.stream == message.stream {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(stream: u64, number: u64) -> Echo {
        Echo { stream: StreamId(stream), number }
    }

    #[test]
    fn a_number_covers_those_before_it_in_its_stream() {
        let mut inbox = Inbox::<2>::new();
        assert!(!inbox.has(message(0, 1)), "a free place is no stream");
        inbox.note(message(0, 1));
        inbox.note(message(7, 3));
        inbox.note(message(7, 5));
        for (number, has) in [(1, true), (5, true), (6, false)] {
            assert_eq!(inbox.has(message(7, number)), has, "{number}");
        }
        assert!(inbox.has(message(0, 1)), "the other stream is known still");
        assert!(!inbox.has(message(8, 1)));
    }

    #[test]
    fn the_stream_that_was_longest_not_heard_of_is_forgotten() {
        let mut inbox = Inbox::<2>::new();
        inbox.note(message(1, 4));
        inbox.note(message(2, 4));
        inbox.note(message(1, 5));
        inbox.note(message(3, 1));
        assert!(inbox.has(message(1, 5)) && inbox.has(message(3, 1)));
        assert!(!inbox.has(message(2, 4)));
    }
}
