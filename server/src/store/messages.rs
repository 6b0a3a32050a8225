//! Messages to devices, and reading the archive of both directions.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    DeviceId, Direction, Kind, MessageId, RandomId, SessionId, Store, StoreError, UnixMillis,
    change::Change,
    part::Part,
    settle::settled,
    streams::{DOWN, Stream, UP, find_stream, keep_stream},
};
use crate::event::{EventKind, NewEvent, Who};

/// A page ends when it has so many bytes of bodies, even if it has fewer messages than it may.
const PAGE_BYTES: usize = 1024 * 1024;
/// How many messages expire in one transaction.
const EXPIRED_AT_ONCE: usize = 1_000;

/// A message for a device.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub body: Vec<u8>,
    /// Until when it is of use; it is not sent later than that.
    pub expires_at: Option<UnixMillis>,
    /// The operator who sends it: told by an event.
    pub who: Option<Who>,
}

/// A message that waits for its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub id: MessageId,
    /// Its stream, kept from when it was enqueued.
    pub stream: u64,
    /// Its number in the stream, kept from when it was enqueued.
    pub number: u64,
    /// Its kind.
    pub kind: Kind,
    /// When it was enqueued.
    pub time: UnixMillis,
    /// What it says.
    pub body: Vec<u8>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Its id: later messages have greater ones.
    pub id: MessageId,
    /// The name of its device.
    pub device: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Its kind.
    pub kind: String,
    /// When it was archived: came from its device, or was enqueued for it.
    pub received_at: UnixMillis,
    /// The device's time, where it knew one.
    pub time: Option<UnixMillis>,
    /// Its stream.
    pub stream: RandomId,
    /// Its number in the stream.
    pub number: u64,
    /// The session that it came in.
    pub session: Option<SessionId>,
    /// Until when it is of use to its device.
    pub expires_at: Option<UnixMillis>,
    /// When it was given up, as its device did not fetch it in time.
    pub expired_at: Option<UnixMillis>,
    /// When its device had it.
    pub delivered_at: Option<UnixMillis>,
    /// What it says. It may come from a peer: escape it where it is shown.
    pub body: Vec<u8>,
}

/// Which messages to read, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct MessageFilter {
    /// Of this device only.
    pub device: Option<DeviceId>,
    /// None that was archived before this time.
    pub since: Option<UnixMillis>,
    /// Only those behind this one; 0 for the first page.
    pub after: MessageId,
    /// Only those before this one, and of them the last; a page is in the order of their ids all the same.
    pub before: Option<MessageId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for MessageFilter {
    fn default() -> Self {
        Self { device: None, since: None, after: MessageId(0), before: None, limit: 500 }
    }
}

impl Store {
    /// The highest archived number of a device's stream; 0 if there is none.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn highest(&self, device: DeviceId, stream: u64) -> Result<u64, StoreError> {
        // The writer knows it, where the table does not have it yet.
        self.write(move |change| Ok(change.streams.find(change.connection, device, stream)?.highest)).await
    }

    /// Enqueues a message for a device for which fewer than `limit` wait; gives its id when it is on disk. It is for the caller to wake the device's
    /// connection.
    ///
    /// # Errors
    ///
    /// There is no such device, it can't get messages, too many wait for it, or the store can't be written.
    pub async fn enqueue(
        &self,
        device: DeviceId,
        message: NewMessage,
        limit: usize,
    ) -> Result<MessageId, StoreError> {
        self.write(move |change| enqueue(change, device, &message, limit)).await
    }

    /// Messages that wait for a device behind the given one (0 for the first), in the order in which they are to be
    /// sent: stream by stream, oldest first. At most `limit`, and fewer where they are large; none if none wait.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn waiting(
        &self,
        device: DeviceId,
        after: MessageId,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        self.read(move |connection| waiting(connection, device, after, limit)).await
    }

    /// The device has the messages of this stream from `first` to `last`: what this connection had sent it and not
    /// had echoed before. They are counted in this session.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub async fn delivered(
        &self,
        device: DeviceId,
        session: SessionId,
        stream: u64,
        first: u64,
        last: u64,
    ) -> Result<(), StoreError> {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let (first, last) = (number(first), number(last));
        self.write(move |change| delivered(change, device, session, RandomId(stream), first, last)).await
    }

    /// Gives up the messages to devices whose time is over, each with its event; returns how many.
    /// Writes nothing if there are none. Call it now and then.
    ///
    /// # Errors
    ///
    /// The store can't be read or written, or is closed.
    pub async fn expire(&self) -> Result<usize, StoreError> {
        let mut total = 0_usize;
        loop {
            let due =
                self.read(|connection| Ok(!expired(connection, UnixMillis::now(), 1)?.is_empty())).await?;
            if !due {
                return Ok(total);
            }
            total = total.saturating_add(self.write(expire).await?);
        }
    }

    /// A page of messages, oldest first: at most the filter's limit, and fewer where they are large; none if there
    /// are no more now.
    ///
    /// # Errors
    ///
    /// The store can't be read, or is closed.
    pub async fn messages(&self, filter: MessageFilter) -> Result<Vec<MessageRow>, StoreError> {
        self.read(move |connection| page(connection, &filter)).await
    }
}

fn enqueue(
    change: &mut Change<'_>,
    device: DeviceId,
    message: &NewMessage,
    limit: usize,
) -> Result<MessageId, StoreError> {
    let connection = change.connection;
    let found = connection
        .prepare_cached(
            "SELECT kind = 'classic', revoked_at IS NOT NULL, longest_message FROM devices WHERE id = ?",
        )?
        .query_row([device], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<usize>>(2)?)))
        .optional()?;
    let longest = match found {
        None => return Err(StoreError::NoSuchDevice),
        Some((true, ..)) => return Err(StoreError::Classic),
        Some((_, true, _)) => return Err(StoreError::Revoked),
        Some((false, false, longest)) => longest,
    };
    let length = message.body.len();
    if let Some(most) = longest.filter(|most| length > *most) {
        return Err(StoreError::TooLarge { length, most });
    }
    let waiting: usize = connection
        .prepare_cached(
            "SELECT count(*) FROM messages
                WHERE device = ? AND direction = 1 AND delivered_at IS NULL AND expired_at IS NULL",
        )?
        .query_row([device], |row| row.get(0))?;
    if waiting >= limit {
        return Err(StoreError::TooManyWaiting { waiting });
    }
    let stream = change.down_stream;
    let before = find_stream(connection, device, DOWN, stream)?;
    let number = before.highest.saturating_add(1);
    let id = change.next_message();
    keep_stream(connection, device, DOWN, stream, Stream { highest: number, last: id })?;
    connection
        .prepare_cached(
            "INSERT INTO messages (id, device, direction, stream, number, previous, kind, time, received_at, expires_at, body)
                VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9)",
        )?
        .execute(params![
            id,
            device,
            stream,
            number.cast_signed(),
            before.last,
            message.kind.as_str(),
            change.now,
            message.expires_at,
            message.body
        ])?;
    if let Some(who) = &message.who {
        let event = NewEvent::new(EventKind::MessageSent)
            .device(device)
            .who(who)
            .detail("message", id.0)
            .detail("kind", message.kind.as_str());
        change.event(&event)?;
    }
    Ok(id)
}

fn waiting(
    connection: &Connection,
    device: DeviceId,
    after: MessageId,
    limit: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, stream, number, kind, time, body FROM messages
            WHERE device = ?1 AND id > ?2 AND direction = 1 AND delivered_at IS NULL AND expired_at IS NULL
                AND (expires_at IS NULL OR expires_at > ?3)
            ORDER BY id",
    )?;
    let mut page = Page::new(limit);
    let mut rows = statement.query(params![device, after, UnixMillis::now()])?;
    while !page.is_full()
        && let Some(row) = rows.next()?
    {
        let message = Waiting {
            id: row.get(0)?,
            stream: row.get::<_, RandomId>(1)?.0,
            number: row.get(2)?,
            kind: row.get::<_, String>(3)?.parse().unwrap_or(Kind::TEXT),
            time: row.get(4)?,
            body: row.get(5)?,
        };
        let size = message.body.len();
        page.add(message, size);
    }
    Ok(page.rows)
}

fn delivered(
    change: &mut Change<'_>,
    device: DeviceId,
    session: SessionId,
    stream: RandomId,
    first: i64,
    last: i64,
) -> Result<(), StoreError> {
    let connection = change.connection;
    // One that expired on its way has arrived all the same.
    let mut statement = connection.prepare_cached(
        "UPDATE messages SET delivered_at = ?5, expired_at = NULL
            WHERE device = ?1 AND direction = 1 AND stream = ?2 AND number BETWEEN ?3 AND ?4 AND delivered_at IS NULL
            RETURNING length(body)",
    )?;
    let lengths: Vec<i64> = statement
        .query_map(params![device, stream, first, last, change.now], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    if lengths.is_empty() {
        return Ok(());
    }
    let bytes = lengths.iter().copied().fold(0, i64::saturating_add);
    change.delivered(lengths.len() as u64, u64::try_from(bytes).unwrap_or(0));
    for (table, id) in [("sessions", session.0), ("devices", device.0)] {
        let sql = format!(
            "UPDATE {table} SET messages_out = messages_out + ?2, bytes_out = bytes_out + ?3 WHERE id = ?1"
        );
        connection.prepare_cached(&sql)?.execute(params![id, lengths.len(), bytes])?;
    }
    Ok(())
}

/// Messages whose time is over, with their devices.
fn expired(
    connection: &Connection,
    now: UnixMillis,
    limit: usize,
) -> Result<Vec<(MessageId, DeviceId)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, device FROM messages WHERE direction = 1 AND delivered_at IS NULL AND expired_at IS NULL
            AND expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
    )?;
    let rows = statement.query_map(params![now, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn expire(change: &mut Change<'_>) -> Result<usize, StoreError> {
    let expired = expired(change.connection, change.now, EXPIRED_AT_ONCE)?;
    for (message, device) in &expired {
        change
            .connection
            .prepare_cached("UPDATE messages SET expired_at = ?2 WHERE id = ?1")?
            .execute(params![message, change.now])?;
        change
            .event(&NewEvent::new(EventKind::MessageExpired).device(*device).detail("message", message.0))?;
    }
    Ok(expired.len())
}

/// See [`Store::messages`].
pub(crate) fn page(connection: &Connection, filter: &MessageFilter) -> Result<Vec<MessageRow>, StoreError> {
    let after = match filter.since {
        Some(since) => filter.after.max(last_before(connection, since)?),
        None => filter.after,
    };
    let part = Part::new(after.0, filter.before.map(|before| before.0));
    let mut page = Page::new(filter.limit);
    if filter.device.is_none() {
        let sql = format!("{COLUMNS} FROM messages WHERE {CONDITION} AND ?3 IS NULL AND {}", part.sql("id"));
        read_rows(connection, &mut page, filter, &sql, part)?;
        return Ok(part.ascending(page.rows));
    }
    let settled = settled(connection)?;
    // CROSS tells SQLite to go through the device's messages in order, and not to gather them all first.
    let indexed = format!(
        "{COLUMNS} FROM device_messages CROSS JOIN messages ON id = message
            WHERE {CONDITION} AND device_messages.device = ?3 AND {}",
        part.sql("message")
    );
    let fresh = format!("{COLUMNS} FROM messages WHERE {CONDITION} AND device = ?3 AND {}", part.sql("id"));
    let behind = Part { after: after.max(settled).0, ..part };
    let mut queries = [(indexed, part, after < settled), (fresh, behind, true)];
    if part.is_end {
        queries.reverse();
    }
    for (sql, part, _) in queries.iter().filter(|(.., is_of_use)| *is_of_use) {
        if !page.is_full() {
            read_rows(connection, &mut page, filter, sql, *part)?;
        }
    }
    Ok(part.ascending(page.rows))
}

const COLUMNS: &str =
    "SELECT id, messages.device, direction, kind, received_at, time, stream, number, session,
    expires_at, expired_at, delivered_at, body";
const CONDITION: &str = "received_at >= ?4";

/// Adds the rows of a query to a page until that is full.
fn read_rows(
    connection: &Connection,
    page: &mut Page<MessageRow>,
    filter: &MessageFilter,
    sql: &str,
    part: Part,
) -> Result<(), StoreError> {
    let since = filter.since.unwrap_or(UnixMillis(i64::MIN));
    let mut names: HashMap<DeviceId, String> = HashMap::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![part.after, part.before, filter.device, since])?;
    while !page.is_full()
        && let Some(found) = rows.next()?
    {
        let device: DeviceId = found.get(1)?;
        let name = match names.get(&device) {
            Some(name) => name.clone(),
            None => {
                let name: String = connection
                    .prepare_cached("SELECT name FROM devices WHERE id = ?")?
                    .query_row([device], |row| row.get(0))?;
                names.insert(device, name.clone());
                name
            }
        };
        let message = row(found, name)?;
        let size = message.body.len();
        page.add(message, size);
    }
    Ok(())
}

/// The last message that was archived before this time, found by halving: ids and times grow together. Where the
/// clock was set back in between, the answer is one of several that are right in part.
fn last_before(connection: &Connection, time: UnixMillis) -> Result<MessageId, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id, received_at FROM messages WHERE id >= ? ORDER BY id LIMIT 1")?;
    let highest: Option<i64> = connection.query_row("SELECT max(id) FROM messages", (), |row| row.get(0))?;
    // Every message up to `low` is before the time, none from `high` on is.
    let (mut low, mut high) = (0, highest.unwrap_or(0).saturating_add(1));
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        let next: Option<(i64, UnixMillis)> =
            statement.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        match next {
            Some((id, received_at)) if received_at < time => low = id.max(middle),
            _ => high = middle,
        }
    }
    Ok(MessageId(low))
}

/// Rows, up to a number and a size.
struct Page<T> {
    rows: Vec<T>,
    limit: usize,
    bytes: usize,
}

impl<T> Page<T> {
    fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), limit, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    fn add(&mut self, row: T, bytes: usize) {
        self.rows.push(row);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

fn row(row: &Row<'_>, device: String) -> rusqlite::Result<MessageRow> {
    let time: i64 = row.get(5)?;
    Ok(MessageRow {
        id: row.get(0)?,
        device,
        direction: if row.get::<_, i64>(2)? == UP { Direction::In } else { Direction::Out },
        kind: row.get(3)?,
        received_at: row.get(4)?,
        time: (time != 0).then_some(UnixMillis(time)),
        stream: row.get(6)?,
        number: row.get::<_, i64>(7)?.cast_unsigned(),
        session: row.get(8)?,
        expires_at: row.get(9)?,
        expired_at: row.get(10)?,
        delivered_at: row.get(11)?,
        body: row.get(12)?,
    })
}
