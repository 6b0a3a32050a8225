//! `OFFR` and `REPT`: which tasks a device takes, and how those that it has stand.

use std::sync::Arc;

use protocol_core::message::{self, MAX_TASK_OUTPUT, Offer, Report};

use super::{Device, HandlerError};

/// Takes note of which tasks the device takes, and of those that it has no longer. Gives how many it will report.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn offered(device: &Arc<Device>, body: &[u8]) -> Result<usize, HandlerError> {
    let offer: Offer<'_> = message::decode(body)?;
    // A connection that was replaced meanwhile speaks for nobody.
    if let Some(online) = device.host.registry.online(device.id)
        && online.session == device.session
    {
        device.host.tasks.offered(&online, &offer);
    }
    Ok(offer.tasks.len())
}

/// Takes note of how a task stands. Gives whether the device has such a task.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn reported(device: &Arc<Device>, body: &[u8]) -> Result<bool, HandlerError> {
    let mut report: Report<'_> = message::decode(body)?;
    let beginning = report.output.len().saturating_sub(MAX_TASK_OUTPUT);
    report.output = report.output.get(beginning..).unwrap_or_default();
    Ok(device.host.tasks.reported(device.id, &report))
}
