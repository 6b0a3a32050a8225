//! One connection to the server, from its first byte to its last: what is said and heard, without a transport.

#[cfg(test)]
pub(crate) mod tests;

use embedded_io_async::ErrorKind;
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::Frame,
    message::{Close, Echo, Hello, Message, Notice, OLDEST_VERSION, Text, VERSION, Welcome, Window},
    session::{self, Client, Lost, ProtocolError, SendError, Session},
    time::{Duration, Instant},
};

use crate::{agent::Agent, outbox::Outbox};

/// How long the server has to welcome us.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection: it says what to write, takes what came, and tells what that was. [`Agent::run`] drives it.
///
/// 1. Put what came into [`Connection::room`], and say so by [`Connection::received`].
/// 2. [`Connection::poll`] until it says [`Step::Idle`]. What is to be written is written as a whole, at once.
/// 3. Wait until bytes have come, something was pushed or taken, or [`Connection::timeout`]; and begin again.
#[derive(Debug)]
pub struct Connection<
    'a,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
> {
    agent: &'a mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
    session: Session<Client>,
    /// What came and is not used up: `used <= filled`, and both within the agent's input.
    used: usize,
    filled: usize,
    /// The session could use nothing of what is there.
    is_dry: bool,
    has_ended: bool,
    /// The highest number of our stream that the server had when it welcomed us.
    archived: u64,
    /// The message that the caller has, and has not taken yet. The window allows for one.
    unacknowledged: Option<Echo>,
    deferred: Deferred,
}

const _: () = assert!(
    size_of::<Connection<'_, 8, 128, 8, 640, 256>>() <= 384,
    "a connection is small beside its agent"
);

/// What a step leaves to the next one, because what it gave back still borrowed the connection.
#[derive(Debug)]
enum Deferred {
    Nothing,
    /// The opening is to be written.
    Open,
    /// A message came that was taken before.
    Repeat(Echo),
    /// The queue's oldest message can't pass, and the caller was told.
    SetAside,
    /// The server broke the protocol, and is to be told.
    Broken(ProtocolError),
    /// The connection is over.
    End(End),
}

/// What a step of the connection came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<'a> {
    /// Bytes for the server.
    Write(&'a [u8]),
    /// Something for the caller. Then poll again.
    Event(Event<'a>),
    /// Nothing for the caller, but perhaps more to do: poll again.
    Again,
    /// Nothing to do before bytes have come, something is pushed or taken, or [`Connection::timeout`] has come.
    Idle,
}

/// What the connection tells its caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// The session is open. The device knows the [time](Agent::time) from here on.
    Welcome(Welcome<'a>),
    /// A message from the server. When it is done, or where it is not forgotten, call [`Connection::acknowledge`]. No other
    /// comes before that; if it is not called, this one comes again on the next connection.
    Message(Message<'a>),
    /// A frame that is neither numbered nor echoed: `ENDP`, or one whose tag a newer server knows, to be skipped.
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
    #[error("the server ended the connection: {reason}")]
    Closed {
        /// Why.
        reason: CloseReason,
        /// How long to wait at least, in seconds; 0 leaves that to the device.
        retry_after: u32,
    },
    /// The transport failed.
    #[error("the transport failed: {0:?}")]
    Transport(ErrorKind),
    /// The server's stream ended without a word.
    #[error("the stream ended without a close")]
    Ended,
    /// The server broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The server is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl<
    'a,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
> Connection<'a, MESSAGES, BODY, STREAMS, INPUT, OUTPUT>
{
    /// A session over a transport that is connected: the first step writes what opens it.
    pub fn open(agent: &'a mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>) -> Self {
        Self {
            agent,
            session: Session::client(INPUT as u16),
            used: 0,
            filled: 0,
            is_dry: true,
            has_ended: false,
            archived: 0,
            unacknowledged: None,
            deferred: Deferred::Open,
        }
    }

    /// What outlives the connection: push into its outbox, then poll.
    pub fn agent(&mut self) -> &mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT> {
        self.agent
    }

    /// Whether messages pass.
    pub fn is_open(&self) -> bool {
        self.session.state() == session::State::Open
    }

    /// When [`Connection::poll`] must be called at the latest; nothing if only bytes can change anything.
    pub fn timeout(&self) -> Option<Instant> {
        self.session.timeout()
    }

    /// Where bytes that come are put. After [`Step::Idle`] it is never empty.
    pub fn room(&mut self) -> &mut [u8] {
        let input = &mut self.agent.input;
        if let Some(waiting) = input.get_mut(..self.filled)
            && self.used <= waiting.len()
        {
            waiting.copy_within(self.used.., 0);
        }
        self.filled = self.filled.saturating_sub(self.used);
        self.used = 0;
        input.get_mut(self.filled..).unwrap_or_default()
    }

    /// Notes that `count` bytes were put into the room; 0 if the server's stream has ended.
    pub fn received(&mut self, count: usize) {
        self.filled = self.filled.saturating_add(count);
        self.has_ended |= count == 0;
        self.is_dry = false;
    }

    /// Takes one step: says what waits, as far as the server takes it, and takes one frame. Call it until it says
    /// [`Step::Idle`], then wait. Each step is short, however much the server has to say.
    ///
    /// # Errors
    /// [`End`]: the connection is over, and not to be polled again.
    pub fn poll(&mut self, now: Instant) -> Result<Step<'_>, End> {
        match core::mem::replace(&mut self.deferred, Deferred::Nothing) {
            Deferred::Nothing => {}
            Deferred::Open => return Ok(Step::Write(self.hello(now)?)),
            Deferred::Repeat(echo) => _ = self.session.echo(echo.stream, echo.number),
            Deferred::SetAside => self.agent.outbox.drop_oldest(),
            Deferred::Broken(error) => {
                self.deferred = Deferred::End(End::Protocol(error));
                return Ok(Step::Write(self.close(error.reason())));
            }
            Deferred::End(end) => return Err(end),
        }
        match self.next_waiting(now) {
            Waiting::Nothing => {}
            Waiting::Written(length) => return Ok(Step::Write(self.written(length))),
            Waiting::TooLarge => return Ok(self.set_aside()),
        }
        // Silence is judged by what is due, and what came must count first.
        if self.is_dry {
            let length = self.session.output(now, &mut self.agent.output)?;
            if length > 0 {
                return Ok(Step::Write(self.written(length)));
            }
        }
        match (self.is_dry, self.has_ended) {
            (true, true) => Err(End::Ended),
            (true, false) => Ok(Step::Idle),
            (false, _) => self.take(now),
        }
    }

    /// Takes the next frame, if it is there.
    fn take(&mut self, now: Instant) -> Result<Step<'_>, End> {
        let Agent { outbox, inbox, uptime, born, input, .. } = &mut *self.agent;
        let bytes = input.get(self.used..self.filled).unwrap_or_default();
        let (consumed, event) = match self.session.input(now, bytes) {
            Ok(taken) => taken,
            Err(error) => {
                self.deferred = Deferred::Broken(error);
                return Ok(Step::Again);
            }
        };
        self.used = self.used.saturating_add(consumed);
        self.is_dry = consumed == 0;
        match event {
            Some(session::Event::Welcome(welcome)) => {
                self.archived = welcome.archived;
                *born = welcome.time.saturating_sub(uptime.millis(now));
                outbox.bound(welcome.max_frame);
                return Ok(Step::Event(Event::Welcome(welcome)));
            }
            Some(session::Event::Message(message)) => {
                let echo = Echo { stream: message.stream, number: message.number };
                if !inbox.has(echo) {
                    self.unacknowledged = Some(echo);
                    return Ok(Step::Event(Event::Message(message)));
                }
                self.deferred = Deferred::Repeat(echo);
            }
            Some(session::Event::Echo(echo)) => outbox.echoed(echo),
            Some(session::Event::Notice(frame)) => return Ok(Step::Event(Event::Notice(frame))),
            Some(session::Event::Closed(Close { reason, retry_after, .. })) => {
                return Err(End::Closed { reason, retry_after });
            }
            Some(session::Event::Hello(_) | session::Event::Pong { .. }) | None => {}
        }
        Ok(Step::Again)
    }

    /// Notes that the message that came last was taken: it is not delivered again before a reset, and the next step
    /// echoes it.
    pub fn acknowledge(&mut self) {
        if let Some(echo) = self.unacknowledged.take() {
            self.agent.inbox.note(echo);
            self.session.echo(echo.stream, echo.number);
        }
    }

    /// Says what the device is, or how it is doing: gives what to write, as a whole and before the next step. A server
    /// ends connections that say more than 16 notices at once, or more than one a second in the long run.
    ///
    /// # Errors
    /// [`SendError`] if the session is not open or the notice does not fit: the connection goes on.
    pub fn notice<N: Notice>(&mut self, now: Instant, notice: &N) -> Result<&[u8], SendError> {
        let length = self.session.notice(now, notice, &mut self.agent.output)?;
        Ok(self.written(length))
    }

    /// Ends the connection: gives what to write to say why.
    pub fn close(&mut self, reason: CloseReason) -> &[u8] {
        let close = Close { reason, retry_after: 0, detail: Text::default() };
        let length = self.session.close(&close, &mut self.agent.output);
        self.written(length)
    }

    fn written(&self, length: usize) -> &[u8] {
        self.agent.output.get(..length).unwrap_or_default()
    }

    fn hello(&mut self, now: Instant) -> Result<&[u8], End> {
        let max_frame = INPUT as u16;
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            boot: self.agent.boot(),
            stream: self.agent.outbox.stream(),
            max_frame,
            window: Window { messages: 1, bytes: u32::from(max_frame) },
        };
        let opening = self.session.open(now, OPENING_TIMEOUT, &hello, &mut self.agent.output);
        // An output of any size that compiles has room for it.
        Ok(self.written(opening.unwrap_or_default()))
    }

    /// Writes the message that follows on those in flight, which are the queue's oldest, if the server takes it now.
    fn next_waiting(&mut self, now: Instant) -> Waiting {
        if !self.is_open() {
            return Waiting::Nothing;
        }
        let in_flight = usize::from(self.session.in_flight());
        let Agent { outbox, output, .. } = &mut *self.agent;
        let Some(message) = outbox.get(in_flight) else { return Waiting::Nothing };
        match self.session.message(now, &message, output) {
            Ok(length) => Waiting::Written(length),
            // What is in flight comes first: a number may be left out only behind its echo.
            Err(SendError::Encode(_)) if in_flight == 0 && !Outbox::<MESSAGES, BODY>::ALL_FIT => {
                Waiting::TooLarge
            }
            Err(_) => Waiting::Nothing,
        }
    }

    /// The oldest message can't pass: the next step drops it.
    fn set_aside(&mut self) -> Step<'_> {
        self.deferred = Deferred::SetAside;
        match self.agent.outbox.get(0) {
            // Its number is left out only if it was never archived; else its echo was lost.
            Some(message) if message.number > self.archived => Step::Event(Event::TooLarge(message)),
            _ => Step::Again,
        }
    }
}

/// What became of the messages that wait.
enum Waiting {
    /// None can be sent now.
    Nothing,
    /// One stands in the output, with so many bytes.
    Written(usize),
    /// The oldest can't pass here at all.
    TooLarge,
}
