//! What the store keeps for the log files: how far they are written, and how long each of them is.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    EventFilter, EventId, MessageFilter, MessageId, MessageRow, Newest, Store, StoreError, connect, events,
    messages,
};
use crate::event::EventRow;

/// What is kept of a log file: up to where it was written and synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFileRow {
    /// The number that the file gets when it is put aside.
    pub(crate) generation: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// What is not yet in the log files: a page of each kind, oldest first.
#[derive(Debug)]
pub(crate) struct Unlogged {
    pub(crate) messages: Vec<MessageRow>,
    pub(crate) events: Vec<EventRow>,
    /// The newest rows when these were read.
    pub(crate) newest: Newest,
}

// The log writer has a thread of its own, which may wait.
impl Store {
    /// The last message and event that the log files hold.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub(crate) fn logged(&self) -> Result<Newest, StoreError> {
        self.read_here(cursor)
    }

    /// At most `limit` messages and as many events behind those.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub(crate) fn unlogged(&self, behind: Newest, limit: usize) -> Result<Unlogged, StoreError> {
        self.read_here(|connection| {
            let newest = connect::newest(connection)?;
            let filter = MessageFilter { after: behind.message, limit, ..MessageFilter::default() };
            let messages = messages::page(connection, &filter)?;
            let filter = EventFilter { after: behind.event, limit, ..EventFilter::default() };
            let events = events::page(connection, &filter)?;
            Ok(Unlogged { messages, events, newest })
        })
    }

    /// What is kept of these log files.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub(crate) fn log_files(
        &self,
        names: Vec<String>,
    ) -> Result<Vec<(String, Option<LogFileRow>)>, StoreError> {
        self.read_here(|connection| rows(connection, names))
    }

    /// Keeps this of these log files; returns when it is on disk.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub(crate) fn keep_log_files(&self, files: Vec<(String, LogFileRow)>) -> Result<(), StoreError> {
        self.write_here(move |change| keep_rows(change.connection, &files))
    }

    /// Keeps this of these log files, and that they hold all up to `logged`; returns when both are on disk.
    ///
    /// # Errors
    ///
    /// The store can't be written, or is closed.
    pub(crate) fn keep_logged(
        &self,
        files: Vec<(String, LogFileRow)>,
        logged: Newest,
    ) -> Result<(), StoreError> {
        self.write_here(move |change| {
            keep_rows(change.connection, &files)?;
            keep_cursor(change.connection, logged)
        })
    }
}

fn cursor(connection: &Connection) -> Result<Newest, StoreError> {
    let value = |key: &str| -> Result<i64, StoreError> {
        let value = connection
            .prepare_cached("SELECT value FROM meta WHERE key = ?")?
            .query_row([key], |row| row.get(0))
            .optional()?;
        Ok(value.unwrap_or(0))
    };
    Ok(Newest { message: MessageId(value("logged-message")?), event: EventId(value("logged-event")?) })
}

fn keep_cursor(connection: &Connection, logged: Newest) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)")?;
    statement.execute(params!["logged-message", logged.message])?;
    statement.execute(params!["logged-event", logged.event])?;
    Ok(())
}

fn rows(
    connection: &Connection,
    names: Vec<String>,
) -> Result<Vec<(String, Option<LogFileRow>)>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT generation, length FROM log_files WHERE name = ?")?;
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let row = statement
            .query_row([&name], |row| Ok(LogFileRow { generation: row.get(0)?, length: row.get(1)? }))
            .optional()?;
        rows.push((name, row));
    }
    Ok(rows)
}

fn keep_rows(connection: &Connection, files: &[(String, LogFileRow)]) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare_cached("INSERT OR REPLACE INTO log_files (name, generation, length) VALUES (?, ?, ?)")?;
    for (name, row) in files {
        statement.execute(params![name, row.generation, row.length])?;
    }
    Ok(())
}
