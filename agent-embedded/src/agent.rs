//! What a device keeps for longer than a connection.

use protocol_core::{
    frame::HEADER_LENGTH,
    message::{Body, BootId, Endpoints, Kind, Message, StreamId},
    session::OPENING_MAX_FRAME,
    time::Instant,
};

use crate::{inbox::Inbox, outbox::Outbox, uptime::Uptime};

/// What a device keeps, in RAM, from its start to its reset.
///
/// - `MESSAGES`: how many messages wait for their echo at most; 8 if nothing speaks for another number.
/// - `BODY`: the longest body of a message to the server, in bytes; 128. With bodies of at most 188 bytes each message
///   fits the frames of every server, and none is ever refused as too large.
/// - `STREAMS`: how many of the server's streams are remembered, so that nothing is delivered twice; 8.
/// - `INPUT`: the largest frame that this device takes, in bytes, 256 to 65,535; 640 hold all that a server says but
///   messages larger than this. A device over a gateway needs 256.
/// - `OUTPUT`: the largest frame that it sends, in bytes, 256 or more; each message of the queue must fit.
///
/// Other sizes do not compile.
#[derive(Debug)]
pub struct Agent<
    const MESSAGES: usize = 8,
    const BODY: usize = 128,
    const STREAMS: usize = 8,
    const INPUT: usize = 640,
    const OUTPUT: usize = 256,
> {
    boot: BootId,
    /// Messages on their way to the server.
    pub outbox: Outbox<MESSAGES, BODY>,
    pub(crate) inbox: Inbox<STREAMS>,
    pub(crate) uptime: Uptime,
    /// When the device started, in milliseconds since 1970 by the server's clock; 0 until a server has told the time.
    pub(crate) born: u64,
    pub(crate) input: [u8; INPUT],
    pub(crate) output: [u8; OUTPUT],
}

const _: () = assert!(size_of::<Agent>() <= 3 * 1024, "a device with all defaults takes at most 3 KiB");
const _: () = assert!(
    640 >= HEADER_LENGTH + Endpoints::MAX_LENGTH,
    "by default a device is told of the next key, whatever addresses come with it"
);

impl<const MESSAGES: usize, const BODY: usize, const STREAMS: usize, const INPUT: usize, const OUTPUT: usize>
    Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>
{
    /// A device that has just started, at `now`. `boot` and `stream` are random, and drawn anew at each start: the one
    /// tells clones apart, the other tells the server that numbers begin at 1 again.
    pub const fn new(now: Instant, boot: BootId, stream: StreamId) -> Self {
        const {
            assert!(STREAMS > 0, "without the memory of a stream nothing is delivered once");
            assert!(
                INPUT >= OPENING_MAX_FRAME as usize && INPUT <= u16::MAX as usize,
                "the input takes 256 to 65,535 bytes"
            );
            assert!(
                OUTPUT >= OPENING_MAX_FRAME as usize && OUTPUT >= Message::OVERHEAD + Kind::MAX + BODY,
                "the output holds what opens a session, and each message"
            );
        }
        Self {
            boot,
            outbox: Outbox::new(stream),
            inbox: Inbox::new(),
            uptime: Uptime::new(now),
            born: 0,
            input: [0; INPUT],
            output: [0; OUTPUT],
        }
    }

    /// Which start of the device this is.
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// Seconds since the device's start.
    pub fn uptime(&mut self, now: Instant) -> u32 {
        self.uptime.seconds(now)
    }

    /// The time, in milliseconds since 1970: what the last welcome said, and what has passed since; 0 before the first.
    pub fn time(&mut self, now: Instant) -> u64 {
        match self.born {
            0 => 0,
            born => born.saturating_add(self.uptime.millis(now)),
        }
    }
}
