//! What is said on a connection: how a message is sent, and what counts as its echo.

use holdfast_server::clock;
use protocol_core::{
    code::ConnectionKind,
    message::{BootId, Hello, Kind, Message, OLDEST_VERSION, StreamId, VERSION, Window},
    session::{Client, Event, OUTPUT_ROOM, Session},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Result};

/// The largest frame that a device of ours takes.
const MAX_FRAME: u16 = 2_048;

/// What is said on a connection.
#[derive(Debug)]
pub(crate) enum Dialogue {
    /// The framed protocol: a message is echoed once it is on disk.
    Framed(Box<Framed>),
    /// The same bytes come back.
    Same(Vec<u8>),
}

/// The framed protocol, from a device's side.
#[derive(Debug)]
pub(crate) struct Framed {
    session: Session<Client>,
    stream: StreamId,
    sent: u64,
    echoed: u64,
    body: Vec<u8>,
}

impl Dialogue {
    /// Opens the session of a device; its messages carry `payload` bytes. What comes behind the welcome is left
    /// in `input`.
    ///
    /// # Errors
    /// The server does not welcome it.
    pub(crate) async fn framed<S>(stream: &mut S, input: &mut Vec<u8>, payload: usize) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let id = StreamId(getrandom::u64().map_err(Error::talk)?);
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            // Always the same start: the next run takes over, where this one's end is not known yet.
            boot: BootId(1),
            stream: id,
            max_frame: MAX_FRAME,
            window: Window { messages: 1, bytes: 1_024 },
        };
        let mut session = Session::<Client>::client(MAX_FRAME);
        let mut buffer = [0; 256];
        let length = session
            .open(clock::now(), Duration::from_millis(30_000), &hello, &mut buffer)
            .map_err(Error::talk)?;
        stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
        stream.flush().await?;
        loop {
            let (used, event) = session.input(clock::now(), input).map_err(Error::talk)?;
            let welcome = match event {
                Some(Event::Welcome(_)) => true,
                Some(Event::Closed(close)) => return Err(Error::talk(close.detail)),
                _ => false,
            };
            input.drain(..used);
            if welcome {
                break;
            }
            if used == 0 && stream.read_buf(input).await? == 0 {
                return Err(Error::talk("it ended before the welcome"));
            }
        }
        let framed = Framed { session, stream: id, sent: 0, echoed: 0, body: vec![b'x'; payload] };
        Ok(Self::Framed(Box::new(framed)))
    }

    /// The classic protocol: `MESG` and a text of `payload` bytes.
    ///
    /// # Errors
    /// The server does not answer the `PING`.
    pub(crate) async fn classic<S>(stream: &mut S, payload: usize) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(b"PING").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(Self::Same([b"MESG ".as_slice(), &vec![b'x'; payload]].concat()))
    }

    /// The bare echo of `payload` bytes.
    pub(crate) fn bare(payload: usize) -> Self {
        Self::Same(vec![b'x'; payload])
    }

    /// Puts one message behind `output`.
    pub(crate) fn send(&mut self, output: &mut Vec<u8>) -> Result {
        match self {
            Self::Same(message) => output.extend_from_slice(message),
            Self::Framed(framed) => {
                framed.sent += 1;
                let message = Message {
                    stream: framed.stream,
                    number: framed.sent,
                    time: 1_700_000_000_000,
                    kind: Kind::TEXT,
                    body: &framed.body,
                };
                let start = output.len();
                output.resize(start + framed.body.len() + 96, 0);
                let room = output.get_mut(start..).unwrap_or_default();
                let length = framed.session.message(clock::now(), &message, room).map_err(Error::talk)?;
                output.truncate(start + length);
            }
        }
        Ok(())
    }

    /// Uses up what has come whole, and gives how many messages it echoes.
    pub(crate) fn receive(&mut self, input: &mut Vec<u8>) -> Result<usize> {
        match self {
            Self::Same(message) => {
                let count = input.len() / message.len();
                input.drain(..count * message.len());
                Ok(count)
            }
            Self::Framed(framed) => framed.receive(input),
        }
    }

    /// Puts what the protocol itself has to say behind `output`.
    pub(crate) fn answer(&mut self, output: &mut Vec<u8>) -> Result {
        if let Self::Framed(framed) = self {
            let mut room = [0; OUTPUT_ROOM];
            while let length @ 1.. = framed.session.output(clock::now(), &mut room).map_err(Error::talk)? {
                output.extend_from_slice(room.get(..length).unwrap_or_default());
            }
        }
        Ok(())
    }
}

impl Framed {
    fn receive(&mut self, input: &mut Vec<u8>) -> Result<usize> {
        let (now, mut done, mut count) = (clock::now(), 0, 0);
        loop {
            let rest = input.get(done..).unwrap_or_default();
            let (used, event) = self.session.input(now, rest).map_err(Error::talk)?;
            match event {
                Some(Event::Echo(echo)) => {
                    count += echo.number - self.echoed;
                    self.echoed = echo.number;
                }
                Some(Event::Closed(close)) => return Err(Error::talk(close.detail)),
                _ => {}
            }
            done += used;
            if used == 0 {
                input.drain(..done);
                return usize::try_from(count).map_err(Error::talk);
            }
        }
    }
}
