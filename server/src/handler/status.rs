//! `STAT`: how a device is doing.

use std::sync::Arc;

use protocol_core::message::{self, Status};
use serde_json::{Map, Value};

use super::{Device, HandlerError, keep};

/// Keeps the newest status of the device. A reading that is not a number is left out: JSON has no word for it.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn handle(device: &Arc<Device>, body: &[u8]) -> Result<(), HandlerError> {
    let status: Status<'_> = message::decode(body)?;
    let readings = status
        .readings
        .iter()
        .filter(|reading| reading.value.is_finite())
        .map(|reading| (reading.name.as_str().to_owned(), Value::from(reading.value)));
    let mut kept: Map<String, Value> = readings.collect();
    kept.insert("uptime-seconds".to_owned(), Value::from(status.uptime));
    keep(device, |device| async move { device.host.store.set_status(device.id, kept).await });
    Ok(())
}
