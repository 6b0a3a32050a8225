//! One connection to the server, from its first byte to its last.

#[cfg(test)]
mod tests;

use embedded_io::{Read, ReadReady, Write};
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{BootId, Hello, Message, Notice, OLDEST_VERSION, VERSION, Window},
    pump::{Progress, Pump, PumpError},
    session::{Client, Event, SendError, Session},
    time::{Duration, Instant},
};

use crate::outbox::Outbox;

/// How long the server has to welcome us.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection: poll it whenever the transport has bytes, something was queued, or its timeout has come.
#[derive(Debug)]
pub struct Connection<'b, T> {
    pump: Pump<'b, Client, T>,
    is_open: bool,
    /// How many messages of the queue are in flight: its oldest.
    in_flight: usize,
}

/// How a connection ended. Wait (longer each time, by chance), and open another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The server ended it.
    #[error("the server ended the connection: {reason:?}; it is to be tried again in {retry_after} s")]
    Closed {
        /// Why.
        reason: CloseReason,
        /// How long to wait, in seconds; 0 leaves that to the device.
        retry_after: u32,
    },
    /// The transport, the protocol or the server failed.
    #[error(transparent)]
    Failed(#[from] PumpError),
}

impl<'b, T: Read + ReadReady + Write> Connection<'b, T> {
    /// Opens a session over a transport that is connected.
    ///
    /// `input` holds the largest frame that this device takes, `output` the largest that it sends; both hold 256
    /// bytes or more. `boot` is random, and drawn anew at each start.
    ///
    /// # Errors
    /// [`PumpError`] if the transport failed.
    pub fn open<const MESSAGES: usize, const BODY: usize>(
        now: Instant,
        boot: BootId,
        outbox: &Outbox<MESSAGES, BODY>,
        transport: T,
        input: &'b mut [u8],
        output: &'b mut [u8],
    ) -> Result<Self, PumpError> {
        let max_frame = u16::try_from(input.len()).unwrap_or(u16::MAX);
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            boot,
            stream: outbox.stream(),
            max_frame,
            window: Window { messages: 1, bytes: u32::from(max_frame) },
        };
        let mut pump = Pump::new(Session::client(max_frame), transport, input, output);
        pump.send(|session, buffer| session.open(now, OPENING_TIMEOUT, &hello, buffer))?;
        Ok(Self { pump, is_open: false, in_flight: 0 })
    }

    /// Whether messages pass.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// When [`Connection::poll`] must be called at the latest; nothing if only the transport can change anything.
    pub fn timeout(&self) -> Option<Instant> {
        self.pump.timeout()
    }

    /// Does all there is to do now: hands messages from the server to `deliver`, and sends what waits in `outbox`, as
    /// far as the server takes it.
    ///
    /// # Errors
    /// [`End`]: the connection is over.
    pub fn poll<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        now: Instant,
        outbox: &mut Outbox<MESSAGES, BODY>,
        mut deliver: impl FnMut(&Message<'_>),
    ) -> Result<(), End> {
        loop {
            let mut delivered = None;
            match self.pump.poll(now)? {
                Progress::Event(Event::Welcome(_)) => self.is_open = true,
                Progress::Event(Event::Message(message)) => {
                    deliver(&message);
                    delivered = Some((message.stream, message.number));
                }
                Progress::Event(Event::Echo(echo)) => {
                    self.in_flight = self.in_flight.saturating_sub(outbox.echoed(echo));
                }
                Progress::Event(Event::Closed(close)) => {
                    return Err(End::Closed { reason: close.reason, retry_after: close.retry_after });
                }
                Progress::Event(_) | Progress::Again => {}
                Progress::Idle => break,
            }
            if let Some((stream, number)) = delivered {
                self.pump.session().echo(stream, number);
            }
        }
        self.send_waiting(now, outbox)
    }

    /// Sends what the device says of itself, or how it is doing.
    ///
    /// # Errors
    /// [`PumpError::Send`] if the session is not open or the notice does not fit: nothing was sent, and the connection
    /// goes on. Any other: the connection is over.
    pub fn notice<N: Notice>(&mut self, now: Instant, notice: &N) -> Result<(), PumpError> {
        self.pump.send(|session, buffer| session.notice(now, notice, buffer))
    }

    fn send_waiting<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        now: Instant,
        outbox: &Outbox<MESSAGES, BODY>,
    ) -> Result<(), End> {
        while self.is_open
            && let Some(message) = outbox.get(self.in_flight)
        {
            match self.pump.send(|session, buffer| session.message(now, &message, buffer)) {
                Ok(()) => self.in_flight = self.in_flight.saturating_add(1),
                Err(PumpError::Send(SendError::WindowFull | SendError::OutOfOrder { .. })) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
