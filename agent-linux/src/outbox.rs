//! Messages to the server, kept on disk until they are echoed, and for a while longer.
//!
//! Each message has a position, which only grows. A stream is what positions are counted from: the
//! message at position `p` has the number `p - base` in the current stream, so that a new stream costs
//! one row, however much waits.

use protocol_core::message::StreamId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    config::OutboxLimits,
    queue::{Database, OVERHEAD, QueueError, StoredMessage, from_sql, max_body, take_up_to, to_sql},
    state::StateDirectory,
};

#[cfg(test)]
mod tests;

const SCHEMA: &str = "
    CREATE TABLE message (
        position INTEGER PRIMARY KEY,
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        body BLOB NOT NULL,
        -- What the local program calls it: the same again is the same message.
        source INTEGER NOT NULL,
        source_number INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX message_source ON message (source, source_number);
    CREATE TABLE mark (
        stream INTEGER NOT NULL,
        base INTEGER NOT NULL,
        first INTEGER NOT NULL,
        echoed INTEGER NOT NULL,
        last INTEGER NOT NULL,
        waiting_bytes INTEGER NOT NULL,
        kept_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO mark VALUES (random(), 0, 1, 0, 0, 0, 0);
";

/// After how many echoed messages this is written down, if nothing else is written before.
const ECHOES_AT_ONCE: u64 = 256;

/// Where the outbox stands. Positions count from 1 up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The stream in use.
    pub stream: StreamId,
    /// The position before the stream's first message.
    pub base: u64,
    /// The oldest message kept.
    pub first: u64,
    /// The newest message that was echoed; 0 for none. `first - 1 <= echoed <= last`.
    pub echoed: u64,
    /// The newest message; 0 for none.
    pub last: u64,
    /// The size of the messages after `echoed`, in bytes; at most that, while an echo is not written down.
    pub waiting_bytes: u64,
    /// The size of the messages up to `echoed` that are kept, in bytes.
    pub kept_bytes: u64,
}

impl Marks {
    /// How many messages wait for their echo.
    pub const fn waiting(&self) -> u64 {
        self.last.saturating_sub(self.echoed)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get(column).map(from_sql);
        Ok(Self {
            stream: StreamId(number(0)?),
            base: number(1)?,
            first: number(2)?,
            echoed: number(3)?,
            last: number(4)?,
            waiting_bytes: number(5)?,
            kept_bytes: number(6)?,
        })
    }
}

/// A message to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The stream and the number that the local program gave it. While the message is kept, these
    /// name it: given again, they are the same message.
    pub source: (StreamId, u64),
    /// The source alone decides: the same again is the same message, whatever it says.
    pub is_named: bool,
    /// The time it was made at, in milliseconds since 1970; 0 for unknown.
    pub time: u64,
    /// What the body is.
    pub kind: String,
    /// The body.
    pub body: Vec<u8>,
}

/// The queue to the server.
#[derive(Debug)]
pub struct Outbox {
    database: Database,
    limits: OutboxLimits,
    /// The marks as the open transaction has them; only meaningful while there is one.
    marks: Marks,
    /// Echoed, and perhaps not written down yet: forgetting it costs a repetition, not a message.
    echoed: u64,
}

impl Outbox {
    /// Opens the outbox of an agent, and makes it if there is none.
    ///
    /// # Errors
    /// [`QueueError`] of the database.
    pub fn open(state: &StateDirectory, limits: OutboxLimits) -> Result<Self, QueueError> {
        let database = Database::open(&state.file("outbox.db"), SCHEMA)?;
        Ok(Self { database, limits, marks: Marks::default(), echoed: 0 })
    }

    /// Puts a message behind all others. It is safe after the next [`Outbox::commit`]. Gives its position.
    ///
    /// # Errors
    /// [`QueueError::TooLarge`], [`QueueError::Full`], [`QueueError::Conflict`], or of the database.
    pub fn put(&mut self, message: &NewMessage) -> Result<u64, QueueError> {
        let limit = max_body(&message.kind);
        if message.body.len() > limit {
            return Err(QueueError::TooLarge { length: message.body.len(), limit });
        }
        self.begin()?;
        let (source, source_number) = (to_sql(message.source.0.0), to_sql(message.source.1));
        if let Some((position, is_equal)) = self.known(message)? {
            return if is_equal || message.is_named { Ok(position) } else { Err(QueueError::Conflict) };
        }
        let size = (message.kind.len() + message.body.len()) as u64 + OVERHEAD;
        let (messages, bytes) = (self.marks.waiting(), self.marks.waiting_bytes);
        if messages >= self.limits.max_messages || bytes + size > self.limits.max_bytes {
            return Err(QueueError::Full { messages, bytes });
        }
        let position = self.marks.last + 1;
        self.database.with(|connection| {
            let values = params![
                to_sql(position),
                to_sql(message.time),
                message.kind,
                message.body,
                source,
                source_number
            ];
            connection.execute("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6)", values)
        })?;
        self.marks.last = position;
        self.marks.waiting_bytes += size;
        Ok(position)
    }

    /// The position of the message of this source, if it is kept, and whether it says the same.
    fn known(&mut self, message: &NewMessage) -> Result<Option<(u64, bool)>, QueueError> {
        let values =
            params![to_sql(message.source.0.0), to_sql(message.source.1), message.kind, message.body];
        self.database.with(|connection| {
            let sql = "SELECT position, kind = ?3 AND body = ?4 FROM message WHERE source = ?1 AND source_number = ?2";
            let found = connection.query_row(sql, values, |row| Ok((from_sql(row.get(0)?), row.get(1)?)));
            found.optional()
        })
    }

    /// Notes that the server has all messages up to `position`. It is written down with what is written
    /// next, or by [`Outbox::write_down_echoes`].
    pub fn echoed(&mut self, position: u64) -> Result<(), QueueError> {
        self.echoed = self.echoed.max(position);
        if self.echoed.saturating_sub(self.marks.echoed) >= ECHOES_AT_ONCE {
            self.begin()?;
        }
        Ok(())
    }

    /// Whether an echo is not written down yet.
    pub fn has_unwritten_echoes(&self) -> bool {
        self.echoed > self.marks.echoed
    }

    /// Makes the next commit write down what was echoed.
    ///
    /// # Errors
    /// Of the database.
    pub fn write_down_echoes(&mut self) -> Result<(), QueueError> {
        if self.has_unwritten_echoes() { self.begin() } else { Ok(()) }
    }

    /// The oldest messages after `after`, at least one if there is any, then up to `messages` and `bytes`.
    ///
    /// # Errors
    /// Of the database.
    pub fn after(
        &mut self,
        after: u64,
        messages: usize,
        bytes: u64,
    ) -> Result<Vec<StoredMessage>, QueueError> {
        let marks = self.marks()?;
        self.database.with(|connection| {
            let sql = "SELECT position, time, kind, body FROM message WHERE position > ?1 ORDER BY position";
            let mut statement = connection.prepare(sql)?;
            // Messages of an older stream have no number in this one.
            let found = statement.query_map([to_sql(after.max(marks.base))], |row| {
                let position = from_sql(row.get(0)?);
                Ok(StoredMessage {
                    position,
                    stream: marks.stream,
                    number: position - marks.base,
                    time: from_sql(row.get(1)?),
                    kind: row.get(2)?,
                    body: row.get(3)?,
                })
            })?;
            take_up_to(found, messages, bytes)
        })
    }

    /// Gives all messages that are not echoed new numbers, from 1 up, in a new random stream. Gives the marks.
    ///
    /// # Errors
    /// Of the database.
    pub fn change_stream(&mut self) -> Result<Marks, QueueError> {
        self.begin()?;
        self.write_echoes()?;
        let stream =
            self.database.with(|connection| connection.query_row("SELECT random()", [], |row| row.get(0)))?;
        self.marks.stream = StreamId(from_sql(stream));
        self.marks.base = self.marks.echoed;
        Ok(self.marks)
    }

    /// Where the outbox stands, echoes that are not written down included.
    ///
    /// # Errors
    /// Of the database.
    pub fn marks(&mut self) -> Result<Marks, QueueError> {
        if !self.database.is_writing() {
            self.marks = self.database.with(read_marks)?;
            // Another process may have written, or the directory been restored: what it says holds.
            self.echoed = self.echoed.min(self.marks.last);
        }
        let mut marks = Marks { echoed: self.marks.echoed.max(self.echoed), ..self.marks };
        if marks.waiting() == 0 {
            marks.waiting_bytes = 0;
        }
        Ok(marks)
    }

    /// Makes all of this safe that was asked for since the last commit. Only then may anybody be told.
    ///
    /// # Errors
    /// Of the database: then nothing of it is safe, and [`Outbox::roll_back`] is due.
    pub fn commit(&mut self) -> Result<(), QueueError> {
        if !self.database.is_writing() {
            return Ok(());
        }
        self.write_echoes()?;
        let marks = self.marks;
        self.database.with(|connection| {
            let numbers = [
                marks.stream.0,
                marks.base,
                marks.first,
                marks.echoed,
                marks.last,
                marks.waiting_bytes,
                marks.kept_bytes,
            ];
            connection.execute(
                "UPDATE mark SET stream = ?1, base = ?2, first = ?3, echoed = ?4, last = ?5, waiting_bytes = ?6, kept_bytes = ?7",
                rusqlite::params_from_iter(numbers.map(to_sql)),
            )
        })?;
        self.database.commit()
    }

    /// Forgets what was asked for since the last commit.
    pub fn roll_back(&mut self) {
        self.database.roll_back();
    }

    /// Transactions committed since the start, each of them one sync.
    pub fn commits(&self) -> u64 {
        self.database.commits
    }

    fn begin(&mut self) -> Result<(), QueueError> {
        if self.database.begin()? {
            self.marks = self.database.with(read_marks)?;
            self.echoed = self.echoed.min(self.marks.last);
        }
        Ok(())
    }

    /// Moves the mark of what is echoed, and drops what need not be kept any longer.
    fn write_echoes(&mut self) -> Result<(), QueueError> {
        let (from, to) = (self.marks.echoed, self.echoed);
        if to <= from {
            return Ok(());
        }
        let size = self.database.with(|connection| size_between(connection, from, to))?;
        self.marks.echoed = to;
        self.marks.waiting_bytes = self.marks.waiting_bytes.saturating_sub(size);
        self.marks.kept_bytes += size;
        let (marks, limits) = (self.marks, self.limits);
        let (first, dropped) = self.database.with(|connection| first_to_keep(connection, &marks, &limits))?;
        if first > marks.first {
            let sql = "DELETE FROM message WHERE position < ?1";
            self.database.with(|connection| connection.execute(sql, [to_sql(first)]))?;
            self.marks.first = first;
            self.marks.kept_bytes = marks.kept_bytes.saturating_sub(dropped);
        }
        Ok(())
    }
}

fn read_marks(connection: &Connection) -> rusqlite::Result<Marks> {
    let sql = "SELECT stream, base, first, echoed, last, waiting_bytes, kept_bytes FROM mark";
    connection.query_row(sql, [], Marks::read)
}

/// The size of the messages after `after` up to `to`, in bytes.
fn size_between(connection: &Connection, after: u64, to: u64) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(length(kind) + length(body) + ?3), 0) FROM message WHERE position > ?1 AND position <= ?2";
    connection
        .query_row(sql, params![to_sql(after), to_sql(to), to_sql(OVERHEAD)], |row| row.get(0))
        .map(from_sql)
}

/// The oldest echoed message that need be kept, and the size of those before it.
fn first_to_keep(
    connection: &Connection,
    marks: &Marks,
    limits: &OutboxLimits,
) -> rusqlite::Result<(u64, u64)> {
    let (mut first, mut dropped) = (marks.first, 0);
    let sql = "SELECT length(kind) + length(body) + ?2 FROM message WHERE position >= ?1 ORDER BY position";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params![to_sql(marks.first), to_sql(OVERHEAD)])?;
    while first <= marks.echoed
        && (marks.echoed + 1 - first > limits.keep_messages
            || marks.kept_bytes.saturating_sub(dropped) > limits.keep_bytes)
    {
        let Some(row) = rows.next()? else { break };
        dropped += from_sql(row.get(0)?);
        first += 1;
    }
    Ok((first, dropped))
}
