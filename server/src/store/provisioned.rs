//! Devices whose keys an operator has made, and which are registered before they first connect.

use rusqlite::params;

use super::{
    DeviceName, DeviceRef, KeyStatus, Store, StoreError,
    change::Change,
    devices,
    devices::{admit, holder, insert},
};
use crate::event::{EventKind, NewEvent, Who};

/// A device to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// Its name.
    pub name: DeviceName,
    /// The SHA-256 of its public key.
    pub key: [u8; 32],
}

impl Store {
    /// Registers these devices, for the given operator, each with its event: all of them or none. One that has this key
    /// and name already stays as it is. A revoked device of such a name comes back with its new key, and keeps its
    /// history.
    ///
    /// # Errors
    ///
    /// A name is another device's, or stands there twice, or devices are wired to it; a key is another device's, or revoked; or the store can't be written.
    pub async fn provision(&self, devices: Vec<Provisioned>, who: impl Into<Who>) -> Result<(), StoreError> {
        let who = who.into();
        self.write(move |change| devices.iter().try_for_each(|device| register(change, device, &who))).await
    }
}

fn register(change: &mut Change<'_>, provisioned: &Provisioned, who: &Who) -> Result<(), StoreError> {
    let Provisioned { name, key } = provisioned;
    match devices::key_status(change.connection, key)? {
        KeyStatus::Unknown => {}
        KeyStatus::Known(device) if device.name == name.as_str() => return Ok(()),
        KeyStatus::Known(_) | KeyStatus::Revoked(_) => return Err(StoreError::KeyKnown(name.clone())),
    }
    let device = match holder(change.connection, name)? {
        None => insert(change, name.clone())?,
        Some((_, false)) => return Err(StoreError::NameTaken(name.clone())),
        Some((id, true)) => DeviceRef { id, name: name.to_string() },
    };
    admit(change, &device, None, true)?;
    change
        .connection
        .prepare_cached("INSERT INTO keys (hash, device, created) VALUES (?, ?, ?)")?
        .execute(params![key, device.id, change.now])?;
    let event = NewEvent::new(EventKind::DeviceEnrolled).device(device.id).who(who).detail("firmware", true);
    change.event(&event)?;
    Ok(())
}
