//! A peer that does not come in: what it is told, and what is written down of it.

use std::net::SocketAddr;

use protocol_core::{code::CloseReason, message::Pin};

use super::End;
use crate::{event::EventKind, host::Host, mailbox::Farewell, refusal::Refusal, store::DeviceRef};

/// A peer that is refused: how its connection ends, and what is known of it.
pub(super) struct Refused {
    pub(super) end: End,
    pub(super) device: Option<DeviceRef>,
    pub(super) event: EventKind,
    /// Who holds the identity, where the peer is its clone.
    pub(super) original: Option<SocketAddr>,
}

impl Refused {
    /// It is this device, or its gateway, that is turned away.
    pub(super) fn of(self, device: DeviceRef) -> Self {
        Self { device: Some(device), ..self }
    }

    /// Writes down that the peer was turned away, unless it went by itself.
    pub(super) async fn record(&self, host: &Host, key: Pin, address: SocketAddr) {
        let detail = self.end.detail();
        let Some(reason) = self.end.refusal() else {
            tracing::debug!(%address, detail, "a peer left before it was welcome");
            return;
        };
        let device = self.device.clone();
        let key = Some(key);
        let refusal =
            Refusal { event: self.event, reason, detail, address, key, device, original: self.original };
        refusal.record(&host.store).await;
    }
}

impl<E: Into<End>> From<E> for Refused {
    fn from(end: E) -> Self {
        Self { end: end.into(), device: None, event: EventKind::ConnectionRefused, original: None }
    }
}

/// An end of which the peer is told, and when it may come back, in seconds.
pub(super) fn told(reason: CloseReason, retry_after: u32, detail: &str) -> End {
    End::Told(Farewell::new(reason, detail).retry_after(retry_after))
}
