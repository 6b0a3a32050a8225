//! What only a server does: it hears the hello, and decides.

use super::{Event, OPENING_MAX_FRAME, ProtocolError, SendError, Server, Session, State};
use crate::{
    frame::Frame,
    message::{self, Hello, Welcome},
    time::{Duration, Instant},
    timer::Timer,
};

impl Session<Server> {
    /// A session on a connection that was just made. The client is lost if its hello has not come
    /// within `timeout`.
    pub fn server(now: Instant, timeout: Duration) -> Self {
        let mut session = Self::with_max_frame(OPENING_MAX_FRAME);
        session.timers.arm(Timer::Answer, now.after(timeout));
        session
    }

    /// Opens the session: writes the welcome to `buffer`, and gives its length.
    ///
    /// # Errors
    /// [`SendError`] if there was no hello, or the welcome does not fit.
    pub fn welcome(
        &mut self,
        now: Instant,
        welcome: &Welcome<'_>,
        buffer: &mut [u8],
    ) -> Result<usize, SendError> {
        if self.state != State::Deciding {
            return Err(SendError::NotOpen);
        }
        let max_frame = welcome.max_frame.max(OPENING_MAX_FRAME);
        let length = message::encode(&Welcome { max_frame, ..*welcome }, OPENING_MAX_FRAME, buffer)?;
        self.max_frame = max_frame;
        self.grant(None, Some(welcome.window));
        self.enter_open(now, welcome.interval, welcome.timeout);
        Ok(length)
    }
}

impl<R: super::Role> Session<R> {
    pub(super) fn take_hello<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, ProtocolError> {
        let hello: Hello = message::decode(frame.body)?;
        self.version = message::common_version(hello.oldest_version, hello.newest_version).ok_or(
            ProtocolError::NoCommonVersion { oldest: hello.oldest_version, newest: hello.newest_version },
        )?;
        self.peer_max_frame = hello.max_frame.max(OPENING_MAX_FRAME);
        self.grant(Some(hello.window), None);
        // The host has the hello, and may take its time: it keeps a deadline of its own.
        self.timers.disarm(Timer::Answer);
        self.state = State::Deciding;
        Ok(Event::Hello(hello))
    }
}
