//! Events in the store.

use rusqlite::{Connection, Row, params};

use super::{DeviceId, EventId, Store, StoreError, UnixMillis, part::Part};
use crate::event::{EventRow, NewEvent};

/// Which events to read; a page is in their order.
#[derive(Clone, Copy, Debug)]
pub struct EventFilter {
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// None before this time.
    pub since: Option<UnixMillis>,
    /// Only those behind this one; 0 for the first page.
    pub after: EventId,
    /// Only those before this one, and of them the last; a page is in the order of their ids all the same.
    pub before: Option<EventId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self { device: None, since: None, after: EventId(0), before: None, limit: 500 }
    }
}

impl Store {
    /// Records an event; returns when it is on disk.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn record(&self, event: NewEvent) -> Result<EventId, StoreError> {
        self.write(move |change| change.event(&event)).await
    }

    /// The same for what has happened whether it can be recorded or not: the log tells that it can't.
    pub async fn note(&self, event: NewEvent) {
        let (kind, device) = (event.kind.name(), event.device);
        if let Err(error) = self.record(event).await {
            tracing::error!(%error, kind, ?device, "an event could not be recorded");
        }
    }

    /// A page of events, in their order. Fewer than the limit: there are no more now.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<EventRow>, StoreError> {
        self.read(move |connection| page(connection, &filter)).await
    }
}

/// Writes an event.
pub(super) fn insert(
    connection: &Connection,
    id: EventId,
    at: UnixMillis,
    event: &NewEvent,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO events (id, at, kind, device, session, address, who, detail)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            id,
            at,
            event.kind.name(),
            event.device,
            event.session,
            event.address.map(|address| address.to_string()),
            event.who,
            serde_json::Value::Object(event.detail.clone()).to_string(),
        ])?;
    Ok(())
}

/// See [`Store::events`].
pub(crate) fn page(connection: &Connection, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
    let part = Part::new(filter.after.0, filter.before.map(|before| before.0));
    // Two texts, as one with `device IS ?` would use no index.
    let which = match filter.device {
        Some(_) => "device = ?3",
        None => "?3 IS NULL",
    };
    let query = format!(
        "SELECT events.id, at, events.kind, name, session, address, who, detail
            FROM events LEFT JOIN devices ON devices.id = device WHERE {which} AND at >= ?4 AND {} LIMIT ?5",
        part.sql("events.id")
    );
    let since = filter.since.unwrap_or(UnixMillis(i64::MIN));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map(params![part.after, part.before, filter.device, since, limit], row)?;
    Ok(part.ascending(rows.collect::<Result<_, _>>()?))
}

pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        device: row.get(3)?,
        session: row.get(4)?,
        address: row.get(5)?,
        who: row.get(6)?,
        detail: serde_json::from_str(row.get_ref(7)?.as_str()?).unwrap_or_default(),
    })
}
