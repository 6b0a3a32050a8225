//! What a device keeps for longer than a connection.

use protocol_core::{
    message::{BootId, Kind, Message, StreamId},
    session::OPENING_MAX_FRAME,
};

use crate::{inbox::Inbox, outbox::Outbox};

/// What a device keeps, in RAM, from its start to its reset: at most `MESSAGES` messages with bodies of at most `BODY`
/// bytes on their way to the server, and what it has taken of the server's last `STREAMS` streams.
///
/// With bodies of at most 186 bytes each message fits the frames of every server, and none is ever refused as too large.
#[derive(Debug)]
pub struct Agent<const MESSAGES: usize = 8, const BODY: usize = 128, const STREAMS: usize = 8> {
    boot: BootId,
    /// Messages on their way to the server.
    pub outbox: Outbox<MESSAGES, BODY>,
    pub(crate) inbox: Inbox<STREAMS>,
}

impl<const MESSAGES: usize, const BODY: usize, const STREAMS: usize> Agent<MESSAGES, BODY, STREAMS> {
    /// The least room for output, in bytes: it holds each message of the queue, and what opens a session.
    pub const OUTPUT_ROOM: usize = {
        let message = Message::OVERHEAD.saturating_add(Kind::MAX).saturating_add(BODY);
        if message > OPENING_MAX_FRAME as usize { message } else { OPENING_MAX_FRAME as usize }
    };

    /// A device that has just started. `boot` and `stream` are random, and drawn anew at each start: the one tells
    /// clones apart, the other tells the server that numbers begin at 1 again.
    pub const fn new(boot: BootId, stream: StreamId) -> Self {
        const { assert!(STREAMS > 0, "without the memory of a stream nothing is delivered once") };
        Self { boot, outbox: Outbox::new(stream), inbox: Inbox::new() }
    }

    /// Which start of the device this is.
    pub const fn boot(&self) -> BootId {
        self.boot
    }
}
