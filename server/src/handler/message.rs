//! `MESG`: a device's messages go to the archive, and its echoes settle ours.

use std::{sync::Arc, time::Duration};

use protocol_core::{message::Message, session::SendError, time::Instant};
use tokio::task::JoinHandle;

use super::{Device, HandlerError};
use crate::{
    clock,
    event::{EventKind, NewEvent},
    store::{Incoming, Kind, MessageId, UnixMillis},
};

/// Hands a message to the archive. Once it is on disk the connection's mailbox is told, and the echo sent.
///
/// Where the store has no room, this waits for it, until half of the timeout is over since the connection has `begun`
/// to work on what it read: the device is to be told that the server is overloaded, not to take it for lost.
///
/// # Errors
/// [`HandlerError`] if the store is closed, or has no room for too long.
pub async fn archive(device: &Device, message: &Message<'_>, begun: Instant) -> Result<(), HandlerError> {
    let incoming = Incoming {
        device: device.id,
        session: device.session,
        stream: message.stream.0,
        number: message.number,
        // Both types allow the same kinds.
        kind: message.kind.as_str().parse().unwrap_or(Kind::TEXT),
        time: message.time,
        received_at: UnixMillis::now(),
        body: message.body.to_vec(),
        reply: Arc::clone(&device.reply),
    };
    let Some(incoming) = device.host.store.try_archive(incoming)? else { return Ok(()) };
    let worked = Duration::from(clock::now().since(begun));
    let left = (device.host.keep_alive.timeout / 2).saturating_sub(worked);
    // Rare, and a large future.
    match Box::pin(tokio::time::timeout(left, device.host.store.archive(incoming))).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(HandlerError::NoRoom),
    }
}

/// Records that a message can't be sent to the device as it is connected now: else it would wait unseen. The
/// connection does not wait for that.
pub fn passed_over(device: &Arc<Device>, message: MessageId, length: usize, why: &SendError) {
    tracing::warn!(device = device.name, %message, length, %why, "a message can't be sent; it waits on");
    let event = NewEvent::new(EventKind::MessagePassedOver)
        .device(device.id)
        .session(device.session)
        .detail("message", message.0)
        .detail("length", length)
        .detail("text", why.to_string());
    let device = Arc::clone(device);
    tokio::spawn(async move { device.host.store.note(event).await });
}

/// Messages of one stream that a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The stream.
    pub stream: u64,
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
}

/// Notes that the device has these. The connection does not wait for that: until it is on disk the messages count as
/// waiting, and the device knows a repeat.
pub fn delivered(device: &Arc<Device>, Delivered { stream, first, last }: Delivered) -> JoinHandle<()> {
    let device = Arc::clone(device);
    tokio::spawn(async move {
        let noted = device.host.store.delivered(device.id, device.session, stream, first, last).await;
        if let Err(error) = noted {
            tracing::error!(device = device.name, %error, "a delivery could not be recorded; it will be repeated");
        }
    })
}
