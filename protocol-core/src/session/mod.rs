//! The session: what is said when, and when a peer is lost (`docs/protocol.md`, The session).

mod client;
mod error;
mod server;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

pub use error::{Lost, ProtocolError, SendError};

use crate::{
    frame::{self, Decoded, Frame, HEADER_LENGTH},
    message::{self, Body, Close, Echo, Hello, Message, Notice, StreamId, Welcome, Window},
    tag::Tag,
    time::{Duration, Instant},
    timer::{Timer, TimerTable},
    window::{InFlight, Refused},
};

/// The room that [`Session::output`] needs at least, in bytes, to write whatever is due.
pub const OUTPUT_ROOM: usize = 32;

/// The largest frame taken before the session is open, header included, in bytes. Every peer takes as
/// much later too: a smaller `max_frame` in a hello or a welcome counts as this one.
pub const OPENING_MAX_FRAME: u16 = 256;

/// Which side of a session this is. The type, not a value, so that a client carries no server code.
pub trait Role: sealed::Sealed {
    /// Whether this side was connected to.
    const IS_SERVER: bool;
}

/// The side that connected: a device, or a local program.
#[derive(Clone, Debug)]
pub struct Client;

/// The side that was connected to.
#[derive(Clone, Debug)]
pub struct Server;

impl Role for Client {
    const IS_SERVER: bool = false;
}

impl Role for Server {
    const IS_SERVER: bool = true;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Client {}
    impl Sealed for super::Server {}
}

/// Where a session stands. Every state ends: those before `Open` by the timeout, `Open` by silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A client that has not sent its hello, or a server that has not had the first `PING`.
    New,
    /// The `PING` is through: the server waits for the hello, the client for the welcome.
    Opening,
    /// The server has the hello: its host decides between a welcome and a close.
    Deciding,
    /// Messages pass.
    Open,
    /// It is over.
    Ended,
}

/// What the session tells its host. It borrows the bytes it came in, and the session: the host is
/// done with one event before it can ask for the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// To a server: a client opens the session. Answer by [`Session::welcome`] or [`Session::close`].
    Hello(Hello),
    /// To a client: the session is open.
    Welcome(Welcome<'a>),
    /// A message. When it is on disk, call [`Session::echo`].
    Message(Message<'a>),
    /// The peer has these messages on disk.
    Echo(Echo),
    /// A frame that the session has no part in: the host routes it by its tag to what reads it by
    /// [`message::decode`], and skips a tag that it does not know.
    Notice(Frame<'a>),
    /// The answer to a `PING` of ours, and how long it took.
    Pong {
        /// From the `PING`'s output to the answer's input.
        round_trip: Duration,
    },
    /// The peer ends the session.
    Closed(Close<'a>),
}

/// One side of a connection: a state machine without clock, socket or buffer.
///
/// How it is driven stands in the [crate's documentation](crate).
#[derive(Clone, Debug)]
pub struct Session<R> {
    state: State,
    version: u8,
    /// Something of ours is due: each flag stands for a frame that `output` will write.
    pong_due: bool,
    ping_due: bool,
    /// The number to echo next; 0 for none.
    echo_due: u64,
    /// The largest frame that this side takes, and that the peer takes.
    max_frame: u16,
    peer_max_frame: u16,
    /// In milliseconds, as in the welcome.
    interval: u32,
    timeout: u32,
    timers: TimerTable,
    /// When the `PING` that waits for its `PONG` was sent.
    ping_sent: Instant,
    sent: InFlight,
    received: InFlight,
    role: PhantomData<R>,
}

const _: () = assert!(size_of::<Session<Server>>() <= 256, "a session is at most 256 bytes");
const _: () = assert!(size_of::<Event<'_>>() <= 128, "an event is moved about, and is small");
const _: () = assert!(HEADER_LENGTH + Echo::MAX_LENGTH <= OUTPUT_ROOM, "every output fits its room");
const _: () = assert!(
    HEADER_LENGTH + longest(&[Hello::MAX_LENGTH, Welcome::MAX_LENGTH, Close::MAX_LENGTH])
        <= OPENING_MAX_FRAME as usize,
    "whatever opens or ends a session fits every peer"
);

const fn longest(lengths: &[usize]) -> usize {
    let mut longest = 0;
    let mut rest = lengths;
    while let [length, tail @ ..] = rest {
        if *length > longest {
            longest = *length;
        }
        rest = tail;
    }
    longest
}

impl<R: Role> Session<R> {
    fn with_max_frame(max_frame: u16) -> Self {
        Self {
            state: State::New,
            version: message::VERSION,
            pong_due: false,
            ping_due: false,
            echo_due: 0,
            max_frame,
            peer_max_frame: OPENING_MAX_FRAME,
            interval: 0,
            timeout: 0,
            timers: TimerTable::new(),
            ping_sent: Instant::NEVER,
            sent: InFlight::new(),
            received: InFlight::new(),
            role: PhantomData,
        }
    }

    /// Where the session stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The version agreed on; meaningful from the hello or the welcome on.
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// How many messages of ours wait for their echo.
    pub const fn in_flight(&self) -> u8 {
        self.sent.count()
    }

    /// Takes what came: gives how many bytes it used up, and what they mean to the host.
    ///
    /// Call it with all bytes that are there and not used up, again and again, until it uses none.
    ///
    /// # Errors
    /// [`ProtocolError`] if the peer broke the protocol: tell it by [`Session::close`] with
    /// [`ProtocolError::reason`], then drop the connection.
    #[inline]
    pub fn input<'a>(
        &'a mut self,
        now: Instant,
        bytes: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), ProtocolError> {
        if self.state == State::Ended {
            return Ok((0, None));
        }
        match frame::decode(bytes, self.max_frame)? {
            Decoded::Incomplete => Ok((0, None)),
            Decoded::Frame { frame, consumed } => {
                let event = match self.state {
                    State::Open => self.open_frame(now, frame, consumed)?,
                    _ => self.opening_frame(now, frame)?,
                };
                Ok((consumed, event))
            }
        }
    }

    /// Writes what is due to `buffer`, which holds [`OUTPUT_ROOM`] bytes or more: gives the length.
    ///
    /// Call it until it writes nothing: after input, after [`Session::echo`] and [`Session::ping`], and when
    /// [`Session::timeout`] has come. Only it judges whether the peer is lost: a host that wakes late
    /// first passes in what waits in its socket.
    ///
    /// # Errors
    /// [`Lost`] if the peer has not answered in time. The session has then ended.
    #[inline(never)]
    pub fn output(&mut self, now: Instant, buffer: &mut [u8]) -> Result<usize, Lost> {
        if self.state == State::Ended {
            return Ok(0);
        }
        self.check_timers(now)?;
        let mut length = 0;
        if self.pong_due && frame::encode_whole(Tag::PONG, buffer).is_some() {
            self.pong_due = false;
            length = 4;
        } else if self.echo_due > 0 {
            let echo = Echo { stream: self.received.stream(), number: self.echo_due };
            if let Ok(written) = message::encode(&echo, self.peer_max_frame, buffer) {
                self.echo_due = 0;
                length = written;
            }
        } else if self.ping_due && frame::encode_whole(Tag::PING, buffer).is_some() {
            self.ping_due = false;
            self.ping_sent = now;
            self.await_answer(now);
            length = 4;
        }
        if length > 0 {
            self.note_sent(now);
        }
        Ok(length)
    }

    /// When [`Session::output`] must be called at the latest; nothing if only input can change the session.
    pub fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Ended => None,
            _ => self.timers.next(),
        }
    }

    /// Asks the peer to show that it lives: it is lost if no frame of its comes within the timeout.
    pub fn ping(&mut self) {
        self.ping_due = self.state == State::Open;
    }

    /// Writes a message to `buffer`: gives its length.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::WindowFull`] and [`SendError::OutOfOrder`] end with the next echo.
    #[inline]
    pub fn message(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, SendError> {
        if self.state != State::Open {
            return Err(SendError::NotOpen);
        }
        if message.number == 0 {
            return Err(SendError::OutOfOrder { expected: 1 });
        }
        self.sent.admits(message.stream, message.number, 0)?;
        let length = message::encode(message, self.peer_max_frame, buffer)?;
        let size = length as u16; // The peer's `max_frame`, a u16, bounds it.
        self.sent.admits(message.stream, message.number, size)?;
        self.sent.push(message.stream, message.number, size);
        self.note_sent(now);
        Ok(length)
    }

    /// Notes that all messages of `stream` up to `number` are on disk: the next output tells the peer.
    ///
    /// Gives whether that message was waiting for its echo.
    #[inline(never)]
    pub fn echo(&mut self, stream: StreamId, number: u64) -> bool {
        let waited = self.received.echoed(stream, number).is_some();
        if waited {
            self.echo_due = number;
        }
        waited
    }

    /// Writes the end of the session to `buffer`: gives its length, 0 if it had ended or there is no room.
    /// What was due and not yet written is dropped.
    pub fn close(&mut self, close: &Close<'_>, buffer: &mut [u8]) -> usize {
        if self.state == State::Ended {
            return 0;
        }
        self.state = State::Ended;
        message::encode(close, OPENING_MAX_FRAME, buffer).unwrap_or(0)
    }

    /// Writes a notice, which is not echoed, to `buffer`: gives the length.
    ///
    /// # Errors
    /// [`SendError`] if the session is not open, or the frame does not fit.
    pub fn notice<N: Notice>(
        &mut self,
        now: Instant,
        body: &N,
        buffer: &mut [u8],
    ) -> Result<usize, SendError> {
        if self.state != State::Open {
            return Err(SendError::NotOpen);
        }
        let length = message::encode(body, self.peer_max_frame, buffer)?;
        self.note_sent(now);
        Ok(length)
    }

    /// A frame while the session is open.
    #[inline]
    fn open_frame<'a>(
        &'a mut self,
        now: Instant,
        frame: Frame<'a>,
        size: usize,
    ) -> Result<Option<Event<'a>>, ProtocolError> {
        self.note_heard(now);
        Ok(Some(match frame.tag {
            Tag::MESSAGE => {
                let message: Message<'a> = message::decode(frame.body)?;
                self.take_message(&message, size)?;
                Event::Message(message)
            }
            Tag::ECHO => {
                let echo: Echo = message::decode(frame.body)?;
                self.sent.echoed(echo.stream, echo.number).ok_or(ProtocolError::EchoOfNothing(echo))?;
                Event::Echo(echo)
            }
            Tag::PING => {
                self.pong_due = true;
                return Ok(None);
            }
            Tag::PONG => return Ok(self.take_pong(now)),
            Tag::CLOSE => return self.take_close(frame).map(Some),
            Tag::HELLO | Tag::WELCOME => return Err(ProtocolError::Unexpected { tag: frame.tag }),
            _ => Event::Notice(frame),
        }))
    }

    /// A frame before the session is open. Only what opens or ends it is allowed: a stranger is not
    /// given the benefit of the doubt.
    #[inline(never)]
    fn opening_frame<'a>(
        &'a mut self,
        now: Instant,
        frame: Frame<'a>,
    ) -> Result<Option<Event<'a>>, ProtocolError> {
        match (frame.tag, self.state) {
            (Tag::PING, State::New) if R::IS_SERVER => {
                self.state = State::Opening;
                self.pong_due = true;
                Ok(None)
            }
            (tag, State::New) if R::IS_SERVER => Err(ProtocolError::ExpectedPing { tag }),
            (Tag::PING, _) => {
                self.pong_due = true;
                Ok(None)
            }
            (Tag::PONG, State::Opening) if !R::IS_SERVER => Ok(None),
            (Tag::HELLO, State::Opening) if R::IS_SERVER => self.take_hello(frame).map(Some),
            (Tag::WELCOME, State::Opening) if !R::IS_SERVER => self.take_welcome(now, frame).map(Some),
            (Tag::CLOSE, _) => self.take_close(frame).map(Some),
            (tag, _) => Err(ProtocolError::Unexpected { tag }),
        }
    }

    #[inline]
    fn take_message(&mut self, message: &Message<'_>, size: usize) -> Result<(), ProtocolError> {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        if self.echo_due > 0 && message.stream != self.received.stream() {
            // To the peer its messages are in flight until the echo is written.
            let expected = self.received.newest().saturating_add(1);
            return Err(ProtocolError::OutOfOrder { expected, found: message.number });
        }
        match self.received.admits(message.stream, message.number, size) {
            Ok(()) if message.number > 0 => {
                self.received.push(message.stream, message.number, size);
                Ok(())
            }
            Ok(()) => Err(ProtocolError::OutOfOrder { expected: 1, found: 0 }),
            Err(Refused::Full) => Err(ProtocolError::WindowExceeded),
            Err(Refused::Order { expected }) => {
                Err(ProtocolError::OutOfOrder { expected, found: message.number })
            }
        }
    }

    fn take_pong<'a>(&mut self, now: Instant) -> Option<Event<'a>> {
        let sent = core::mem::replace(&mut self.ping_sent, Instant::NEVER);
        (sent != Instant::NEVER).then(|| Event::Pong { round_trip: now.since(sent) })
    }

    fn take_close<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, ProtocolError> {
        let close = message::decode(frame.body)?;
        self.state = State::Ended;
        Ok(Event::Closed(close))
    }

    /// From here on messages pass: `sent` is what the peer grants, `received` what we grant it.
    fn enter_open(&mut self, now: Instant, interval: u32, timeout: u32) {
        self.state = State::Open;
        self.interval = interval;
        self.timeout = timeout;
        self.note_heard(now);
        self.note_sent(now);
    }

    fn grant(&mut self, sent: Option<Window>, received: Option<Window>) {
        sent.into_iter().for_each(|window| self.sent.grant(window));
        received.into_iter().for_each(|window| self.received.grant(window));
    }

    #[inline]
    fn note_heard(&mut self, now: Instant) {
        self.timers.disarm(Timer::Answer);
        if self.interval > 0 {
            let silence = if R::IS_SERVER {
                Duration::from_millis(self.interval).plus(Duration::from_millis(self.timeout))
            } else {
                Duration::from_millis(self.interval)
            };
            self.timers.arm(Timer::Hear, now.after(silence));
        }
    }

    #[inline]
    fn note_sent(&mut self, now: Instant) {
        if !R::IS_SERVER && self.interval > 0 && self.state == State::Open {
            self.timers.arm(Timer::Send, now.after(Duration::from_millis(self.interval)));
        }
    }

    fn await_answer(&mut self, now: Instant) {
        if !self.timers.is_armed(Timer::Answer) && self.timeout > 0 {
            self.timers.arm(Timer::Answer, now.after(Duration::from_millis(self.timeout)));
        }
    }

    fn check_timers(&mut self, now: Instant) -> Result<(), Lost> {
        if self.timers.has_expired(Timer::Answer, now) {
            let opening = self.state != State::Open;
            self.state = State::Ended;
            return Err(if opening { Lost::OpeningTimedOut } else { Lost::NoAnswer });
        }
        let silent = self.timers.has_expired(Timer::Hear, now);
        if R::IS_SERVER && silent {
            self.state = State::Ended;
            return Err(Lost::Silent);
        }
        if silent || self.timers.has_expired(Timer::Send, now) {
            self.timers.disarm(Timer::Hear);
            self.timers.disarm(Timer::Send);
            self.ping_due = true;
        }
        Ok(())
    }
}
