//! `FACT`: what a device says of itself.

use protocol_core::message::{self, Facts};

use super::{Device, HandlerError};
use crate::store;

/// Keeps what the device says of itself. It is shown to people, escaped, and never acted on.
///
/// # Errors
/// [`HandlerError`] if the body is malformed, or the store can't keep it.
pub async fn handle(device: &Device, body: &[u8]) -> Result<(), HandlerError> {
    let facts: Facts<'_> = message::decode(body)?;
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let facts = store::Facts {
        host_name: said(facts.host_name.as_str()),
        version: said(facts.version.as_str()),
        ssh_user: said(facts.ssh_user.as_str()),
        ..store::Facts::default()
    };
    Ok(device.host.store.set_facts(device.id, facts).await?)
}
