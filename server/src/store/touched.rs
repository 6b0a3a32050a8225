//! Which devices' rows may show something new, and these rows alone: for those who look at all devices all the time.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::{
    DeviceId, DeviceRow, LastSession, Newest, Store, StoreError, UnixMillis,
    devices::{row, select},
};

impl Store {
    /// The devices that had an event or a message behind `seen`, or told their readings since `at`.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn touched(&self, seen: Newest, at: UnixMillis) -> Result<HashSet<DeviceId>, StoreError> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT device FROM events WHERE id > ?1 AND device IS NOT NULL
                    UNION SELECT device FROM messages WHERE id > ?2
                    UNION SELECT id FROM devices WHERE status_at >= ?3",
            )?;
            let ids = statement.query_map(params![seen.event, seen.message, at], |row| row.get(0))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// These devices, and where each was last.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn devices_by_id(
        &self,
        ids: Vec<DeviceId>,
    ) -> Result<(Vec<DeviceRow>, Vec<LastSession>), StoreError> {
        self.read(move |connection| {
            let mut device = connection.prepare_cached(&format!("{} WHERE devices.id = ?", select()))?;
            let mut session = connection
                .prepare_cached("SELECT address FROM sessions WHERE device = ? ORDER BY id DESC LIMIT 1")?;
            let (mut devices, mut sessions) = (Vec::new(), Vec::new());
            for id in ids {
                devices.extend(device.query_row([id], row).optional()?);
                let last =
                    session.query_row([id], |row| Ok(LastSession { device: id, address: row.get(0)? }));
                sessions.extend(last.optional()?);
            }
            Ok((devices, sessions))
        })
        .await
    }
}
