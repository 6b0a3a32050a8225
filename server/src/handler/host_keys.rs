//! `HKEY`: the host keys of a device's SSH server.

use std::sync::Arc;

use protocol_core::message::{self, SshHostKeys};

use super::{Device, HandlerError, keep};
use crate::host_key::HostKey;

/// Registers the device's host keys, if it was enrolled before it had some. A device whose keys are other ones says so in
/// vain: that is for an operator to judge.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn handle(device: &Arc<Device>, body: &[u8]) -> Result<(), HandlerError> {
    let said: SshHostKeys<'_> = message::decode(body)?;
    let keys: Vec<_> = said.keys.iter().filter_map(|line| HostKey::parse(line.as_str())).collect();
    keep(device, |device| async move { device.host.store.register_host_keys(device.id, keys).await });
    Ok(())
}
