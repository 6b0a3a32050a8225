//! What each message changes besides its own row, done for many of them at once: the sums of its session and its
//! device, and the table by which a device's messages are found.
//!
//! All of it follows from the messages behind the one in meta `settled`, so that a crash loses none of it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{DeviceId, MessageId, SessionId, StoreError, UnixMillis, archive::UP};

/// What came in one session.
#[derive(Clone, Copy)]
struct Tally {
    device: DeviceId,
    messages: i64,
    bytes: i64,
    last: UnixMillis,
}

/// The message up to which all is settled.
pub(super) fn settled(connection: &Connection) -> Result<MessageId, StoreError> {
    let settled = connection
        .prepare_cached("SELECT value FROM meta WHERE key = 'settled'")?
        .query_row((), |row| row.get(0))
        .optional()?;
    Ok(settled.unwrap_or_default())
}

/// Settles all messages up to this one.
pub(super) fn settle(connection: &Connection, until: MessageId) -> Result<(), StoreError> {
    let mut messages: Vec<(DeviceId, MessageId)> = Vec::new();
    let mut tallies: HashMap<SessionId, Tally> = HashMap::new();
    let mut statement = connection.prepare_cached(
        "SELECT id, device, direction, session, length(body), received_at FROM messages
            WHERE id > ? AND id <= ? ORDER BY id",
    )?;
    let mut rows = statement.query([settled(connection)?, until])?;
    while let Some(row) = rows.next()? {
        let device = row.get(1)?;
        messages.push((device, row.get(0)?));
        let session: Option<SessionId> = row.get(3)?;
        if let Some(session) = session
            && row.get::<_, i64>(2)? == UP
        {
            let received_at = row.get(5)?;
            let tally =
                tallies.entry(session).or_insert(Tally { device, messages: 0, bytes: 0, last: received_at });
            tally.messages = tally.messages.saturating_add(1);
            tally.bytes = tally.bytes.saturating_add(row.get(4)?);
            tally.last = tally.last.max(received_at);
        }
    }
    // Device by device: each page of the table is written once.
    messages.sort_unstable();
    let mut insert =
        connection.prepare_cached("INSERT INTO device_messages (device, message) VALUES (?, ?)")?;
    for (device, message) in messages {
        insert.execute(params![device, message])?;
    }
    for (session, tally) in tallies {
        add(connection, session, &tally)?;
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('settled', ?)")?
        .execute([until])?;
    Ok(())
}

fn add(connection: &Connection, session: SessionId, tally: &Tally) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE sessions SET messages_in = messages_in + ?2, bytes_in = bytes_in + ?3,
                last_seen = max(last_seen, ?4) WHERE id = ?1",
        )?
        .execute(params![session, tally.messages, tally.bytes, tally.last])?;
    connection
        .prepare_cached(
            "UPDATE devices SET messages_in = messages_in + ?2, bytes_in = bytes_in + ?3,
                last_seen = max(coalesce(last_seen, 0), ?4) WHERE id = ?1",
        )?
        .execute(params![tally.device, tally.messages, tally.bytes, tally.last])?;
    Ok(())
}
