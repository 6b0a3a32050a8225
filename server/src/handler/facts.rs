//! `FACT`: what a device says of itself.

use std::sync::Arc;

use protocol_core::message::{self, Facts};

use super::{Device, HandlerError, keep};
use crate::store;

/// Keeps what the device says of itself. It is shown to people, escaped, and never acted on.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn handle(device: &Arc<Device>, body: &[u8]) -> Result<(), HandlerError> {
    let facts: Facts<'_> = message::decode(body)?;
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let facts = store::Facts {
        host_name: said(facts.host_name.as_str()),
        version: said(facts.version.as_str()),
        ssh_user: said(facts.ssh_user.as_str()),
        ..store::Facts::default()
    };
    keep(device, |device| async move { device.host.store.set_facts(device.id, facts).await });
    Ok(())
}
