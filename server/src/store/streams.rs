//! Where the streams of messages stand.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{DeviceId, MessageId, RandomId, StoreError};

/// `direction` of a message from a device.
pub(super) const UP: i64 = 0;
/// `direction` of a message to a device.
pub(super) const DOWN: i64 = 1;

/// How many streams the writer remembers; beyond it, it looks them up again.
const REMEMBERED_STREAMS: usize = 65_536;
/// Where a stream stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// Its highest number; 0 if it has none.
    pub(super) highest: u64,
    /// The message that has it.
    pub(super) last: MessageId,
}

/// Where the streams from devices stand: what the writer remembers of them, before the table. The table is written
/// when messages are settled, not with each of them: behind it are the streams of messages that are not.
#[derive(Default)]
pub(super) struct Streams {
    known: HashMap<(DeviceId, u64), Stream>,
    /// Streams of unsettled messages may be missing.
    forgotten: bool,
}

impl Streams {
    /// Forgets them: the transaction that they are from was undone.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.forgotten = true;
    }

    /// Whether all messages have to be settled before a stream may be looked up.
    pub(super) fn need_table(&self) -> bool {
        self.forgotten
    }

    /// All messages are settled: the table has all streams.
    pub(super) fn table_is_whole(&mut self) {
        self.forgotten = false;
        if self.known.len() > REMEMBERED_STREAMS {
            self.known.clear();
        }
    }

    /// Notes where a stream stands now.
    pub(super) fn note(&mut self, device: DeviceId, id: u64, stream: Stream) {
        self.known.insert((device, id), stream);
    }

    /// Where this stream stands.
    pub(super) fn find(
        &self,
        connection: &Connection,
        device: DeviceId,
        stream: u64,
    ) -> Result<Stream, StoreError> {
        match self.known.get(&(device, stream)) {
            Some(stream) => Ok(*stream),
            None => find_stream(connection, device, UP, RandomId(stream)),
        }
    }
}

/// Where the table has a stream.
pub(super) fn find_stream(
    connection: &Connection,
    device: DeviceId,
    direction: i64,
    stream: RandomId,
) -> Result<Stream, StoreError> {
    let found = connection
        .prepare_cached(
            "SELECT highest, last FROM streams WHERE device = ? AND direction = ? AND stream = ?",
        )?
        .query_row(params![device, direction, stream], |row| {
            Ok(Stream { highest: row.get::<_, i64>(0)?.cast_unsigned(), last: row.get(1)? })
        })
        .optional()?;
    Ok(found.unwrap_or(Stream { highest: 0, last: MessageId(0) }))
}

/// Writes where a stream stands, which is never behind where it stood. (Those of the higher half are kept as negative.)
pub(super) fn keep_stream(
    connection: &Connection,
    device: DeviceId,
    direction: i64,
    id: RandomId,
    stream: Stream,
) -> Result<(), StoreError> {
    let kept = connection
        .prepare_cached(
            "INSERT INTO streams (device, direction, stream, highest, last) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET highest = excluded.highest, last = excluded.last
                WHERE (excluded.highest < 0, excluded.highest) >= (highest < 0, highest)",
        )?
        .execute(params![device, direction, id, stream.highest.cast_signed(), stream.last])?;
    if kept == 1 { Ok(()) } else { Err(StoreError::Inconsistent("a stream's numbers would go back")) }
}
