//! The original protocol, on its own listener: texts that end when the line goes quiet (`docs/protocol.md`, Classic).
//!
//! Four bytes are a whole message or start a longer one. There is no length and no terminator, so a text ends at a
//! **gap**: a while in which nothing came. The gap is a timer of [`Classic`], the server's side of one connection.
//! It holds no bytes: they stay with the caller, who drives it so:
//!
//! 1. Read into a buffer of [`MAX_MESSAGE`] bytes, behind what is left in it.
//! 2. Call [`input`](Classic::input) with all the buffer holds, do what the event says, drop what was consumed, and
//!    call it again until it says [`Event::Wait`].
//! 3. Read on, but at most until [`timeout`](Classic::timeout): then look once more whether bytes have come, for a
//!    caller that wakes late must not take its own delay for a gap, and call `input` in any case.
//! 4. At the end of the stream call [`end`](Classic::end), then `input` until [`Event::End`].
//!
//! So the same bytes with the same gaps give the same events, however they are split.

use crate::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// The longest text, in bytes. A longer one ends here; after it, the connection can't go on.
pub const MAX_TEXT: usize = 64 * 1024;

/// The longest message, tag included, in bytes: what the caller's buffer must hold.
pub const MAX_MESSAGE: usize = MAX_TEXT + 5;

/// The longest password, in bytes. A longer one is malformed.
pub const MAX_PASSWORD: usize = 1024;

/// How long a tag of fewer than four bytes, and `PING` at first, is waited for.
pub const TAG_WAIT: Duration = Duration::from_secs(10);

/// The gap that ends a text unless the operator sets another.
pub const DEFAULT_GAP: Duration = Duration::from_millis(2);

/// What a classic server answers. It sends nothing else but the echoes of texts, and nothing unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `PING`.
    Pong,
    /// The password was right: the server closes.
    Accepted,
    /// The password was wrong.
    Refused,
    /// What came in the password's place was no password.
    Malformed,
}

impl Answer {
    /// The answer on the wire: exactly these four bytes, without a line end.
    pub const fn bytes(self) -> [u8; 4] {
        match self {
            Self::Pong => *b"PONG",
            Self::Accepted => *b"PWOK",
            Self::Refused => *b"PWNO",
            Self::Malformed => *b"PWIV",
        }
    }

    /// The answer that exactly these bytes are, if they are one.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let answers = [Self::Pong, Self::Accepted, Self::Refused, Self::Malformed];
        answers.into_iter().find(|answer| answer.bytes() == bytes)
    }
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing until more bytes come, the stream ends, or the timeout passes.
    Wait,
    /// Answer [`Answer::Pong`].
    Ping,
    /// A text: archive `text`, then send back `message`.
    Text {
        /// All of the message, tag included, as it came: the echo.
        message: &'a [u8],
        /// The text. Mostly UTF-8, but nobody checked.
        text: &'a [u8],
    },
    /// Answer whether this is the password that stops the server.
    Password(&'a [u8]),
    /// Answer [`Answer::Malformed`].
    Malformed,
    /// The stream has ended, and all that came has been told.
    End,
}

/// Why the connection can't go on: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassicError {
    /// A connection began with something else than `PING`.
    #[error("expected PING first, found the bytes {found:02x?}")]
    NotPing {
        /// The first bytes that came; zero where they had not come yet.
        found: [u8; 4],
    },
    /// A connection did not say `PING` in time.
    #[error("expected PING within 10 s, found {came} bytes of it; a classic client sends PING at once")]
    NoPing {
        /// How many bytes of `PING` had come.
        came: usize,
    },
    /// More came without a gap than one message may hold.
    #[error("expected a gap after at most {MAX_TEXT} bytes of text, found none; send less at once")]
    TooLong,
}

/// The server's side of one classic connection. See the [module](self) for how to drive it.
#[derive(Clone, Debug)]
pub struct Classic {
    gap: Duration,
    state: State,
    /// How many of the caller's bytes were there at the last call: more means that some have come since.
    seen: usize,
    /// When bytes last came.
    heard: Instant,
    /// When the first byte came of what is not consumed yet; before `PING`, when the connection began.
    began: Instant,
    deadline: Instant,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `PING` must come first.
    Handshake,
    /// Any message may come.
    Ready,
    /// `TERM` has come alone: `PASS ` and the password are due.
    Password,
    /// Everything up to the gap is dropped.
    Dropping {
        /// How many bytes have been dropped.
        dropped: usize,
        /// Whether a password was due.
        malformed: bool,
    },
    /// A text has reached the cap.
    Overlong,
}

/// What a call of `input` found out about the line, once for all its steps.
#[derive(Clone, Copy)]
struct Line {
    /// A gap has passed since bytes last came, or none will come: a text ends.
    quiet: bool,
    /// A torn tag has had its time.
    stale: bool,
}

/// One step of `input`.
enum Step<'a> {
    /// So many bytes are done with; there may be more to tell.
    Skip(usize),
    /// So many bytes gave this event.
    Event(usize, Event<'a>),
    /// Nothing can be told before this moment unless more bytes come.
    Wait(Instant),
}

impl Classic {
    /// A connection that begins at `now`. A text ends when nothing has come for `gap`; with a gap of zero, whatever
    /// one read returned is one message, as the original did it.
    pub const fn new(now: Instant, gap: Duration) -> Self {
        Self {
            gap,
            state: State::Handshake,
            seen: 0,
            heard: now,
            began: now,
            deadline: now.after(TAG_WAIT),
            ended: false,
        }
    }

    /// Tells what comes next in `bytes`, which are all that came and that no earlier call consumed, and how many of
    /// them to drop before the next call. `now` is when the last of them came, or the moment of a timeout.
    ///
    /// # Errors
    /// [`ClassicError`]: the connection can't go on.
    pub fn input<'a>(&mut self, now: Instant, bytes: &'a [u8]) -> Result<(usize, Event<'a>), ClassicError> {
        let line = self.observe(now, bytes.len());
        let mut consumed = 0_usize;
        loop {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let event = match self.step(rest, line)? {
                Step::Skip(count) => {
                    self.consume(&mut consumed, count);
                    continue;
                }
                Step::Event(count, event) => {
                    self.consume(&mut consumed, count);
                    event
                }
                Step::Wait(deadline) => {
                    self.deadline = deadline;
                    Event::Wait
                }
            };
            self.seen = bytes.len().saturating_sub(consumed);
            return Ok((consumed, event));
        }
    }

    /// When [`input`](Self::input) must be called even if nothing has come: what it last said was [`Event::Wait`].
    pub fn timeout(&self) -> Option<Instant> {
        (self.deadline != Instant::NEVER).then_some(self.deadline)
    }

    /// The stream has ended: what has come is all there is.
    pub const fn end(&mut self) {
        self.ended = true;
    }

    fn observe(&mut self, now: Instant, length: usize) -> Line {
        let news = length > self.seen;
        if news {
            self.heard = now;
            if self.seen == 0 && !matches!(self.state, State::Handshake) {
                self.began = now;
            }
        }
        // Bytes that are new belong to the text even if they come late: see the module.
        let waited = |since: Instant, time: Duration| now >= since.after(time);
        Line {
            quiet: self.ended || self.gap == Duration::ZERO || (!news && waited(self.heard, self.gap)),
            stale: self.ended || (!news && waited(self.began, TAG_WAIT)),
        }
    }

    /// Counts bytes as consumed. Those behind them came with the last that came, or one more would be consumed.
    fn consume(&mut self, consumed: &mut usize, count: usize) {
        if count > 0 {
            *consumed = consumed.saturating_add(count);
            self.began = self.heard;
        }
    }

    fn step<'a>(&mut self, rest: &'a [u8], line: Line) -> Result<Step<'a>, ClassicError> {
        match self.state {
            State::Handshake => self.handshake(rest, line),
            State::Ready => Ok(self.message(rest, line)),
            State::Password => Ok(self.password_due(rest, line)),
            State::Dropping { dropped, malformed } => self.drop_rest(rest, line, dropped, malformed),
            State::Overlong => Err(ClassicError::TooLong),
        }
    }

    fn handshake<'a>(&mut self, rest: &[u8], line: Line) -> Result<Step<'a>, ClassicError> {
        if rest.starts_with(b"PING") {
            self.state = State::Ready;
            Ok(Step::Event(4, Event::Ping))
        } else if !b"PING".starts_with(rest) {
            let mut found = [0; 4];
            found.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            Err(ClassicError::NotPing { found })
        } else if self.ended {
            Ok(Step::Event(rest.len(), Event::End))
        } else if line.stale {
            Err(ClassicError::NoPing { came: rest.len() })
        } else {
            Ok(Step::Wait(self.began.after(TAG_WAIT)))
        }
    }

    fn message<'a>(&mut self, rest: &'a [u8], line: Line) -> Step<'a> {
        if rest.is_empty() {
            self.nothing()
        } else if rest.starts_with(b"PING") {
            Step::Event(4, Event::Ping)
        } else if rest == b"MESG" || rest.starts_with(b"MESG ") {
            self.text(rest, line)
        } else if let Some(password) = rest.strip_prefix(b"TERM ") {
            self.password(password, line)
        } else if rest == b"TERM" && !line.quiet {
            self.wait_for_gap()
        } else if rest.starts_with(b"TERM") {
            self.state = State::Password;
            Step::Skip(4)
        } else if is_torn(rest, &[b"PING", b"MESG", b"TERM"]) && !line.stale {
            Step::Wait(self.began.after(TAG_WAIT))
        } else {
            self.drop_all(false)
        }
    }

    fn password_due<'a>(&mut self, rest: &'a [u8], line: Line) -> Step<'a> {
        if rest.is_empty() {
            self.nothing()
        } else if let Some(password) = rest.strip_prefix(b"PASS ") {
            self.password(password, line)
        } else if rest == b"PASS" && !line.quiet {
            self.wait_for_gap()
        } else if is_torn(rest, &[b"PASS"]) && !line.stale {
            Step::Wait(self.began.after(TAG_WAIT))
        } else {
            self.drop_all(true)
        }
    }

    fn text<'a>(&mut self, rest: &'a [u8], line: Line) -> Step<'a> {
        let message = rest.get(..MAX_MESSAGE).unwrap_or(rest);
        if message.len() == MAX_MESSAGE {
            self.state = State::Overlong;
        } else if !line.quiet {
            return self.wait_for_gap();
        }
        let text = message.get(5..).unwrap_or_default();
        Step::Event(message.len(), Event::Text { message, text })
    }

    /// The password behind `TERM ` or `PASS `, five bytes both.
    fn password<'a>(&mut self, password: &'a [u8], line: Line) -> Step<'a> {
        if password.len() > MAX_PASSWORD {
            self.drop_all(true)
        } else if line.quiet {
            self.state = State::Ready;
            Step::Event(password.len().saturating_add(5), Event::Password(password))
        } else {
            self.wait_for_gap()
        }
    }

    fn drop_all<'a>(&mut self, malformed: bool) -> Step<'a> {
        self.state = State::Dropping { dropped: 0, malformed };
        Step::Skip(0)
    }

    fn drop_rest<'a>(
        &mut self,
        rest: &[u8],
        line: Line,
        dropped: usize,
        malformed: bool,
    ) -> Result<Step<'a>, ClassicError> {
        let dropped = dropped.saturating_add(rest.len());
        if dropped > MAX_MESSAGE {
            return Err(ClassicError::TooLong);
        }
        if line.quiet {
            self.state = State::Ready;
            return Ok(match malformed {
                true => Step::Event(rest.len(), Event::Malformed),
                false => Step::Skip(rest.len()),
            });
        }
        self.state = State::Dropping { dropped, malformed };
        Ok(if rest.is_empty() { self.wait_for_gap() } else { Step::Skip(rest.len()) })
    }

    fn nothing<'a>(&self) -> Step<'a> {
        if self.ended { Step::Event(0, Event::End) } else { Step::Wait(Instant::NEVER) }
    }

    fn wait_for_gap<'a>(&self) -> Step<'a> {
        Step::Wait(self.heard.after(self.gap))
    }
}

/// Whether these are the first bytes, but not all, of one of the tags. Bytes that are not can't become a tag that is
/// known: nothing is won by waiting for the rest.
fn is_torn(bytes: &[u8], tags: &[&[u8; 4]]) -> bool {
    bytes.len() < 4 && tags.iter().any(|tag| tag.starts_with(bytes))
}
