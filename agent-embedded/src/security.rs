//! What stands between a transport and the session: TLS, or nothing.

use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::frame::Frame;

use crate::board::Board;

/// Protects connections, and knows where the server is found.
pub trait Security {
    /// A `host:port`.
    type Address: AsRef<str>;

    /// A transport that is protected.
    type Stream<'s, T: Read + Write + 's>: Read + Write
    where
        Self: 's;

    /// The address to connect to next.
    ///
    /// # Errors
    /// [`SecurityError::NotProvisioned`].
    fn address(&self) -> Result<Self::Address, SecurityError>;

    /// Protects a transport that is connected. Dropped if it takes longer than
    /// [`HANDSHAKE_LIMIT`](crate::run::HANDSHAKE_LIMIT).
    ///
    /// # Errors
    /// [`SecurityError`].
    fn open<'s, T: Read + Write + 's>(
        &'s self,
        board: &'s impl Board,
        transport: T,
    ) -> impl Future<Output = Result<Self::Stream<'s, T>, SecurityError>>;

    /// The session was opened over the stream.
    fn welcomed(&self, board: &impl Board);

    /// The server said something that the session has no part in, `ENDP` among it.
    fn notice(&self, board: &impl Board, notice: Frame<'_>);
}

/// Why a connection can't be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// The device does not know who it is.
    #[error("no provisioning block, or a damaged one; write the device's own to its flash")]
    NotProvisioned,
    /// The server does not hold the key that the device trusts.
    #[error("the server's key is not the one that this device was told; is it the right address?")]
    WrongKey,
    /// The server and the device could not agree, or the server refused the handshake.
    #[error("the handshake failed; is it the port for devices?")]
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
    type Stream<'s, T: Read + Write + 's> = T;

    fn address(&self) -> Result<&'static str, SecurityError> {
        Ok("")
    }

    async fn open<'s, T: Read + Write + 's>(
        &'s self,
        _: &'s impl Board,
        transport: T,
    ) -> Result<T, SecurityError> {
        Ok(transport)
    }

    fn welcomed(&self, _: &impl Board) {}

    fn notice(&self, _: &impl Board, _: Frame<'_>) {}
}
