//! The host keys of devices' SSH servers: what is registered, and what operators' ssh was shown instead.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::{DeviceId, Store, StoreError, change::Change, events};
use crate::{
    event::{EventKind, EventRow, NewEvent, Who},
    host_key::HostKey,
};

impl Store {
    /// Registers what a device says are its host keys, if none are yet: those that are never change by its word.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn register_host_keys(&self, device: DeviceId, keys: Vec<HostKey>) -> Result<(), StoreError> {
        self.write(move |change| register(change, device, &keys)).await
    }

    /// Takes a key in the place of the registered one of its type, if there is one, by an operator's word. Gives the
    /// fingerprint of that.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn accept_host_key(
        &self,
        device: DeviceId,
        key: HostKey,
        who: Who,
    ) -> Result<Option<String>, StoreError> {
        self.write(move |change| accept(change, device, &key, &who)).await
    }

    /// The newest event that tells of a key which an operator's ssh was shown, and which was not registered.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn shown_host_key(&self, device: DeviceId) -> Result<Option<EventRow>, StoreError> {
        self.read(move |connection| shown(connection, device)).await
    }
}

fn register(change: &mut Change<'_>, device: DeviceId, keys: &[HostKey]) -> Result<(), StoreError> {
    if keys.is_empty() || !registered(change.connection, device)?.is_empty() {
        return Ok(());
    }
    write(change.connection, device, keys.iter().map(HostKey::line).collect())?;
    let fingerprints: Vec<_> = keys.iter().map(HostKey::fingerprint).collect();
    let event = NewEvent::new(EventKind::HostKeyRegistered).device(device);
    change.event(&event.detail("fingerprints", fingerprints)).map(drop)
}

fn accept(
    change: &mut Change<'_>,
    device: DeviceId,
    key: &HostKey,
    who: &Who,
) -> Result<Option<String>, StoreError> {
    let is_of_its_type = |line: &String| line.split_whitespace().next() == Some(key.kind());
    let (replaced, mut kept): (Vec<_>, Vec<_>) =
        registered(change.connection, device)?.into_iter().partition(is_of_its_type);
    kept.push(key.line());
    write(change.connection, device, kept)?;
    let replaced = replaced.first().and_then(|line| HostKey::parse(line)).map(|key| key.fingerprint());
    let event = NewEvent::new(EventKind::HostKeyAccepted)
        .device(device)
        .who(who)
        .detail("type", key.kind())
        .detail("fingerprint", key.fingerprint())
        .detail("replaced", replaced.clone());
    change.event(&event)?;
    Ok(replaced)
}

/// The keys of a device, each a line.
fn registered(connection: &Connection, device: DeviceId) -> Result<Vec<String>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT ssh_host_keys FROM devices WHERE id = ?")?
        .query_row([device], |row| row.get(0))?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn write(connection: &Connection, device: DeviceId, lines: Vec<String>) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE devices SET ssh_host_keys = ?2 WHERE id = ?1")?
        .execute(params![device, Value::from(lines).to_string()])?;
    Ok(())
}

fn shown(connection: &Connection, device: DeviceId) -> Result<Option<EventRow>, StoreError> {
    let kinds = [EventKind::HostKeyChanged.name(), EventKind::HostKeyUnknown.name()];
    let found = connection
        .prepare_cached(
            "SELECT events.id, at, events.kind, name, session, address, who, detail
                FROM events LEFT JOIN devices ON devices.id = device
                WHERE device = ?1 AND events.kind IN (?2, ?3) ORDER BY events.id DESC LIMIT 1",
        )?
        .query_row(params![device, kinds[0], kinds[1]], events::row)
        .optional()?;
    Ok(found)
}
