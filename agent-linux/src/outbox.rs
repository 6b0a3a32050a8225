//! Messages to the server, kept on disk until they are echoed, and for a while longer.
//!
//! Each message has a position, which only grows. A stream is what positions are counted from: it begins
//! after the position `base`, where the one before it ends, and the message at position `p` has the number
//! `p - base` in it. So a new stream costs one row, however much waits; and which numbers the kept messages
//! have in older streams stays known, for a server that lost them.
//!
//! A message that is larger than the server takes is set aside: its position is negative, and it gets a new one
//! when the server takes it.

use protocol_core::message::StreamId;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    config::OutboxLimits,
    queue::{
        Database, MAX_FRAME, OVERHEAD, QueueError, StoredMessage, from_sql, max_body, take_up_to, to_sql,
    },
    state::StateDirectory,
};

mod welcome;

pub use welcome::Next;

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
    CREATE TABLE stream (
        base INTEGER PRIMARY KEY,
        id INTEGER NOT NULL
    ) STRICT;
    INSERT INTO stream VALUES (0, random());
    CREATE TABLE mark (
        first INTEGER NOT NULL,
        echoed INTEGER NOT NULL,
        last INTEGER NOT NULL,
        holes INTEGER NOT NULL,
        waiting_bytes INTEGER NOT NULL,
        kept_bytes INTEGER NOT NULL,
        max_frame INTEGER NOT NULL,
        aside_messages INTEGER NOT NULL,
        aside_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO mark VALUES (1, 0, 0, 0, 0, 0, 16384, 0, 0);
";

/// After how many echoed messages this is written down, if nothing else is written before.
const ECHOES_AT_ONCE: u64 = 256;

/// Where the outbox stands. Positions count from 1 up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The stream to be named to the server: that of the newest message that was echoed.
    pub stream: StreamId,
    /// The oldest message kept.
    pub first: u64,
    /// The newest message that was echoed; 0 for none. `first - 1 <= echoed <= last`.
    pub echoed: u64,
    /// The newest message; 0 for none.
    pub last: u64,
    /// How many positions after `echoed` have no message any longer.
    pub holes: u64,
    /// The size of the messages after `echoed`, in bytes; at most that, while an echo is not written down.
    pub waiting_bytes: u64,
    /// The size of the messages up to `echoed` that are kept, in bytes.
    pub kept_bytes: u64,
    /// The largest frame that the server takes, as it said last, header included, in bytes.
    pub max_frame: u16,
    /// Messages that are larger than that, and wait until the server takes them.
    pub aside_messages: u64,
    /// Their size, in bytes.
    pub aside_bytes: u64,
}

impl Marks {
    /// How many messages wait for their echo, without those that are too large for the server.
    pub const fn waiting(&self) -> u64 {
        self.last.saturating_sub(self.echoed).saturating_sub(self.holes)
    }

    /// All but the stream.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column| row.get(column).map(from_sql);
        Ok(Self {
            stream: StreamId::default(),
            first: number(0)?,
            echoed: number(1)?,
            last: number(2)?,
            holes: number(3)?,
            waiting_bytes: number(4)?,
            kept_bytes: number(5)?,
            max_frame: row.get(6)?,
            aside_messages: number(7)?,
            aside_bytes: number(8)?,
        })
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<usize> {
        let numbers = [
            self.first,
            self.echoed,
            self.last,
            self.holes,
            self.waiting_bytes,
            self.kept_bytes,
            u64::from(self.max_frame),
            self.aside_messages,
            self.aside_bytes,
        ];
        connection.execute(
            "UPDATE mark SET first = ?1, echoed = ?2, last = ?3, holes = ?4, waiting_bytes = ?5, kept_bytes = ?6,
                max_frame = ?7, aside_messages = ?8, aside_bytes = ?9",
            rusqlite::params_from_iter(numbers.map(to_sql)),
        )
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
        self.begin()?;
        let (source, source_number) = (to_sql(message.source.0.0), to_sql(message.source.1));
        if let Some((position, is_equal)) = self.known(message)? {
            return if is_equal || message.is_named { Ok(position) } else { Err(QueueError::Conflict) };
        }
        let (length, limit) = (message.body.len(), max_body(&message.kind, self.marks.max_frame));
        if length > limit {
            return Err(QueueError::TooLarge { length, limit });
        }
        let size = (message.kind.len() + length) as u64 + OVERHEAD;
        let messages = self.marks.waiting() + self.marks.aside_messages;
        let bytes = self.marks.waiting_bytes + self.marks.aside_bytes;
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
        // Over a hole, only what is written down is counted right.
        if self.marks.holes > 0 || self.echoed.saturating_sub(self.marks.echoed) >= ECHOES_AT_ONCE {
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
        self.database.with(|connection| {
            let sql = "SELECT position, time, kind, body, id, base FROM message
                JOIN stream ON base = (SELECT max(base) FROM stream WHERE base < position)
                WHERE position > ?1 ORDER BY position";
            let mut statement = connection.prepare(sql)?;
            let found = statement.query_map([to_sql(after)], |row| {
                let position = from_sql(row.get(0)?);
                Ok(StoredMessage {
                    position,
                    stream: StreamId(from_sql(row.get(4)?)),
                    number: position.saturating_sub(from_sql(row.get(5)?)),
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
        self.begin_stream()?;
        Ok(self.marks)
    }

    /// Forgets what an earlier server has echoed, and what it takes: from now on there is another one.
    ///
    /// # Errors
    /// Of the database.
    pub fn change_server(&mut self) -> Result<(), QueueError> {
        self.begin()?;
        self.write_echoes()?;
        self.keep_from(self.marks.echoed + 1)?;
        self.marks.kept_bytes = 0;
        self.database.with(|connection| connection.execute("DELETE FROM stream", []))?;
        self.begin_stream()?;
        self.fit(MAX_FRAME, 0)
    }

    fn begin_stream(&mut self) -> Result<(), QueueError> {
        let base = to_sql(self.marks.echoed);
        self.marks.stream = self.database.with(|connection| {
            connection.execute("DELETE FROM stream WHERE base >= ?1", [base])?;
            connection.execute("INSERT INTO stream VALUES (?1, random())", [base])?;
            named_stream(connection, from_sql(base))
        })?;
        Ok(())
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
        let mut marks = self.marks;
        if self.has_unwritten_echoes() {
            marks.echoed = self.echoed;
            marks.stream = self.database.with(|connection| named_stream(connection, marks.echoed))?;
        }
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
        self.database.with(|connection| marks.write(connection))?;
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
        let (count, size) = self.database.with(|connection| between(connection, from, to))?;
        self.marks.echoed = to;
        self.marks.holes = self.marks.holes.saturating_sub((to - from).saturating_sub(count));
        self.marks.waiting_bytes = self.marks.waiting_bytes.saturating_sub(size);
        self.marks.kept_bytes += size;
        let (marks, limits) = (self.marks, self.limits);
        let (first, dropped) = self.database.with(|connection| first_to_keep(connection, &marks, &limits))?;
        if first > marks.first {
            self.keep_from(first)?;
            self.marks.kept_bytes = marks.kept_bytes.saturating_sub(dropped);
        }
        Ok(())
    }

    /// Drops the messages before `first`, and the streams that then have none.
    fn keep_from(&mut self, first: u64) -> Result<(), QueueError> {
        self.marks.first = first;
        self.database.with(|connection| {
            let first = [to_sql(first)];
            connection.execute("DELETE FROM message WHERE position > 0 AND position < ?1", first)?;
            connection.execute(
                "DELETE FROM stream WHERE base < (SELECT max(base) FROM stream WHERE base < ?1)",
                first,
            )
        })?;
        Ok(())
    }
}

/// The stream of the newest message that was `echoed`; of the first that will be, if none is known.
fn named_stream(connection: &Connection, echoed: u64) -> rusqlite::Result<StreamId> {
    let sql = "SELECT coalesce((SELECT id FROM stream WHERE base < ?1 ORDER BY base DESC LIMIT 1),
        (SELECT id FROM stream ORDER BY base LIMIT 1))";
    connection.query_row(sql, [to_sql(echoed)], |row| row.get(0)).map(from_sql).map(StreamId)
}

fn read_marks(connection: &Connection) -> rusqlite::Result<Marks> {
    let sql = "SELECT first, echoed, last, holes, waiting_bytes, kept_bytes, max_frame, aside_messages, aside_bytes FROM mark";
    let marks = connection.query_row(sql, [], Marks::read)?;
    Ok(Marks { stream: named_stream(connection, marks.echoed)?, ..marks })
}

/// How many messages there are after `after` up to `to`, and their size in bytes.
fn between(connection: &Connection, after: u64, to: u64) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT count(*), coalesce(sum(length(kind) + length(body) + ?3), 0) FROM message
        WHERE position > ?1 AND position <= ?2";
    let values = params![to_sql(after), to_sql(to), to_sql(OVERHEAD)];
    connection.query_row(sql, values, |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))
}

/// The oldest echoed message that need be kept, and the size of those before it.
fn first_to_keep(
    connection: &Connection,
    marks: &Marks,
    limits: &OutboxLimits,
) -> rusqlite::Result<(u64, u64)> {
    let (mut first, mut dropped) = (marks.first, 0);
    let sql = "SELECT position, length(kind) + length(body) + ?2 FROM message WHERE position >= ?1 ORDER BY position";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params![to_sql(marks.first), to_sql(OVERHEAD)])?;
    while first <= marks.echoed
        && (marks.echoed + 1 - first > limits.keep_messages
            || marks.kept_bytes.saturating_sub(dropped) > limits.keep_bytes)
    {
        let Some(row) = rows.next()? else { break };
        let position = from_sql(row.get(0)?);
        if position > marks.echoed {
            first = marks.echoed + 1;
            break;
        }
        dropped += from_sql(row.get(1)?);
        first = position + 1;
    }
    Ok((first, dropped))
}
