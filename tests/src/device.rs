//! A device that says what no agent would: TLS, and bytes of the test's own choice inside of it. And a local
//! program of an agent, which speaks the same protocol without TLS.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol_core::{
    alpn,
    code::{CloseReason, ConnectionKind},
    frame::{self, Decoded, MAX_FRAME},
    invitation::{Invitation, PREFIX},
    message::{self, Body, BootId, Close, Echo, Enrol, Hello, Kind, Message, StreamId, Text, Window},
    tag::Tag,
};
use rcgen::KeyPair;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{tls, wait::LONGEST_WAIT};

/// What a connection speaks, by its name in the handshake.
pub const FRAMED: &str = alpn::SESSION;
/// The same for a gateway, for a device that is wired to it.
pub const GATEWAY: &str = alpn::GATEWAY;
/// The same for one that enrols.
pub const ENROLMENT: &str = alpn::ENROLMENT;

/// The same for an operator elsewhere.
pub const API: &str = alpn::API;

/// A device's key.
#[derive(Debug)]
pub struct Key(KeyPair);

impl Key {
    /// A new key, which nobody knows.
    ///
    /// # Panics
    /// The system has no randomness.
    pub fn new() -> Self {
        Self(tls::new_key())
    }

    /// A new key that is registered by this enrolment line.
    ///
    /// # Errors
    /// The server can't be reached.
    ///
    /// # Panics
    /// The server refuses.
    pub fn enrolled(line: &str) -> io::Result<Self> {
        let key = Self::new();
        let answer = key.enrol(line)?;
        assert_eq!(answer.tag, Tag::ENROLLED, "{answer:?}");
        Ok(key)
    }

    /// Asks to be registered by this enrolment line, and gives the server's answer.
    ///
    /// # Errors
    /// The server can't be reached, or gives none.
    ///
    /// # Panics
    /// The line is none.
    pub fn enrol(&self, line: &str) -> io::Result<Received> {
        let text = line.strip_prefix(PREFIX).expect("an enrolment line");
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("base64");
        let invitation = Invitation::decode(&bytes).expect("an invitation");
        let address = invitation.addresses.first().and_then(|address| address.as_str().parse().ok());
        let mut device = Device::connect(address.expect("an address"), ENROLMENT, self)?;
        device.write(b"PING")?;
        device.send(&Enrol {
            oldest_version: 1,
            newest_version: 1,
            token: invitation.token,
            host_name: Text::shortened("raw"),
            ssh_host_keys: Default::default(),
        })?;
        device.expect(Tag::PONG)?;
        device.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Key {
    /// The key as a file has it.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its tag.
    pub tag: Tag,
    /// Its body.
    pub body: Vec<u8>,
}

/// A farewell that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// When to come back, in seconds.
    pub retry_after: u32,
    /// Why, in words.
    pub detail: String,
}

/// A connection of a device, or of a local program.
#[derive(Debug)]
pub struct Device<S = Tls> {
    stream: S,
    input: Vec<u8>,
}

/// TLS over TCP.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Device<UnixStream> {
    /// Opens a session of a local program with the agent that has this state directory. It only sends.
    ///
    /// # Errors
    /// The agent does not run, or does not answer within `time_limit`; nor may it take longer later.
    pub fn local(state: &Path, stream: StreamId, time_limit: Duration) -> io::Result<Self> {
        let socket = UnixStream::connect(state.join("agent.sock"))?;
        socket.set_read_timeout(Some(time_limit))?;
        socket.set_write_timeout(Some(time_limit))?;
        let mut program = Self { stream: socket, input: Vec::new() };
        let kind = ConnectionKind::Local;
        let window = Window { messages: 0, bytes: 0 };
        program.write(b"PING")?;
        program.send(&Hello { kind, stream, window, ..hello() })?;
        loop {
            match program.receive()? {
                Some(Received { tag: Tag::WELCOME, .. }) => return Ok(program),
                Some(Received { tag: Tag::CLOSE, .. }) | None => {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Some(_) => {}
            }
        }
    }
}

impl Device {
    /// Connects, and shakes hands.
    ///
    /// # Errors
    /// Either fails, or takes too long.
    pub fn connect(server: SocketAddr, protocol: &str, key: &Key) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONGEST_WAIT))?;
        stream.set_write_timeout(Some(LONGEST_WAIT))?;
        let mut tls = ClientConnection::new(tls::client(&key.0, protocol), ServerName::from(server.ip()))
            .map_err(io::Error::other)?;
        tls.complete_io(&mut stream)?;
        Ok(Self { stream: StreamOwned::new(tls, stream), input: Vec::new() })
    }

    /// Connects, and opens a session.
    ///
    /// # Errors
    /// The server can't be reached.
    ///
    /// # Panics
    /// The server refuses.
    pub fn online(server: SocketAddr, key: &Key) -> io::Result<Self> {
        let mut device = Self::connect(server, FRAMED, key)?;
        device.write(b"PING")?;
        device.send(&hello())?;
        device.expect(Tag::PONG)?;
        device.expect(Tag::WELCOME)?;
        Ok(device)
    }
}

impl<S: Read + Write> Device<S> {
    /// Reads all that comes, to the end that the server says.
    ///
    /// # Errors
    /// The connection breaks, or nothing comes in time.
    pub fn read_to_end(&mut self) -> io::Result<String> {
        let mut all = String::new();
        self.stream.read_to_string(&mut all)?;
        Ok(all)
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send<B: Body>(&mut self, body: &B) -> io::Result<()> {
        self.write(&frame_of(body))
    }

    /// Sends a text as a message.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send_text(&mut self, stream: StreamId, number: u64, text: &str) -> io::Result<()> {
        self.send(&Message { stream, number, time: 0, kind: Kind::TEXT, body: text.as_bytes() })
    }

    /// Waits until a message is echoed, and all before it.
    ///
    /// # Errors
    /// The connection ends before, or nothing comes.
    pub fn echoed(&mut self, number: u64) -> io::Result<()> {
        loop {
            let received = self.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if received.tag == Tag::ECHO {
                let echo: Echo = message::decode(&received.body).map_err(io::Error::other)?;
                if echo.number >= number {
                    return Ok(());
                }
            } else if received.tag == Tag::CLOSE {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }

    /// The next frame; nothing at the end of the connection.
    ///
    /// # Errors
    /// Nothing comes, or no frame.
    pub fn receive(&mut self) -> io::Result<Option<Received>> {
        loop {
            match frame::decode(&self.input, MAX_FRAME).map_err(io::Error::other)? {
                Decoded::Frame { frame, consumed } => {
                    let received = Received { tag: frame.tag, body: frame.body.to_vec() };
                    self.input.drain(..consumed);
                    return Ok(Some(received));
                }
                Decoded::Incomplete => {}
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if ends(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next frame of this tag; what comes before it is passed over.
    ///
    /// # Errors
    /// Nothing comes.
    ///
    /// # Panics
    /// The server ends the connection before.
    #[track_caller]
    pub fn expect(&mut self, tag: Tag) -> io::Result<Received> {
        loop {
            match self.receive()? {
                Some(received) if received.tag == tag => return Ok(received),
                Some(received) if received.tag != Tag::CLOSE => {}
                other => panic!("expected {tag}, found {other:?}"),
            }
        }
    }

    /// The server's farewell; what comes before it is passed over, and the connection ends behind it.
    ///
    /// # Errors
    /// Nothing comes.
    ///
    /// # Panics
    /// The connection ends without one, or goes on behind it.
    #[track_caller]
    pub fn farewell(&mut self) -> io::Result<Closed> {
        loop {
            let received = self.receive()?.expect("a farewell before the end of the connection");
            if received.tag == Tag::CLOSE {
                let close: Close<'_> = message::decode(&received.body).map_err(io::Error::other)?;
                assert_eq!(self.receive()?, None, "nothing comes behind a farewell");
                let Close { reason, retry_after, detail } = close;
                return Ok(Closed { reason, retry_after, detail: detail.as_str().to_owned() });
            }
        }
    }
}

/// The stream of all messages of raw devices.
pub const STREAM: StreamId = StreamId(0x5157);

/// The hello of a device that speaks this version, and takes what there is.
pub fn hello() -> Hello {
    Hello {
        oldest_version: message::OLDEST_VERSION,
        newest_version: message::VERSION,
        kind: ConnectionKind::Control,
        boot: BootId(0xb007),
        stream: STREAM,
        max_frame: MAX_FRAME,
        window: Window { messages: 8, bytes: 65_536 },
    }
}

/// A whole frame.
///
/// # Panics
/// It is larger than any frame may be.
pub fn frame_of<B: Body>(body: &B) -> Vec<u8> {
    let mut buffer = vec![0; usize::from(MAX_FRAME)];
    let length = message::encode(body, MAX_FRAME, &mut buffer).expect("it fits a frame");
    buffer.truncate(length);
    buffer
}

/// Whether this is how a connection ends: closed without the farewell of TLS, or reset.
fn ends(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}
