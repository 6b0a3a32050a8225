//! What is done with each kind of message; one file for each, one line of routing.

pub mod facts;
pub mod message;
pub mod status;

use std::{net::SocketAddr, sync::Arc};

use protocol_core::{frame::Frame, message::DecodeError, tag::Tag};

use crate::{
    host::Host,
    store::{DeviceId, Reply, SessionId, StoreError},
};

/// The device that a message came from, as its connection knows it.
pub struct Device {
    /// What all connections share.
    pub host: Arc<Host>,
    /// The device.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// The session that its messages come in.
    pub session: SessionId,
    /// Where it connects from.
    pub address: SocketAddr,
    /// The store's way back to the connection.
    pub reply: Arc<Reply>,
}

/// Why a message can't be handled.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Its body is not what its tag says.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The store can't take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has had no room for too long.
    #[error("the store has no room for the message")]
    NoRoom,
}

/// Routes a notice to its handler. A tag that is not known here is skipped: the peer may be newer.
///
/// # Errors
/// [`HandlerError`]; the connection ends by it.
pub async fn notice(device: &Device, frame: Frame<'_>) -> Result<(), HandlerError> {
    match frame.tag {
        Tag::FACTS => facts::handle(device, frame.body).await,
        Tag::STATUS => status::handle(device, frame.body).await,
        tag => {
            tracing::debug!(device = device.name, %tag, "skipped a frame of a tag that is not known");
            Ok(())
        }
    }
}
