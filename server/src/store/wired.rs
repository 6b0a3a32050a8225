//! Devices without a key of their own: each is wired to another device, its gateway, and known by its name there.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    DeviceId, DeviceKind, DeviceName, DeviceRef, KeyStatus, Store, StoreError,
    change::Change,
    devices::{self, KIND, admit, holder, insert},
};
use crate::event::{EventKind, NewEvent, Who};

/// What is known of a device that a gateway names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WiredStatus {
    /// The gateway's key is not registered.
    UnknownGateway,
    /// The gateway's key was revoked.
    RevokedGateway(DeviceRef),
    /// No device of this name is enrolled for this gateway.
    NotWired {
        /// The gateway.
        gateway: DeviceRef,
    },
    /// The device was revoked.
    Revoked {
        /// The device.
        device: DeviceRef,
        /// The gateway.
        gateway: DeviceRef,
    },
    /// The device is enrolled for this gateway.
    Known {
        /// The device.
        device: DeviceRef,
        /// The gateway.
        gateway: DeviceRef,
    },
}

/// A device that is registered as wired to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledWired {
    /// The device.
    pub device: DeviceRef,
    /// It was so before, and nothing has changed.
    pub repeat: bool,
}

impl Store {
    /// Registers a device that is wired to `gateway`, for the given operator, with its event. It has no key. One of
    /// that name that is wired to the gateway already stays as it is; a revoked one comes back, with its history.
    ///
    /// # Errors
    ///
    /// The name is another device's, or wired to another gateway, or was a gateway's, and devices are still wired to it; the
    /// gateway does not exist, is revoked, or has no Linux agent; or the store can't be written.
    pub async fn enrol_wired(
        &self,
        name: DeviceName,
        gateway: &str,
        who: impl Into<Who>,
    ) -> Result<EnrolledWired, StoreError> {
        let (gateway, who) = (gateway.to_owned(), who.into());
        self.write(move |change| enrol(change, &name, &gateway, &who)).await
    }

    /// Whether a gateway, which holds this key, may speak for the device of this name.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn wired_device(&self, gateway_key: [u8; 32], name: &str) -> Result<WiredStatus, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let gateway = match devices::key_status(connection, &gateway_key)? {
                KeyStatus::Unknown => return Ok(WiredStatus::UnknownGateway),
                KeyStatus::Revoked(gateway) => return Ok(WiredStatus::RevokedGateway(gateway)),
                KeyStatus::Known(gateway) => gateway,
            };
            let found: Option<(DeviceId, bool)> = connection
                .prepare_cached(
                    "SELECT id, revoked_at IS NOT NULL FROM devices WHERE name = ?1 AND gateway = ?2",
                )?
                .query_row(params![name, gateway.id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            Ok(match found {
                None => WiredStatus::NotWired { gateway },
                Some((id, true)) => WiredStatus::Revoked { device: DeviceRef { id, name }, gateway },
                Some((id, false)) => WiredStatus::Known { device: DeviceRef { id, name }, gateway },
            })
        })
        .await
    }
}

fn enrol(
    change: &mut Change<'_>,
    name: &DeviceName,
    gateway: &str,
    who: &Who,
) -> Result<EnrolledWired, StoreError> {
    let gateway = find_gateway(change.connection, gateway)?;
    let device = match holder(change.connection, name)? {
        None => insert(change, name.clone())?,
        Some((id, true)) => DeviceRef { id, name: name.to_string() },
        Some((id, false)) => {
            return match gateway_of(change.connection, id)? {
                None => Err(StoreError::NameTaken(name.clone())),
                Some(other) if other.id == gateway.id => {
                    Ok(EnrolledWired { device: DeviceRef { id, name: name.to_string() }, repeat: true })
                }
                Some(other) => Err(StoreError::WiredElsewhere { name: name.clone(), gateway: other.name }),
            };
        }
    };
    admit(change, &device, Some(gateway.id), false)?;
    let event = NewEvent::new(EventKind::DeviceEnrolled)
        .device(device.id)
        .who(who)
        .detail("gateway", gateway.name.as_str());
    change.event(&event)?;
    Ok(EnrolledWired { device, repeat: false })
}

/// The device of this name, if it can be a gateway.
fn find_gateway(connection: &Connection, name: &str) -> Result<DeviceRef, StoreError> {
    let found: Option<(DeviceId, DeviceKind, bool)> = connection
        .prepare_cached(&format!("SELECT id, {KIND}, revoked_at IS NOT NULL FROM devices WHERE name = ?"))?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match found {
        None => Err(StoreError::NoSuchDevice),
        Some((_, DeviceKind::Agent, true)) => Err(StoreError::GatewayRevoked(name.to_owned())),
        Some((id, DeviceKind::Agent, false)) => Ok(DeviceRef { id, name: name.to_owned() }),
        Some((_, kind, _)) => Err(StoreError::NoGateway { name: name.to_owned(), kind }),
    }
}

/// What this device is wired to.
fn gateway_of(connection: &Connection, device: DeviceId) -> Result<Option<DeviceRef>, StoreError> {
    let found = connection
        .prepare_cached("SELECT id, name FROM devices WHERE id = (SELECT gateway FROM devices WHERE id = ?)")?
        .query_row([device], |row| Ok(DeviceRef { id: row.get(0)?, name: row.get(1)? }))
        .optional()?;
    Ok(found)
}
