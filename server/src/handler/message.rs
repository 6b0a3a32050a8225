//! `MESG`: a device's messages go to the archive, and its echoes settle ours.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use protocol_core::{message::Message, session::SendError};

use super::{Device, HandlerError};
use crate::{
    event::{EventKind, NewEvent},
    store::{Incoming, Kind, MessageId, UnixMillis},
};

/// How long a message waits for room in the store. Less than a device waits for an answer: it is to be told that
/// the server is overloaded, not to take it for lost.
const ROOM_PATIENCE: Duration = Duration::from_secs(4);

/// Hands a message to the archive. Once it is on disk the connection's mailbox is told, and the echo sent.
///
/// # Errors
/// [`HandlerError`] if the store is closed, or has no room for too long.
pub async fn archive(device: &Device, message: &Message<'_>) -> Result<(), HandlerError> {
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
    // Rare, and a large future.
    match Box::pin(tokio::time::timeout(ROOM_PATIENCE, device.host.store.archive(incoming))).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(HandlerError::NoRoom),
    }
}

/// Records that a message can't be sent to the device as it is connected now: else it would wait unseen.
pub async fn passed_over(device: &Device, message: MessageId, length: usize, why: &SendError) {
    tracing::warn!(device = device.name, %message, length, %why, "a message can't be sent; it waits on");
    let event = NewEvent::new(EventKind::MessagePassedOver)
        .device(device.id)
        .session(device.session)
        .detail("message", message.0)
        .detail("length", length)
        .detail("text", why.to_string());
    if let Err(error) = device.host.store.record(event).await {
        tracing::error!(device = device.name, %error, "an event could not be recorded");
    }
}

/// Notes that the device has these messages of a stream. The connection does not wait for that: until it is on disk
/// the messages count as waiting, and the device knows a repeat.
pub fn delivered(device: &Arc<Device>, stream: u64, numbers: RangeInclusive<u64>) {
    let device = Arc::clone(device);
    tokio::spawn(async move {
        let (first, last) = numbers.into_inner();
        let noted = device.host.store.delivered(device.id, device.session, stream, first, last).await;
        if let Err(error) = noted {
            tracing::error!(device = device.name, %error, "a delivery could not be recorded; it will be repeated");
        }
    });
}
