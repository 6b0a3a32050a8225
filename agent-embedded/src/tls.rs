//! TLS 1.3 to the server, by the pin of its key, for boards that have a network (feature `tls`).
//!
//! [`Tls`] is what [`Agent::run`](crate::agent::Agent::run) takes; [`open`] alone shakes hands, for a loop of one's own.
//!
//! The device shows the certificate of its provisioning block; the server proves that it holds one of the two keys that
//! the device trusts. Names and dates are not looked at: a board has no clock. What the server must do for it stands in
//! `docs/protocol.md`, Identity and encryption.
//!
//! # Panics of the TLS library
//!
//! It has some within its code; the firmware's panic handler ends them in a reset by the watchdog. What is known of
//! them, with embedded-tls 0.19:
//!
//! - After the handshake it panics (`unimplemented!`) on a handshake message that it knows and that is no session ticket.
//!   Only the server itself could say one: nothing that it has not encrypted reaches the library then. Servers do not,
//!   and `KeyUpdate` is an error that ends the connection.
//! - During the handshake an impostor can say what it likes, encrypted as well, before it is found out. Damaged,
//!   cut, missing and repeated messages were all errors in the tests; an encrypted record without content, on which it
//!   would panic, does not reach it.
//! - Indices, lengths and counters of its buffers are checked by panics that no bytes are known to reach.

mod keys;
mod records;
mod stream;
#[cfg(test)]
mod tests;

use core::cell::{Cell, RefCell};

use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::{
    frame::Frame,
    message::{self, Endpoints, Pin},
    provisioning::ProvisioningError,
    tag::Tag,
};

pub use stream::{Room, Stream, TlsError, open};

use crate::{
    board::Board,
    identity::{Address, Identity},
    security::{Security, SecurityError},
};

/// Protects a device's connections by TLS, as its provisioning block says.
#[derive(Debug, Default)]
pub struct Tls {
    identity: RefCell<Identity>,
    /// The key that the server of the present connection has shown.
    shown: Cell<Option<Pin>>,
}

impl Tls {
    /// The block is read from the board's flash at the first connection.
    #[inline(never)]
    pub const fn new() -> Self {
        Self { identity: RefCell::new(Identity::new()), shown: Cell::new(None) }
    }

    /// Changes the identity. Nobody else has it then: each borrow ends before its caller waits, but for that of the
    /// handshake, before whose end nothing is learnt.
    fn change<R>(&self, change: impl FnOnce(&mut Identity) -> R) -> Option<R> {
        self.identity.try_borrow_mut().ok().map(|mut identity| change(&mut identity))
    }
}

impl Security for Tls {
    type Address = Address;
    type Room = Room;
    type Stream<'s, T: Read + Write + 's> = Stream<'s, T>;

    #[inline(never)]
    fn address(&self, board: &impl Board) -> Result<Address, SecurityError> {
        self.shown.set(None);
        self.keep(board);
        let dialled = self.change(|identity| identity.dial(|block| board.load(block)));
        Ok(dialled.unwrap_or(Err(ProvisioningError::Missing))?)
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "nothing is learnt before the handshake has ended")]
    async fn open<'s, T: Read + Write + 's>(
        &'s self,
        board: &'s impl Board,
        transport: T,
        room: &'s mut Room,
    ) -> Result<Stream<'s, T>, SecurityError> {
        let Ok(identity) = self.identity.try_borrow() else { return Err(ProvisioningError::Missing.into()) };
        let stream =
            open(transport, &identity.provisioning()?, |bytes| board.fill_random(bytes), room).await?;
        self.shown.set(Some(stream.pin()));
        Ok(stream)
    }

    fn welcomed(&self, _: &impl Board) {
        self.change(Identity::welcomed);
    }

    fn notice(&self, board: &impl Board, notice: Frame<'_>) {
        if notice.tag != Tag::ENDPOINTS {
            return;
        }
        let Ok(told) = message::decode::<Endpoints<'_>>(notice.body) else { return };
        let Some(shown) = self.shown.get() else { return };
        self.change(|identity| identity.learn(shown, &told));
        self.keep(board);
    }

    fn keep(&self, board: &impl Board) {
        self.change(|identity| identity.store(board.now(), |block| board.store(block)));
    }
}

impl From<TlsError> for SecurityError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Lost(kind) => Self::Transport(kind),
            TlsError::WrongKey { .. } => Self::WrongKey,
            TlsError::NotProven => Self::NotProven,
            TlsError::Refused { .. } => Self::Refused,
            TlsError::Malformed => Self::Handshake,
            TlsError::OwnKey => Self::NotProvisioned(ProvisioningError::Damaged),
            TlsError::Interrupted => Self::Transport(ErrorKind::Interrupted),
        }
    }
}
