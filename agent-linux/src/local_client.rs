//! A local program's side of the agent's socket: plain, blocking, one step at a time.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::Frame,
    message::{self, BootId, Hello, Information, OLDEST_VERSION, StreamId, Text, VERSION, Window},
    session::{Client, Event, Lost, OPENING_MAX_FRAME, OUTPUT_ROOM, ProtocolError, SendError, Session},
    tag::Tag,
};

use crate::{
    clock,
    outbox::NewMessage,
    queue::{MAX_FRAME, StoredMessage},
};

/// How long the agent may take to answer: it waits for its disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a local program can't speak with the agent.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No agent listens on the socket.
    #[error("no agent runs here; start it: systemctl start holdfast-agent, or holdfast-agent run")]
    NotRunning,
    /// The agent ended the session.
    #[error("the agent closed the connection: {detail}")]
    Closed {
        /// Why.
        reason: CloseReason,
        /// Why, in words.
        detail: String,
    },
    /// The agent is silent.
    #[error("the agent does not answer ({0}); see its log: journalctl -u holdfast-agent")]
    Lost(#[from] Lost),
    /// The agent speaks otherwise.
    #[error("the agent does not keep to the protocol: {0}; is it another version?")]
    Protocol(#[from] ProtocolError),
    /// The message can't be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The socket is not ours to open.
    #[error("the agent's socket can't be opened: {0}; run this as the agent's user or as root")]
    Denied(io::Error),
    /// The connection failed.
    #[error(
        "the connection to the agent broke: {0}; try again, and see its log: journalctl -u holdfast-agent"
    )]
    Socket(#[from] io::Error),
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The session is open.
    Welcome,
    /// A message from the server.
    Message(StoredMessage),
    /// The agent has our message on disk.
    Echo,
    /// How the agent is, in JSON.
    Information(String),
    /// Nothing, in the time given.
    Nothing,
}

/// A session with the agent.
pub struct LocalClient {
    session: Session<Client>,
    socket: UnixStream,
    input: Vec<u8>,
}

impl LocalClient {
    /// Connects, and opens a session. `receives` asks for the messages from the server, that many at once.
    ///
    /// # Errors
    /// [`LocalError`]; [`LocalError::NotRunning`] if nobody listens.
    pub fn connect(socket: &Path, receives: u8) -> Result<Self, LocalError> {
        let socket = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => LocalError::NotRunning,
            io::ErrorKind::PermissionDenied => LocalError::Denied(error),
            _ => LocalError::Socket(error),
        })?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        let mut client = Self { session: Session::client(MAX_FRAME), socket, input: Vec::new() };
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Local,
            boot: BootId(u64::from(std::process::id())),
            stream: StreamId(0),
            max_frame: MAX_FRAME,
            window: Window { messages: receives, bytes: u32::from(receives) * u32::from(MAX_FRAME) },
        };
        let time_limit = protocol_core::time::Duration::from_secs(TIMEOUT.as_secs() as u32);
        let mut room = [0; OPENING_MAX_FRAME as usize];
        let length = client.session.open(clock::now(), time_limit, &hello, &mut room)?;
        client.write(room.get(..length).unwrap_or_default())?;
        while client.answer()? != Happened::Welcome {}
        Ok(client)
    }

    /// Sends a message, and waits until it is in the outbox, on disk.
    ///
    /// # Errors
    /// [`LocalError`]: then it may or may not be there. The same message again is stored once.
    pub fn send(&mut self, new: &NewMessage) -> Result<(), LocalError> {
        let message = StoredMessage {
            position: 0,
            stream: new.source.0,
            number: new.source.1,
            time: new.time,
            kind: new.kind.clone(),
            body: new.body.clone(),
        };
        let mut room = vec![0; usize::from(MAX_FRAME)];
        let length = self.session.message(clock::now(), &message.wire(), &mut room)?;
        self.write(room.get(..length).unwrap_or_default())?;
        while self.answer()? != Happened::Echo {}
        Ok(())
    }

    /// Asks how the agent is. Gives JSON.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn information(&mut self) -> Result<String, LocalError> {
        let mut room = [0; 64];
        let length = self.session.notice(clock::now(), &Information { json: "" }, &mut room)?;
        self.write(room.get(..length).unwrap_or_default())?;
        loop {
            if let Happened::Information(json) = self.answer()? {
                return Ok(json);
            }
        }
    }

    /// Tells the agent that this message, and all before it, need not be kept any longer.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn taken(&mut self, message: &StoredMessage) -> Result<(), LocalError> {
        self.session.echo(message.stream, message.number);
        self.write_due()
    }

    /// Waits until something happens; for ever if `wait` is nothing.
    ///
    /// # Errors
    /// [`LocalError`].
    pub fn step(&mut self, wait: Option<Duration>) -> Result<Happened, LocalError> {
        loop {
            let (used, happened) = self.hear()?;
            self.input.drain(..used);
            if let Some(happened) = happened {
                return Ok(happened);
            }
            if used > 0 {
                continue;
            }
            self.write_due()?;
            self.socket.set_read_timeout(wait)?;
            let mut room = [0; 4096];
            match self.socket.read(&mut room) {
                Ok(0) => return Err(LocalError::Socket(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.extend_from_slice(room.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(Happened::Nothing);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for what the agent must say.
    fn answer(&mut self) -> Result<Happened, LocalError> {
        match self.step(Some(TIMEOUT))? {
            Happened::Nothing => Err(LocalError::Lost(Lost::NoAnswer)),
            happened => Ok(happened),
        }
    }

    fn hear(&mut self) -> Result<(usize, Option<Happened>), LocalError> {
        let (used, event) = self.session.input(clock::now(), &self.input)?;
        let happened = match event {
            Some(Event::Welcome(_)) => Some(Happened::Welcome),
            Some(Event::Message(message)) => Some(Happened::Message(StoredMessage::keep(&message))),
            Some(Event::Echo(_)) => Some(Happened::Echo),
            Some(Event::Notice(Frame { tag: Tag::INFORMATION, body })) => {
                let information: Information<'_> = message::decode(body).map_err(ProtocolError::from)?;
                Some(Happened::Information(information.json.to_owned()))
            }
            Some(Event::Closed(close)) => {
                let detail: Text<'_, 128> = close.detail;
                return Err(LocalError::Closed { reason: close.reason, detail: detail.to_string() });
            }
            Some(Event::Notice(_) | Event::Pong { .. } | Event::Hello(_)) | None => None,
        };
        Ok((used, happened))
    }

    fn write_due(&mut self) -> Result<(), LocalError> {
        let mut room = [0; OUTPUT_ROOM];
        while let length @ 1.. = self.session.output(clock::now(), &mut room)? {
            self.write(room.get(..length).unwrap_or_default())?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LocalError> {
        Ok(self.socket.write_all(bytes)?)
    }
}
