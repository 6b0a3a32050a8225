//! One connection to the server, from its first byte to its last.

#[cfg(test)]
mod tests;

use embedded_io::{Read, ReadReady, Write};
use heapless::Vec;
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::{Frame, HEADER_LENGTH},
    message::{
        Body, Close, Echo, Endpoints, Hello, MAX_READINGS, Message, Notice, OLDEST_VERSION, Reading, Status,
        Text, VERSION, Welcome, Window,
    },
    pump::{Progress, Pump, PumpError},
    session::{self, Client, OPENING_MAX_FRAME, ProtocolError, SendError, Session},
    time::{Duration, Instant},
};

use crate::agent::Agent;

/// The room for input that most devices need, in bytes: all that a server says but messages larger than this.
pub const INPUT_ROOM: usize = 640;

/// How long the server has to welcome us.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(
    INPUT_ROOM >= HEADER_LENGTH + Endpoints::MAX_LENGTH,
    "a device that is not told the next key is locked out when it comes"
);

/// Beside its transport and its stack, in bytes.
const WHOLE: usize = size_of::<Agent>()
    .saturating_add(size_of::<Connection<'_, ()>>())
    .saturating_add(INPUT_ROOM)
    .saturating_add(<Agent>::OUTPUT_ROOM);
const _: () = assert!(WHOLE <= 3 * 1024, "a device with all defaults takes at most 3 KiB");

/// A connection: poll it whenever the transport has bytes, something was pushed or taken, or its timeout has come.
#[derive(Debug)]
pub struct Connection<'b, T> {
    pump: Pump<'b, Client, T>,
    is_open: bool,
    /// The highest number of our stream that the server had when it welcomed us.
    archived: u64,
    /// The message that the caller has, and has not taken yet. The window allows for one.
    untaken: Option<Echo>,
    left: Left,
}

/// What a step leaves to the next one, because what it gave back still borrowed the connection.
#[derive(Debug)]
enum Left {
    Nothing,
    /// A message came that was taken before.
    Repeat(Echo),
    /// The queue's oldest message can't pass, and the caller was told.
    SetAside,
    /// The server broke the protocol, and is to be told.
    Broken(ProtocolError),
}

/// What a step of the connection came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// Something for the caller. Then poll again.
    Event(Event<'a>),
    /// Nothing for the caller, but perhaps more to do: poll again.
    Again,
    /// Nothing to do before the transport has bytes, something is pushed or taken, or [`Connection::timeout`] has come.
    Idle,
}

/// What the connection tells its caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The session is open. A device without a clock learns the time here.
    Welcome(Welcome<'a>),
    /// A message from the server. When it is done, or where it is not forgotten, call [`Connection::taken`]. No other
    /// comes before that; if it is not called, this one comes again on the next connection.
    Message(Message<'a>),
    /// A frame that is neither numbered nor echoed: `ENDP`, or one whose tag a newer server knows, to be skipped.
    ///
    /// `ENDP` is read by [`message::decode`](protocol_core::message::decode) as [`Endpoints`]: the pins and addresses to
    /// keep. If its current pin is not the one that the server has shown, it is not kept: it would lock the device out.
    Notice(Frame<'a>),
    /// The queue's oldest message is larger than this server takes, and was pushed before that was known. The next step
    /// drops it, and goes on behind it; if it matters, push it again in parts.
    TooLarge(Message<'a>),
}

/// How a connection ended. Wait (longer each time, by chance), and open another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The server ended it. After [`CloseReason::Conflict`] a new stream must begin, or it ends the next one as well:
    /// [`Outbox::begin_stream`](crate::outbox::Outbox::begin_stream).
    #[error("the server ended the connection: {reason}; it is to be tried again in {retry_after} s")]
    Closed {
        /// Why.
        reason: CloseReason,
        /// How long to wait at least, in seconds; 0 leaves that to the device.
        retry_after: u32,
    },
    /// The transport, the protocol or the server failed.
    #[error(transparent)]
    Failed(#[from] PumpError),
}

impl<'b, T: Read + ReadReady + Write> Connection<'b, T> {
    /// Opens a session over a transport that is connected. Its `write` may wait for room, but not for ever.
    ///
    /// `input` holds the largest frame that this device takes: 256 to 65,535 bytes, [`INPUT_ROOM`] if nothing speaks for
    /// another size; a server leaves out what does not fit. `output` holds [`Agent::OUTPUT_ROOM`] or more: larger
    /// notices need more. Other sizes do not compile.
    ///
    /// # Errors
    /// [`PumpError`] if the transport failed.
    pub fn open<
        const MESSAGES: usize,
        const BODY: usize,
        const STREAMS: usize,
        const INPUT: usize,
        const OUTPUT: usize,
    >(
        now: Instant,
        agent: &Agent<MESSAGES, BODY, STREAMS>,
        transport: T,
        input: &'b mut [u8; INPUT],
        output: &'b mut [u8; OUTPUT],
    ) -> Result<Self, PumpError> {
        const {
            assert!(INPUT >= OPENING_MAX_FRAME as usize && INPUT <= u16::MAX as usize, "256 to 65,535 bytes");
            assert!(OUTPUT >= Agent::<MESSAGES, BODY, STREAMS>::OUTPUT_ROOM, "each message fits the output");
        }
        let max_frame = INPUT as u16;
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            boot: agent.boot(),
            stream: agent.outbox.stream(),
            max_frame,
            window: Window { messages: 1, bytes: u32::from(max_frame) },
        };
        let mut pump = Pump::new(Session::client(max_frame), transport, input, output);
        pump.send(|session, buffer| session.open(now, OPENING_TIMEOUT, &hello, buffer))?;
        Ok(Self { pump, is_open: false, archived: 0, untaken: None, left: Left::Nothing })
    }

    /// Whether messages pass.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// When [`Connection::poll`] must be called at the latest; nothing if only the transport can change anything.
    pub fn timeout(&self) -> Option<Instant> {
        self.pump.timeout()
    }

    /// Takes one step: sends what waits, as far as the server takes it, and takes one frame. Call it until it says
    /// [`Step::Idle`], then sleep. Each step is short, however much the server has to say.
    ///
    /// # Errors
    /// [`End`]: the connection is over, and not to be polled again.
    pub fn poll<'c, const MESSAGES: usize, const BODY: usize, const STREAMS: usize>(
        &'c mut self,
        now: Instant,
        agent: &'c mut Agent<MESSAGES, BODY, STREAMS>,
    ) -> Result<Step<'c>, End> {
        let Agent { outbox, inbox, .. } = agent;
        match core::mem::replace(&mut self.left, Left::Nothing) {
            Left::Nothing => {}
            Left::Repeat(echo) => _ = self.pump.session().echo(echo.stream, echo.number),
            Left::SetAside => outbox.drop_oldest(),
            Left::Broken(error) => {
                // What was wrong matters more than whether the server could be told.
                _ = self.say_close(error.reason());
                return Err(End::Failed(error.into()));
            }
        }
        if !self.send_waiting(now, |position| outbox.get(position))? {
            let Some(message) = outbox.get(0) else { return Ok(Step::Again) };
            self.left = Left::SetAside;
            // Its number is left out only if it was never archived; else its echo was lost.
            let is_known = message.number <= self.archived;
            return Ok(if is_known { Step::Again } else { Step::Event(Event::TooLarge(message)) });
        }
        let event = match self.pump.poll(now) {
            Ok(Progress::Event(event)) => event,
            Ok(Progress::Again) => return Ok(Step::Again),
            Ok(Progress::Idle) => return Ok(Step::Idle),
            Err(PumpError::Protocol(error)) => {
                self.left = Left::Broken(error);
                return Ok(Step::Again);
            }
            Err(error) => return Err(error.into()),
        };
        match event {
            session::Event::Welcome(welcome) => {
                (self.is_open, self.archived) = (true, welcome.archived);
                outbox.bound(welcome.max_frame);
                return Ok(Step::Event(Event::Welcome(welcome)));
            }
            session::Event::Message(message) => {
                let echo = Echo { stream: message.stream, number: message.number };
                if !inbox.has(echo) {
                    self.untaken = Some(echo);
                    return Ok(Step::Event(Event::Message(message)));
                }
                self.left = Left::Repeat(echo);
            }
            session::Event::Echo(echo) => outbox.echoed(echo),
            session::Event::Notice(frame) => return Ok(Step::Event(Event::Notice(frame))),
            session::Event::Closed(Close { reason, retry_after, .. }) => {
                return Err(End::Closed { reason, retry_after });
            }
            session::Event::Hello(_) | session::Event::Pong { .. } => {}
        }
        Ok(Step::Again)
    }

    /// Notes that the message that came last was taken: it is not delivered again before a reset, and the next step
    /// echoes it.
    pub fn taken<const MESSAGES: usize, const BODY: usize, const STREAMS: usize>(
        &mut self,
        agent: &mut Agent<MESSAGES, BODY, STREAMS>,
    ) {
        if let Some(echo) = self.untaken.take() {
            agent.inbox.note(echo);
            self.pump.session().echo(echo.stream, echo.number);
        }
    }

    /// Sends how the device is doing: seconds since its start, and at most 16 readings. A server ends connections that
    /// send more than 16 notices at once, or more than one a second in the long run.
    ///
    /// # Errors
    /// As [`Connection::notice`].
    pub fn status<const READINGS: usize>(
        &mut self,
        now: Instant,
        uptime: u32,
        readings: &[Reading<'_>; READINGS],
    ) -> Result<(), PumpError> {
        const { assert!(READINGS <= MAX_READINGS, "a status has at most 16 readings") };
        let readings = Vec::from_slice(readings).unwrap_or_default();
        self.notice(now, &Status { uptime, readings })
    }

    /// Sends what the device says of itself, or how it is doing.
    ///
    /// # Errors
    /// [`PumpError::Send`] if the session is not open or the notice does not fit: nothing was sent, and the connection
    /// goes on. Any other: the connection is over.
    pub fn notice<N: Notice>(&mut self, now: Instant, notice: &N) -> Result<(), PumpError> {
        self.pump.send(|session, buffer| session.notice(now, notice, buffer))
    }

    /// Ends the connection, and tells the server why.
    ///
    /// # Errors
    /// [`PumpError`] if the transport failed: the server will find out by itself.
    pub fn close(mut self, reason: CloseReason) -> Result<(), PumpError> {
        self.say_close(reason)
    }

    fn say_close(&mut self, reason: CloseReason) -> Result<(), PumpError> {
        let close = Close { reason, retry_after: 0, detail: Text::default() };
        self.pump.close(&close)
    }

    /// Sends the messages that follow on those in flight, which are the queue's oldest. Gives whether the oldest can
    /// pass here at all.
    fn send_waiting<'m>(
        &mut self,
        now: Instant,
        get: impl Fn(usize) -> Option<Message<'m>>,
    ) -> Result<bool, PumpError> {
        while self.is_open {
            let in_flight = usize::from(self.pump.session().in_flight());
            let Some(message) = get(in_flight) else { break };
            match self.pump.send(|session, buffer| session.message(now, &message, buffer)) {
                Ok(()) => {}
                // What is in flight comes first: a number may be left out only behind its echo.
                Err(PumpError::Send(SendError::Encode(_))) => return Ok(in_flight > 0),
                Err(PumpError::Send(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
