//! What each message changes besides its own row, done for many of them at once: where its stream stands, the sums of
//! its session and its device, and the table by which a device's messages are found.
//!
//! All of it follows from the messages behind the one in meta `settled`, so that a crash loses none of it.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    DeviceId, MessageId, RandomId, SessionId, StoreError, UnixMillis,
    streams::{Stream, UP, keep_stream},
};

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
    let mut streams: BTreeMap<(DeviceId, RandomId), Stream> = BTreeMap::new();
    let mut statement = connection.prepare_cached(
        "SELECT id, device, direction, session, length(body), received_at, stream, number FROM messages
            WHERE id > ? AND id <= ? ORDER BY id",
    )?;
    let mut rows = statement.query([settled(connection)?, until])?;
    while let Some(row) = rows.next()? {
        let device = row.get(1)?;
        let id = row.get(0)?;
        messages.push((device, id));
        if row.get::<_, i64>(2)? != UP {
            continue;
        }
        // Numbers within a stream only grow.
        let highest = row.get::<_, i64>(7)?.cast_unsigned();
        streams.insert((device, row.get(6)?), Stream { highest, last: id });
        if let Some(session) = row.get(3)? {
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
    for ((device, id), stream) in streams {
        keep_stream(connection, device, UP, id, stream)?;
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
