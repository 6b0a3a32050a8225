//! Messages on their way out over a session: loaded from a queue bit by bit, sent as the window allows.

use std::collections::VecDeque;

use protocol_core::{
    message::{Echo, EncodeError, StreamId},
    session::{Role, SendError, Session},
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    clock,
    pipe::Pipe,
    queue::{MAX_FRAME, QueueError, StoredMessage},
    store::{Asked, answer},
};

/// How many messages are loaded at once, at most: as many as can be in flight.
pub(crate) const LOAD_MESSAGES: usize = protocol_core::window::MAX_IN_FLIGHT;

/// How many bytes are loaded at once, at most.
pub(crate) const LOAD_BYTES: u64 = 64 * 1024;

/// While this much waits in the pipe, in bytes, nothing is added to it.
const MOST_UNSENT: usize = 32 * 1024;

/// Messages on their way out. All are loaded in the order of their positions, and each is sent once a connection.
pub(crate) struct Feed {
    /// Loaded, and not sent.
    loaded: VecDeque<StoredMessage>,
    /// Sent, and not echoed: stream, number and position.
    sent: VecDeque<(StreamId, u64, u64)>,
    /// The position up to which messages were loaded.
    cursor: u64,
    /// What is being loaded, and the position up to which there was any.
    loading: Option<(Asked<Vec<StoredMessage>>, u64)>,
}

impl Feed {
    /// Begins with the message after the position `cursor`.
    pub(crate) fn after(cursor: u64) -> Self {
        Self { loaded: VecDeque::new(), sent: VecDeque::new(), cursor, loading: None }
    }

    /// Sends what may be sent, and has more loaded by `load` if there is any up to the position `last`.
    ///
    /// # Errors
    /// The peer does not take the next message: it is too large.
    pub(crate) fn send<R: Role, S: AsyncRead + AsyncWrite>(
        &mut self,
        session: &mut Session<R>,
        pipe: &mut Pipe<S>,
        last: u64,
        load: impl FnOnce(u64) -> Asked<Vec<StoredMessage>>,
    ) -> Result<(), EncodeError> {
        while pipe.unsent() < MOST_UNSENT
            && let Some(message) = self.loaded.front()
        {
            let room = usize::from(MAX_FRAME);
            match pipe.write(room, |room| session.message(clock::now(), &message.wire(), room)) {
                Ok(_) => self.sent.push_back((message.stream, message.number, message.position)),
                Err(SendError::Encode(error)) => return Err(error),
                Err(_) => return Ok(()),
            }
            self.loaded.pop_front();
        }
        if self.loaded.is_empty() && self.loading.is_none() && self.cursor < last {
            self.loading = Some((load(self.cursor), last));
        }
        Ok(())
    }

    /// Waits for messages that are being loaded; for ever if there are none. Dropping the future loses nothing.
    ///
    /// # Errors
    /// They can't be read.
    pub(crate) async fn load(&mut self) -> Result<(), QueueError> {
        let Some((loading, last)) = &mut self.loading else {
            return std::future::pending().await;
        };
        let (messages, last) = (answer(loading).await, *last);
        self.loading = None;
        let messages = messages?;
        // Where nothing was there, although something had been, another process has taken it.
        self.cursor = messages.last().map_or(last, |message| message.position);
        self.loaded.extend(messages);
        Ok(())
    }

    /// Takes note of an echo. Gives the position up to which all that was sent is with the peer.
    pub(crate) fn echoed(&mut self, echo: &Echo) -> Option<u64> {
        let mut position = None;
        while let Some((_, number, at)) =
            self.sent.pop_front_if(|(stream, number, _)| *stream == echo.stream && *number <= echo.number)
        {
            position = Some(at);
            if number == echo.number {
                break;
            }
        }
        position
    }
}
