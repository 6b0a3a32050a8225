//! Devices: who they are, by which keys they are known, what they say of themselves.

use std::net::IpAddr;

use rusqlite::{
    Connection, OptionalExtension, Row, params,
    types::{FromSql, FromSqlError, FromSqlResult, ValueRef},
};
use serde_json::{Map, Value};

use super::{DeviceId, DeviceName, Store, StoreError, UnixMillis, change::Change};
use crate::event::{EventKind, NewEvent, Who};

/// What a device is, by how it was enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// It enrolled itself, by a line, and holds a key that it made: it has the Linux agent.
    Agent,
    /// Its key was made for it, in a provisioning block: a microcontroller with a network of its own.
    Firmware,
    /// It is wired to another device, its gateway, and has no key.
    Wired,
    /// It is not enrolled: a classic client, known by its IP address, which is its name, too.
    Classic,
}

impl DeviceKind {
    /// Its name, as the API tells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Firmware => "firmware",
            Self::Wired => "wired",
            Self::Classic => "classic",
        }
    }
}

/// The name of a device's kind, out of its row.
pub(super) const KIND: &str =
    "CASE WHEN devices.kind = 'classic' THEN 'classic' WHEN devices.gateway IS NOT NULL THEN 'wired'
        WHEN devices.firmware THEN 'firmware' ELSE 'agent' END";

impl FromSql for DeviceKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        let kinds = [Self::Agent, Self::Firmware, Self::Wired, Self::Classic];
        kinds.into_iter().find(|kind| kind.name() == name).ok_or(FromSqlError::InvalidType)
    }
}

/// A device, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRef {
    /// Its id.
    pub id: DeviceId,
    /// Its name: a [`DeviceName`](DeviceName), or the address of a classic client.
    pub name: String,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// Nothing.
    Unknown,
    /// It is this device's.
    Known(DeviceRef),
    /// It was this device's.
    Revoked(DeviceRef),
}

/// What a device says of itself. All of it comes from a peer: escape it where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its host name.
    pub host_name: Option<String>,
    /// The version of its agent.
    pub version: Option<String>,
    /// Who logs in on it.
    pub ssh_user: Option<String>,
    /// The public host keys of its sshd, a line each; None where it says nothing of them: then they stay.
    pub ssh_host_keys: Option<Vec<String>>,
}

/// A device as it is kept. Sums are over all sessions, the open ones
/// included; of connected time, over those that have ended.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceRow {
    /// Its id.
    pub id: DeviceId,
    /// Its name: a [`DeviceName`](DeviceName), or the address of a classic client.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The SHA-256 of its newest public key, in hexadecimal; none if it has no key of its own.
    pub key: Option<String>,
    /// The name of the device that it is wired to; then it has no key of its own.
    pub gateway: Option<String>,
    /// When it was first known.
    pub created: UnixMillis,
    /// When its rights were taken away.
    pub revoked_at: Option<UnixMillis>,
    /// When it was last heard; of a connected device the registry knows better.
    pub last_seen: Option<UnixMillis>,
    /// What it calls itself.
    pub host_name: Option<String>,
    /// The version of its agent.
    pub version: Option<String>,
    /// Who logs in on it.
    pub ssh_user: Option<String>,
    /// The public host keys of its sshd.
    pub ssh_host_keys: Vec<String>,
    /// Its last readings, by name.
    pub status: Option<Map<String, Value>>,
    /// When they came.
    pub status_at: Option<UnixMillis>,
    /// How many sessions it has had.
    pub sessions: u64,
    /// How long it was connected, in milliseconds.
    pub connected_millis: u64,
    /// Messages from it.
    pub messages_in: u64,
    /// Bytes of their bodies.
    pub bytes_in: u64,
    /// Messages that it has got.
    pub messages_out: u64,
    /// Bytes of their bodies.
    pub bytes_out: u64,
    /// Messages that wait for it.
    pub waiting: u64,
}

/// A device whose rights were taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The device.
    pub device: DeviceRef,
    /// What it is.
    pub kind: DeviceKind,
    /// The name of the device that it is wired to.
    pub gateway: Option<String>,
    /// The devices that are wired to it: without it they can't connect.
    pub wired: Vec<DeviceRef>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices that are registered and not revoked; no classic clients.
    pub devices: u64,
    /// Messages that wait for devices.
    pub waiting: u64,
}

impl Store {
    /// How many devices are registered, and how many messages wait for them.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT (SELECT count(*) FROM devices WHERE kind = 'framed' AND revoked_at IS NULL),
                    (SELECT count(*) FROM messages
                        WHERE direction = 1 AND delivered_at IS NULL AND expired_at IS NULL)",
            )?;
            Ok(statement.query_row((), |row| Ok(Counts { devices: row.get(0)?, waiting: row.get(1)? }))?)
        })
        .await
    }

    /// Whose key this is.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn device_by_key(&self, key: [u8; 32]) -> Result<KeyStatus, StoreError> {
        self.read(move |connection| key_status(connection, &key)).await
    }

    /// The classic client at this address; made if there is none.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn classic_client(&self, address: IpAddr) -> Result<DeviceRef, StoreError> {
        let name = address.to_canonical().to_string();
        let find = "SELECT id FROM devices WHERE name = ?";
        let known = {
            let name = name.clone();
            self.read(move |connection| {
                Ok(connection.prepare_cached(find)?.query_row([&name], |row| row.get(0)).optional()?)
            })
            .await?
        };
        if let Some(id) = known {
            return Ok(DeviceRef { id, name });
        }
        self.write(move |change| {
            change
                .connection
                .prepare_cached(
                    "INSERT INTO devices (name, kind, created) VALUES (?, 'classic', ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![name, change.now])?;
            let id = change.connection.prepare_cached(find)?.query_row([&name], |row| row.get(0))?;
            Ok(DeviceRef { id, name: name.clone() })
        })
        .await
    }

    /// All devices and classic clients, by name.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!("{} ORDER BY name", select()))?;
            let rows = statement.query_map((), row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The device or classic client of this name.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn device(&self, name: &str) -> Result<Option<DeviceRow>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(&format!("{} WHERE name = ?", select()))?;
            Ok(statement.query_row([name], row).optional()?)
        })
        .await
    }

    /// Takes a device's rights away, for the given operator. Its keys are refused from now on; it is for the caller
    /// to end its connections, and those of the devices that are wired to it. A revoked device stays as it is.
    ///
    /// # Errors
    ///
    /// There is no such device, it is a classic client, or the store can't be written.
    pub async fn revoke(&self, name: &str, who: impl Into<Who>) -> Result<Revoked, StoreError> {
        let (name, who) = (name.to_owned(), who.into());
        self.write(move |change| revoke(change, &name, &who)).await
    }

    /// Keeps what a device says of itself; writes nothing if it says the same as before.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn set_facts(&self, device: DeviceId, facts: Facts) -> Result<(), StoreError> {
        self.write(move |change| set_facts(change.connection, device, &facts)).await
    }

    /// Keeps a device's newest readings.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn set_status(&self, device: DeviceId, status: Map<String, Value>) -> Result<(), StoreError> {
        let status = Value::Object(status).to_string();
        self.write(move |change| {
            change
                .connection
                .prepare_cached("UPDATE devices SET status = ?2, status_at = ?3 WHERE id = ?1")?
                .execute(params![device, status, change.now])?;
            Ok(())
        })
        .await
    }
}

/// See [`Store::device_by_key`].
pub(super) fn key_status(connection: &Connection, key: &[u8; 32]) -> Result<KeyStatus, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT devices.id, name, keys.revoked_at IS NOT NULL OR devices.revoked_at IS NOT NULL
                FROM keys JOIN devices ON devices.id = keys.device WHERE hash = ?",
        )?
        .query_row([key], |row| Ok((DeviceRef { id: row.get(0)?, name: row.get(1)? }, row.get(2)?)))
        .optional()?;
    Ok(match found {
        None => KeyStatus::Unknown,
        Some((device, false)) => KeyStatus::Known(device),
        Some((device, true)) => KeyStatus::Revoked(device),
    })
}

fn revoke(change: &mut Change<'_>, name: &str, who: &Who) -> Result<Revoked, StoreError> {
    let found: Option<(DeviceId, DeviceKind, bool, Option<String>)> = change
        .connection
        .prepare_cached(&format!(
            "SELECT id, {KIND}, revoked_at IS NOT NULL,
                (SELECT name FROM devices AS gateways WHERE gateways.id = devices.gateway)
                FROM devices WHERE name = ?",
        ))?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let (device, kind, revoked, gateway) = match found {
        None => return Err(StoreError::NoSuchDevice),
        Some((_, DeviceKind::Classic, ..)) => return Err(StoreError::Classic),
        Some(found) => found,
    };
    if !revoked {
        for update in [
            "UPDATE devices SET revoked_at = ?2 WHERE id = ?1",
            "UPDATE keys SET revoked_at = ?2 WHERE device = ?1 AND revoked_at IS NULL",
        ] {
            change.connection.prepare_cached(update)?.execute(params![device, change.now])?;
        }
        change.event(&NewEvent::new(EventKind::DeviceRevoked).device(device).who(who))?;
    }
    let wired = wired_to(change.connection, device)?;
    Ok(Revoked { device: DeviceRef { id: device, name: name.to_owned() }, kind, gateway, wired })
}

/// See [`Store::set_facts`].
pub(super) fn set_facts(connection: &Connection, device: DeviceId, facts: &Facts) -> Result<(), StoreError> {
    let keys = facts.ssh_host_keys.as_ref().map(|keys| Value::from(keys.clone()).to_string());
    connection
        .prepare_cached(
            "UPDATE devices SET host_name = ?2, version = ?3, ssh_user = ?4, ssh_host_keys = coalesce(?5, ssh_host_keys)
                WHERE id = ?1 AND (host_name IS NOT ?2 OR version IS NOT ?3 OR ssh_user IS NOT ?4
                    OR ssh_host_keys IS NOT coalesce(?5, ssh_host_keys))",
        )?
        .execute(params![device, facts.host_name, facts.version, facts.ssh_user, keys])?;
    Ok(())
}

/// Whether this device may do something; else why not.
pub(super) fn check_rights(connection: &Connection, device: DeviceId) -> Result<(), StoreError> {
    let is_revoked = connection
        .prepare_cached("SELECT revoked_at IS NOT NULL FROM devices WHERE id = ?")?
        .query_row([device], |row| row.get(0))
        .optional()?;
    match is_revoked {
        None => Err(StoreError::NoSuchDevice),
        Some(true) => Err(StoreError::Revoked),
        Some(false) => Ok(()),
    }
}

/// Who has this name, and whether it is revoked.
pub(super) fn holder(
    connection: &Connection,
    name: &DeviceName,
) -> Result<Option<(DeviceId, bool)>, StoreError> {
    let found = connection
        .prepare_cached("SELECT id, revoked_at IS NOT NULL FROM devices WHERE name = ?")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found)
}

/// Gives a device its rights, if it was revoked, and keeps how it is enrolled from now on: wired to this gateway, or by a
/// provisioning block, or else by itself. Only by itself can it have devices that are wired to it.
pub(super) fn admit(
    change: &mut Change<'_>,
    device: &DeviceRef,
    gateway: Option<DeviceId>,
    firmware: bool,
) -> Result<(), StoreError> {
    if (firmware || gateway.is_some())
        && let Some(wired) = wired_to(change.connection, device.id)?.into_iter().next()
    {
        return Err(StoreError::IsGateway { name: device.name.clone(), wired: wired.name });
    }
    change
        .connection
        .prepare_cached("UPDATE devices SET revoked_at = NULL, gateway = ?2, firmware = ?3 WHERE id = ?1")?
        .execute(params![device.id, gateway, firmware])?;
    Ok(())
}

/// Makes the row of a new device.
pub(super) fn insert(change: &mut Change<'_>, name: DeviceName) -> Result<DeviceRef, StoreError> {
    change
        .connection
        .prepare_cached("INSERT INTO devices (name, kind, created) VALUES (?, 'framed', ?)")?
        .execute(params![name.as_str(), change.now])?;
    Ok(DeviceRef { id: DeviceId(change.connection.last_insert_rowid()), name: name.into() })
}

/// The devices that are wired to this one and not revoked, by name.
pub(super) fn wired_to(connection: &Connection, gateway: DeviceId) -> Result<Vec<DeviceRef>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name FROM devices WHERE gateway = ? AND revoked_at IS NULL ORDER BY name",
    )?;
    let rows = statement.query_map([gateway], |row| Ok(DeviceRef { id: row.get(0)?, name: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn select() -> String {
    format!(
        "SELECT id, name, {KIND},
        (SELECT lower(hex(hash)) FROM keys
            WHERE keys.device = devices.id AND gateway IS NULL ORDER BY keys.created DESC LIMIT 1),
        (SELECT name FROM devices AS gateways WHERE gateways.id = devices.gateway),
        created, revoked_at, last_seen, host_name, version, ssh_user, ssh_host_keys, status, status_at,
        sessions, connected_millis, messages_in, bytes_in, messages_out, bytes_out,
        (SELECT count(*) FROM messages WHERE messages.device = devices.id
            AND direction = 1 AND delivered_at IS NULL AND expired_at IS NULL)
    FROM devices"
    )
}

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    let json = |column| -> rusqlite::Result<Option<Value>> {
        let text: Option<String> = row.get(column)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    };
    Ok(DeviceRow {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        key: row.get(3)?,
        gateway: row.get(4)?,
        created: row.get(5)?,
        revoked_at: row.get(6)?,
        last_seen: row.get(7)?,
        host_name: row.get(8)?,
        version: row.get(9)?,
        ssh_user: row.get(10)?,
        ssh_host_keys: json(11)?.and_then(|keys| serde_json::from_value(keys).ok()).unwrap_or_default(),
        status: json(12)?.and_then(|status| serde_json::from_value(status).ok()),
        status_at: row.get(13)?,
        sessions: row.get(14)?,
        connected_millis: row.get(15)?,
        messages_in: row.get(16)?,
        bytes_in: row.get(17)?,
        messages_out: row.get(18)?,
        bytes_out: row.get(19)?,
        waiting: row.get(20)?,
    })
}
