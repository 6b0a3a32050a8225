//! What stands between a transport and the session: TLS, or nothing.

use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::{frame::Frame, provisioning::ProvisioningError};

use crate::board::Board;

/// Protects connections, and knows where the server is found.
pub trait Security {
    /// A `host:port`.
    type Address: AsRef<str>;

    /// The bytes that one connection works in, for as long as it stands.
    type Room: Default;

    /// A transport that is protected.
    type Stream<'s, T: Read + Write + 's>: Read + Write
    where
        Self: 's;

    /// The address to connect to next.
    ///
    /// # Errors
    /// [`SecurityError::NotProvisioned`].
    fn address(&self, board: &impl Board) -> Result<Self::Address, SecurityError>;

    /// Protects a transport that is connected. Dropped if it takes longer than
    /// [`HANDSHAKE_LIMIT`](crate::run::HANDSHAKE_LIMIT).
    ///
    /// # Errors
    /// [`SecurityError`].
    fn open<'s, T: Read + Write + 's>(
        &'s self,
        board: &'s impl Board,
        transport: T,
        room: &'s mut Self::Room,
    ) -> impl Future<Output = Result<Self::Stream<'s, T>, SecurityError>>;

    /// The session was opened over the stream.
    fn welcomed(&self, board: &impl Board);

    /// The server said something that the session has no part in, `ENDP` among it.
    fn notice(&self, board: &impl Board, notice: Frame<'_>);

    /// Keeps over resets what it has learnt, if it has not yet and the flash bears it now. Called beside each status.
    fn keep(&self, board: &impl Board);
}

/// Why a connection can't be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// The device does not know who it is.
    #[error(transparent)]
    NotProvisioned(#[from] ProvisioningError),
    /// The server does not hold the key that the device trusts.
    #[error("the server's key is not the one that this device was told; is it the right address?")]
    WrongKey,
    /// The server has not proved that it holds the key that it shows.
    #[error("the server has not proved that it holds its key: someone else may have taken its address")]
    NotProven,
    /// The server refused the handshake.
    #[error("the server refused the handshake; is it the port for devices?")]
    Refused,
    /// What came is no handshake.
    #[error("expected TLS 1.3 of a Holdfast server, found something else; is it the port for devices?")]
    Handshake,
    /// The transport failed during the handshake.
    #[error("the transport failed during the handshake: {0:?}")]
    Transport(ErrorKind),
}

/// No protection: for a line inside of one box, where a gateway speaks to the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Security for Plain {
    type Address = &'static str;
    type Room = ();
    type Stream<'s, T: Read + Write + 's> = T;

    fn address(&self, _: &impl Board) -> Result<&'static str, SecurityError> {
        Ok("")
    }

    async fn open<'s, T: Read + Write + 's>(
        &'s self,
        _: &'s impl Board,
        transport: T,
        (): &'s mut (),
    ) -> Result<T, SecurityError> {
        Ok(transport)
    }

    fn welcomed(&self, _: &impl Board) {}

    fn notice(&self, _: &impl Board, _: Frame<'_>) {}

    fn keep(&self, _: &impl Board) {}
}
