//! Who was turned away: said in the log, and written down as an event.

use std::net::SocketAddr;

use protocol_core::{code::CloseReason, message::Pin};

use crate::{
    event::{EventKind, NewEvent},
    store::{DeviceRef, Store},
};

/// A peer that was turned away.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What kind of event it is.
    pub event: EventKind,
    /// The reason that the peer was told, or would have been.
    pub reason: CloseReason,
    /// The reason in words.
    pub detail: String,
    /// Where the peer came from.
    pub address: SocketAddr,
    /// The key that it showed, if it came so far.
    pub key: Option<Pin>,
    /// The device that the key belongs to, if it is known.
    pub device: Option<DeviceRef>,
    /// Of a clone: where the holder of its identity is connected from.
    pub original: Option<SocketAddr>,
}

impl Refusal {
    /// A stranger was turned away, of whom nothing but the address is known.
    pub fn of_stranger(address: SocketAddr, reason: CloseReason, detail: impl Into<String>) -> Self {
        let event = EventKind::ConnectionRefused;
        Self { event, reason, detail: detail.into(), address, key: None, device: None, original: None }
    }

    /// Writes it down. Most of a storm is left out, here as in the log.
    pub async fn record(&self, store: &Store) {
        let reason = match self.reason {
            // We say no other: whatever it is, it is not to make a metric of its own.
            CloseReason::Other(_) => "other".to_owned(),
            known => known.to_string(),
        };
        let mut event = NewEvent::new(self.event)
            .address(self.address.ip())
            .detail("reason", reason)
            .detail("text", self.detail.as_str());
        if let Some(key) = self.key {
            event = event.detail("key", key.to_string());
        }
        if let Some(device) = &self.device {
            event = event.device(device.id);
        }
        if let Some(original) = self.original {
            event = event.detail("original", original.ip().to_canonical().to_string());
        }
        let party = self.device.as_ref().map(|device| device.id);
        let Some(event) = store.limit_refusal(party, event) else { return };
        let device = self.device.as_ref().map(|device| device.name.as_str());
        tracing::info!(address = %self.address, reason = %self.reason, detail = self.detail, device, "refused");
        store.note(event).await;
    }
}
