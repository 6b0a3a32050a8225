//! `CAMS`: which cameras a device has.

use std::sync::Arc;

use protocol_core::message::{self, Cameras};

use super::{Device, HandlerError};
use crate::registry::Camera;

/// Takes note of the device's cameras. Of two with the same name the first counts.
///
/// # Errors
/// [`HandlerError`] if the body is malformed.
pub fn handle(device: &Arc<Device>, body: &[u8]) -> Result<(), HandlerError> {
    let told: Cameras<'_> = message::decode(body)?;
    let mut cameras: Vec<Camera> = Vec::new();
    for camera in &told.cameras {
        if cameras.iter().all(|known| known.name != camera.name.as_str()) {
            cameras.push(Camera {
                name: camera.name.as_str().to_owned(),
                kind: camera.kind.as_str().to_owned(),
                width: camera.width,
                height: camera.height,
                framerate: camera.framerate,
            });
        }
    }
    // A connection that was replaced meanwhile speaks for nobody.
    if let Some(online) = device.host.registry.online(device.id)
        && online.session == device.session
    {
        online.tell_cameras(cameras);
    }
    Ok(())
}
