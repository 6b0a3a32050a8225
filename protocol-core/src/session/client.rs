//! What only a client does: it opens the session.

use super::{Client, Event, OPENING_MAX_FRAME, ProtocolError, SendError, Session, State};
use crate::{
    frame::{self, Frame},
    message::{self, Hello, Welcome},
    tag::Tag,
    time::{Duration, Instant},
    timer::Timer,
};

impl Session<Client> {
    /// A session that takes frames of at most `max_frame` bytes, header included.
    pub fn client(max_frame: u16) -> Self {
        Self::with_max_frame(max_frame)
    }

    /// Opens the session: writes `PING` and the hello to `buffer`, and gives their length.
    ///
    /// The server is lost if the session is not open within `timeout`.
    ///
    /// # Errors
    /// [`SendError`] if `buffer` has no room, or the session was opened before.
    pub fn open(
        &mut self,
        now: Instant,
        timeout: Duration,
        hello: &Hello,
        buffer: &mut [u8],
    ) -> Result<usize, SendError> {
        if self.state != State::New {
            return Err(SendError::NotOpen);
        }
        let ping = frame::encode_whole(Tag::PING, buffer).unwrap_or_default();
        let rest = buffer.get_mut(ping..).unwrap_or_default();
        let length = message::encode(hello, OPENING_MAX_FRAME, rest)?;
        self.state = State::Opening;
        self.grant(None, Some(hello.window));
        self.timers.arm(Timer::Answer, now.after(timeout));
        Ok(ping.saturating_add(length))
    }
}

impl<R: super::Role> Session<R> {
    #[inline(never)]
    pub(super) fn take_welcome<'a>(
        &mut self,
        now: Instant,
        frame: Frame<'a>,
    ) -> Result<Event<'a>, ProtocolError> {
        let welcome: Welcome<'a> = message::decode(frame.body)?;
        if !(message::OLDEST_VERSION..=message::VERSION).contains(&welcome.version) {
            return Err(ProtocolError::NoCommonVersion { oldest: welcome.version, newest: welcome.version });
        }
        if welcome.interval > 0 && welcome.timeout == 0 {
            return Err(ProtocolError::NoTimeout);
        }
        self.version = welcome.version;
        self.peer_max_frame = welcome.max_frame.max(OPENING_MAX_FRAME);
        self.grant(Some(welcome.window), None);
        self.enter_open(now, welcome.interval, welcome.timeout);
        Ok(Event::Welcome(welcome))
    }
}
