//! Messages from the server, kept until a local program has them.

use protocol_core::message::StreamId;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    config::InboxLimits,
    queue::{Database, OVERHEAD, QueueError, StoredMessage, from_sql, take_up_to, to_sql},
    state::StateDirectory,
};

#[cfg(test)]
mod tests;

const SCHEMA: &str = "
    CREATE TABLE message (
        position INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        number INTEGER NOT NULL,
        time INTEGER NOT NULL,
        kind TEXT NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    -- The highest number that came of each stream. A server draws a new stream at each start.
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY,
        highest INTEGER NOT NULL,
        -- The position of its newest message: the stream that was silent longest is forgotten first.
        newest INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE mark (
        last INTEGER NOT NULL,
        waiting INTEGER NOT NULL,
        waiting_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO mark VALUES (0, 0, 0);
";

/// How many streams are remembered.
const STREAMS: u64 = 64;

/// Where the inbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The newest message's position; 0 for none.
    pub last: u64,
    /// Messages that wait for a local program.
    pub waiting: u64,
    /// Their size, in bytes.
    pub waiting_bytes: u64,
}

/// What became of a message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is new, and is on disk with the next commit.
    Stored,
    /// It was here before: it is to be echoed again.
    Repeated,
    /// There is no room: it stays with the server, not echoed.
    Full,
}

/// The queue from the server.
#[derive(Debug)]
pub struct Inbox {
    database: Database,
    limits: InboxLimits,
    /// The marks as the open transaction has them; only meaningful while there is one.
    marks: Marks,
}

impl Inbox {
    /// Opens the inbox of an agent, and makes it if there is none.
    ///
    /// # Errors
    /// [`QueueError`] of the database.
    pub fn open(state: &StateDirectory, limits: InboxLimits) -> Result<Self, QueueError> {
        let database = Database::open(&state.file("inbox.db"), SCHEMA)?;
        Ok(Self { database, limits, marks: Marks::default() })
    }

    /// Takes a message from the server, unless it has come before. It is safe after the next commit.
    ///
    /// # Errors
    /// [`QueueError`] of the database.
    pub fn accept(&mut self, message: &StoredMessage) -> Result<Accepted, QueueError> {
        self.begin()?;
        let stream = to_sql(message.stream.0);
        let highest = self.database.with(|connection| {
            let sql = "SELECT highest FROM stream WHERE id = ?1";
            connection.query_row(sql, [stream], |row| row.get(0)).optional()
        })?;
        if highest.is_some_and(|highest| message.number <= from_sql(highest)) {
            return Ok(Accepted::Repeated);
        }
        let bytes = self.marks.waiting_bytes + message.size();
        if self.marks.waiting >= self.limits.max_messages || bytes > self.limits.max_bytes {
            return Ok(Accepted::Full);
        }
        let position = self.marks.last + 1;
        self.database.with(|connection| insert(connection, position, message))?;
        self.marks = Marks { last: position, waiting: self.marks.waiting + 1, waiting_bytes: bytes };
        Ok(Accepted::Stored)
    }

    /// The oldest messages after the position `after`, at least one if there is any, then up to
    /// `messages` and `bytes`.
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
            let sql = "SELECT position, stream, number, time, kind, body FROM message WHERE position > ?1 ORDER BY position";
            let mut statement = connection.prepare(sql)?;
            let found = statement.query_map([to_sql(after)], |row| {
                Ok(StoredMessage {
                    position: from_sql(row.get(0)?),
                    stream: StreamId(from_sql(row.get(1)?)),
                    number: from_sql(row.get(2)?),
                    time: from_sql(row.get(3)?),
                    kind: row.get(4)?,
                    body: row.get(5)?,
                })
            })?;
            take_up_to(found, messages, bytes)
        })
    }

    /// Drops all messages up to `position`: a local program has them.
    ///
    /// # Errors
    /// Of the database.
    pub fn taken(&mut self, position: u64) -> Result<(), QueueError> {
        self.begin()?;
        let position = to_sql(position);
        let (count, size) = self.database.with(|connection| {
            let sql = "SELECT count(*), coalesce(sum(length(kind) + length(body) + ?2), 0) FROM message WHERE position <= ?1";
            let sums = connection.query_row(sql, params![position, to_sql(OVERHEAD)], |row| {
                Ok((from_sql(row.get(0)?), from_sql(row.get(1)?)))
            })?;
            connection.execute("DELETE FROM message WHERE position <= ?1", [position])?;
            Ok(sums)
        })?;
        self.marks.waiting = self.marks.waiting.saturating_sub(count);
        self.marks.waiting_bytes = self.marks.waiting_bytes.saturating_sub(size);
        Ok(())
    }

    /// Where the inbox stands.
    ///
    /// # Errors
    /// Of the database.
    pub fn marks(&mut self) -> Result<Marks, QueueError> {
        if !self.database.is_writing() {
            self.marks = self.database.with(read_marks)?;
        }
        Ok(self.marks)
    }

    /// Makes all of this safe that was asked for since the last commit. Only then may anybody be told.
    ///
    /// # Errors
    /// Of the database: then nothing of it is safe, and [`Inbox::roll_back`] is due.
    pub fn commit(&mut self) -> Result<(), QueueError> {
        if !self.database.is_writing() {
            return Ok(());
        }
        let marks = self.marks;
        self.database.with(|connection| {
            let numbers = [marks.last, marks.waiting, marks.waiting_bytes].map(to_sql);
            connection.execute("UPDATE mark SET last = ?1, waiting = ?2, waiting_bytes = ?3", numbers)
        })?;
        self.database.commit()
    }

    /// Forgets what was asked for since the last commit.
    pub fn roll_back(&mut self) {
        self.database.roll_back();
    }

    fn begin(&mut self) -> Result<(), QueueError> {
        if self.database.begin()? {
            self.marks = self.database.with(read_marks)?;
        }
        Ok(())
    }
}

fn read_marks(connection: &Connection) -> rusqlite::Result<Marks> {
    connection.query_row("SELECT last, waiting, waiting_bytes FROM mark", [], |row| {
        Ok(Marks {
            last: from_sql(row.get(0)?),
            waiting: from_sql(row.get(1)?),
            waiting_bytes: from_sql(row.get(2)?),
        })
    })
}

fn insert(connection: &Connection, position: u64, message: &StoredMessage) -> rusqlite::Result<()> {
    let (position, stream, number) = (to_sql(position), to_sql(message.stream.0), to_sql(message.number));
    connection.execute(
        "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![position, stream, number, to_sql(message.time), message.kind, message.body],
    )?;
    let known = connection
        .execute("UPDATE stream SET highest = ?2, newest = ?3 WHERE id = ?1", [stream, number, position])?;
    if known == 0 {
        connection.execute("INSERT INTO stream VALUES (?1, ?2, ?3)", [stream, number, position])?;
        connection.execute(
            "DELETE FROM stream WHERE id NOT IN (SELECT id FROM stream ORDER BY newest DESC LIMIT ?1)",
            [to_sql(STREAMS)],
        )?;
    }
    Ok(())
}
