//! The pump: a session over any blocking or polled `embedded-io` transport, with buffers of the caller.

use embedded_io::{ErrorKind, Read, ReadReady, Write};

use crate::{
    message::Close,
    session::{Event, Lost, ProtocolError, Role, SendError, Session},
    time::Instant,
};

/// How many frames are taken in a row before what is due is written, though more may wait to be read.
const FRAMES_IN_A_ROW: u8 = 16;

/// Moves bytes between one transport and one session.
///
/// It waits for nothing: [`Pump::poll`] reads only what the transport has ready. How long a host may
/// sleep between two polls is for the transport's interrupt and [`Pump::timeout`] to say.
#[derive(Debug)]
pub struct Pump<'b, R, T> {
    session: Session<R>,
    transport: T,
    /// What came and is not used up: `used <= filled <= input.len()`.
    input: &'b mut [u8],
    used: usize,
    filled: usize,
    /// The session could use nothing of what is there.
    is_dry: bool,
    has_ended: bool,
    /// Frames that were taken since something due was last written.
    unanswered: u8,
    output: &'b mut [u8],
}

/// What a step of the pump came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<'a> {
    /// Something for the host.
    Event(Event<'a>),
    /// Nothing for the host, but perhaps more to do: poll again.
    Again,
    /// Nothing to do before the transport has bytes or [`Pump::timeout`] has come.
    Idle,
}

/// Why a connection over a pump is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PumpError {
    /// The transport failed.
    #[error("the transport failed: {0:?}")]
    Transport(ErrorKind),
    /// The stream ended without a close.
    #[error("the stream ended without a close")]
    Ended,
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The peer is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// Something can't be sent now; the connection goes on.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl<'b, R: Role, T: Read + ReadReady + Write> Pump<'b, R, T> {
    /// Joins a session to its transport. `input` holds the largest frame that this side takes,
    /// `output` the largest that it sends; both hold 256 bytes or more.
    pub fn new(mut session: Session<R>, transport: T, input: &'b mut [u8], output: &'b mut [u8]) -> Self {
        session.set_max_frame(input.len());
        Self {
            session,
            transport,
            input,
            used: 0,
            filled: 0,
            is_dry: true,
            has_ended: false,
            unanswered: 0,
            output,
        }
    }

    /// The session, to echo and to ping.
    pub fn session(&mut self) -> &mut Session<R> {
        &mut self.session
    }

    /// When [`Pump::poll`] must be called at the latest; nothing if only the transport can change the session.
    pub fn timeout(&self) -> Option<Instant> {
        self.session.timeout()
    }

    /// Writes what `write` puts into the session's output buffer, such as a message.
    ///
    /// # Errors
    /// [`PumpError::Send`] if it can't be sent now, or [`PumpError::Transport`].
    pub fn send(
        &mut self,
        write: impl FnOnce(&mut Session<R>, &mut [u8]) -> Result<usize, SendError>,
    ) -> Result<(), PumpError> {
        let length = write(&mut self.session, self.output)?;
        self.write(length)
    }

    /// Ends the session, and tells the peer why. What was due and not yet written is dropped.
    ///
    /// # Errors
    /// [`PumpError::Transport`].
    pub fn close(&mut self, close: &Close<'_>) -> Result<(), PumpError> {
        let length = self.session.close(close, self.output);
        self.write(length)?;
        self.transport.flush().map_err(transport)
    }

    /// Takes one step: call it until it says [`Progress::Idle`], then sleep.
    ///
    /// # Errors
    /// [`PumpError`]: the connection is over.
    pub fn poll(&mut self, now: Instant) -> Result<Progress<'_>, PumpError> {
        self.read()?;
        // Only now: the session judges silence by what is due, and what came must count first. A peer that goes on
        // talking is answered meanwhile; it can't be silent.
        if self.is_dry || self.unanswered >= FRAMES_IN_A_ROW {
            self.unanswered = 0;
            self.flush(now)?;
        }
        if self.is_dry {
            return if self.has_ended { Err(PumpError::Ended) } else { Ok(Progress::Idle) };
        }
        let bytes = self.input.get(self.used..self.filled).unwrap_or_default();
        let (consumed, event) = self.session.input(now, bytes)?;
        self.used = self.used.saturating_add(consumed);
        self.is_dry = consumed == 0;
        self.unanswered = self.unanswered.saturating_add(u8::from(consumed > 0));
        Ok(event.map_or(Progress::Again, Progress::Event))
    }

    fn read(&mut self) -> Result<(), PumpError> {
        self.drop_used();
        let room = self.input.get_mut(self.filled..).unwrap_or_default();
        if room.is_empty() || self.has_ended || !self.transport.read_ready().map_err(transport)? {
            return Ok(());
        }
        let count = self.transport.read(room).map_err(transport)?;
        self.filled = self.filled.saturating_add(count);
        self.has_ended = count == 0;
        self.is_dry = false;
        Ok(())
    }

    /// Moves what is not used up to the front.
    fn drop_used(&mut self) {
        if let Some(waiting) = self.input.get_mut(..self.filled)
            && self.used <= waiting.len()
        {
            waiting.copy_within(self.used.., 0);
        }
        self.filled = self.filled.saturating_sub(self.used);
        self.used = 0;
    }

    fn flush(&mut self, now: Instant) -> Result<(), PumpError> {
        // Three kinds of frame can be due, each once.
        for _ in 0..3 {
            match self.session.output(now, self.output)? {
                0 => break,
                length => self.write(length)?,
            }
        }
        self.transport.flush().map_err(transport)
    }

    fn write(&mut self, length: usize) -> Result<(), PumpError> {
        // Not `write_all`: it panics if the transport takes nothing.
        let mut rest = self.output.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let count = self.transport.write(rest).map_err(transport)?;
            match rest.get(count..) {
                Some(after) if count > 0 => rest = after,
                _ => return Err(PumpError::Transport(ErrorKind::WriteZero)),
            }
        }
        Ok(())
    }
}

fn transport(error: impl embedded_io::Error) -> PumpError {
    PumpError::Transport(error.kind())
}
