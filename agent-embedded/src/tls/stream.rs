//! The handshake, and the bytes inside a connection.

use embedded_io_async::{Error, ErrorKind, ErrorType, Read, Write};
use embedded_tls::{
    Aes128GcmSha256, TLS_RECORD_OVERHEAD, TlsConfig, TlsConnection, TlsContext, TlsError as Cause,
};
use p256::ecdsa::SigningKey;
use protocol_core::{
    alpn::{self, MAX_RECORD},
    message::Pin,
    provisioning::{MAX_CERTIFICATE, Provisioning},
};

use super::{
    keys::{Device, Proof, Random, Server},
    records::Records,
};

/// The largest record that a server sends, encrypted: header, content, its type, and the check sum.
const LARGEST_RECORD: usize = 5 + MAX_RECORD + 1 + 16;

/// Room for what is sent: the handshake's longest message is the device's certificate. What the device writes goes out
/// in records of at most 512 bytes.
const WRITE_ROOM: usize = 512 + TLS_RECORD_OVERHEAD;
const _: () = assert!(MAX_CERTIFICATE + TLS_RECORD_OVERHEAD <= WRITE_ROOM, "every certificate fits");

/// The bytes that one TLS connection works in, about 2.7 KB: one at a time needs them.
pub struct Room {
    record: [u8; LARGEST_RECORD],
    content: [u8; LARGEST_RECORD],
    write: [u8; WRITE_ROOM],
}

impl Room {
    /// Room for a connection.
    pub const fn new() -> Self {
        Self { record: [0; LARGEST_RECORD], content: [0; LARGEST_RECORD], write: [0; WRITE_ROOM] }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Room {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Room")
    }
}

/// Why there is no TLS connection, or no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The transport failed, or ended without a farewell.
    #[error("the connection was lost ({0:?}); it is tried again")]
    Lost(ErrorKind),
    /// Another server, or one whose key was replaced.
    #[error(
        "the server shows a key that this device does not trust: it is another server, or its key was replaced; provision the device anew, or correct its address"
    )]
    WrongKey {
        /// The pin of the key that it has shown; nothing if that was no key of P-256.
        shown: Option<Pin>,
    },
    /// An impostor: it has shown a key that the device trusts, or none, and could not sign by it.
    #[error("the server has not proved that it holds its key: someone else may have taken its address")]
    NotProven,
    /// The server refused to go on.
    #[error("the server refused the connection by TLS alert {alert:?}; is it the port for devices?")]
    Refused {
        /// The alert's number (RFC 8446, 6); nothing if it came encrypted: then it is not told.
        alert: Option<u8>,
    },
    /// What came is no TLS 1.3 as this device speaks it.
    #[error("expected TLS 1.3 of a Holdfast server, found something else; is it the port for devices?")]
    Malformed,
    /// The device's own key is none.
    #[error("the key in the provisioning block is none of P-256; write the block again")]
    OwnKey,
    /// A write was dropped before it was done: how much of it went out is not known.
    #[error("a write was given up halfway; connect again")]
    Interrupted,
}

impl Error for TlsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Lost(kind) => *kind,
            Self::WrongKey { .. } | Self::NotProven => ErrorKind::PermissionDenied,
            Self::Refused { .. } => ErrorKind::ConnectionRefused,
            Self::Malformed => ErrorKind::InvalidData,
            Self::OwnKey => ErrorKind::InvalidInput,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }
}

impl TlsError {
    fn of(cause: Cause) -> Self {
        match cause {
            Cause::Io(ErrorKind::InvalidData) => Self::Malformed,
            Cause::Io(kind) => Self::Lost(kind),
            Cause::IoError => Self::Lost(ErrorKind::ConnectionReset),
            Cause::HandshakeAborted(_, alert) => Self::Refused { alert: Some(alert as u8) },
            // This is what the library makes of an alert that comes after the handshake.
            Cause::InternalError => Self::Refused { alert: None },
            _ => Self::Malformed,
        }
    }

    /// What a handshake failed by, given what is known of the server.
    fn of_handshake(cause: Cause, proof: &Proof) -> Self {
        match (proof, cause) {
            (Proof::Untrusted(shown), _) => Self::WrongKey { shown: *shown },
            (_, Cause::InvalidSignature) => Self::NotProven,
            // This is what the library makes of an alert that is encrypted already.
            (_, Cause::InvalidRecord) => Self::Refused { alert: None },
            (_, Cause::InternalError) => Self::Malformed,
            _ => Self::of(cause),
        }
    }
}

/// The bytes inside a TLS connection.
///
/// A read may be dropped at any time, and loses nothing. A write may not: after that only [`TlsError::Interrupted`]
/// comes. What is written goes out with the next flush.
pub struct Stream<'r, T: Read + Write + 'r> {
    inner: TlsConnection<'r, Records<'r, T>, Aes128GcmSha256>,
    pin: Pin,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A write has begun, and was not seen to end.
    Writing,
    /// The server said farewell.
    Ended,
}

/// Shakes hands over a transport that is connected. The caller sets the deadline; `random` fills bytes at random, well
/// enough for keys.
///
/// That the server refuses the device's certificate shows only at the first read: its side of the handshake ends first.
///
/// # Errors
/// [`TlsError`]: the transport is to be closed.
pub async fn open<'r, T: Read + Write + 'r>(
    transport: T,
    device: &Provisioning<'_>,
    random: impl FnMut(&mut [u8]),
    room: &'r mut Room,
) -> Result<Stream<'r, T>, TlsError> {
    let trusted = [device.endpoints.current, device.endpoints.next];
    let key = SigningKey::from_slice(&device.key.0).map_err(|_| TlsError::OwnKey)?;
    let mut side =
        Device { key, certificate: device.certificate, random: Random(random), server: Server::new(trusted) };
    let protocols = [alpn::SESSION.as_bytes()];
    let config = TlsConfig::new().with_server_name("holdfast").with_alpn(&protocols);
    let records = Records::new(transport, &mut room.record);
    let mut inner = TlsConnection::new(records, &mut room.content, &mut room.write);
    let opened = inner.open(TlsContext::new(&config, &mut side)).await;
    opened.map_err(|cause| TlsError::of_handshake(cause, &side.server.proof))?;
    // The library takes a handshake that leaves the proof out for one that is whole.
    let Proof::Held(pin) = side.server.proof else { return Err(TlsError::NotProven) };
    Ok(Stream { inner, pin, state: State::Open })
}

impl<'r, T: Read + Write + 'r> Stream<'r, T> {
    /// The pin of the key that the server has proved to hold.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    fn begin_write(&mut self) -> Result<(), TlsError> {
        match self.state {
            State::Open => {
                self.state = State::Writing;
                Ok(())
            }
            State::Writing => Err(TlsError::Interrupted),
            State::Ended => Err(TlsError::Lost(ErrorKind::BrokenPipe)),
        }
    }

    /// A write that failed leaves the stream as one that was dropped.
    fn end_write<N>(&mut self, written: Result<N, Cause>) -> Result<N, TlsError> {
        let written = written.map_err(TlsError::of)?;
        self.state = State::Open;
        Ok(written)
    }
}

impl<'r, T: Read + Write + 'r> ErrorType for Stream<'r, T> {
    type Error = TlsError;
}

impl<'r, T: Read + Write + 'r> Read for Stream<'r, T> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TlsError> {
        if self.state == State::Ended {
            return Ok(0);
        }
        match self.inner.read(buffer).await {
            Err(Cause::ConnectionClosed) => {
                self.state = State::Ended;
                Ok(0)
            }
            read => read.map_err(TlsError::of),
        }
    }
}

impl<'r, T: Read + Write + 'r> Write for Stream<'r, T> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, TlsError> {
        self.begin_write()?;
        let written = self.inner.write(bytes).await;
        self.end_write(written)
    }

    async fn flush(&mut self) -> Result<(), TlsError> {
        self.begin_write()?;
        let flushed = self.inner.flush().await;
        self.end_write(flushed)
    }
}
