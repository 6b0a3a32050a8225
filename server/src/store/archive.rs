//! The way of a message from a device into the archive: the path that has to be fast.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde_json::json;

use super::{DeviceId, Kind, RandomId, SessionId, StoreError, UnixMillis, writer::Change};
use crate::event::{EventKind, NewEvent};

/// `direction` of a message from a device.
pub(super) const UP: i64 = 0;
/// `direction` of a message to a device.
pub(super) const DOWN: i64 = 1;

/// How many streams the writer remembers the highest number of; beyond it, it looks them up again.
const REMEMBERED_STREAMS: usize = 65_536;

/// A message from a device, to be archived.
pub struct Incoming {
    /// Whose it is.
    pub device: DeviceId,
    /// The session it came in.
    pub session: SessionId,
    /// Its stream: the device's own; of a classic connection a random number drawn for it.
    pub stream: u64,
    /// Its number in the stream, from 1 up.
    pub number: u64,
    /// Its kind.
    pub kind: Kind,
    /// The device's time, in milliseconds since 1970; 0 if it does not know.
    pub time: u64,
    /// When it came.
    pub received_at: UnixMillis,
    /// What it says.
    pub body: Vec<u8>,
    /// Who is told what became of it.
    pub reply: Arc<Reply>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk. Echo it.
    New,
    /// It was on disk already. Echo it.
    Repeat,
    /// Another message is on disk under its number. Don't echo it; close the connection with reason Conflict.
    /// Nothing more of this connection is archived. The event is recorded.
    Conflict,
    /// The disk failed or is full. Don't echo it; close the connection, so that the device sends it again later.
    /// Nothing more of this connection is archived, or the numbers would have a gap.
    Failed,
}

/// A connection's mailbox, as the store sees it.
///
/// Called on the writer's thread, after the commit, in the order of the messages: it must only note
/// and wake, and never wait.
pub trait Archived: Send + Sync {
    /// This is what became of this message.
    fn archived(&self, stream: u64, number: u64, outcome: Outcome);
}

/// The way back to one connection; make one for each and share it among its messages.
pub struct Reply {
    /// After a conflict or a failure nothing more of the connection may be archived.
    stopped: AtomicBool,
    mailbox: Box<dyn Archived>,
}

impl Reply {
    /// For a new connection.
    pub fn new(mailbox: impl Archived + 'static) -> Arc<Self> {
        Arc::new(Self { stopped: AtomicBool::new(false), mailbox: Box::new(mailbox) })
    }

    /// Tells the connection. The first conflict or failure is the last that it hears.
    pub(super) fn tell(&self, stream: u64, number: u64, outcome: Outcome) {
        let stops = matches!(outcome, Outcome::Conflict | Outcome::Failed);
        let stopped = if stops { self.stopped.swap(true, Ordering::AcqRel) } else { self.is_stopped() };
        if !stopped {
            self.mailbox.archived(stream, number, outcome);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// What has been archived of one session since its counters were last written.
#[derive(Clone, Copy, Debug)]
struct Tally {
    device: DeviceId,
    messages: i64,
    bytes: i64,
    last: UnixMillis,
}

/// What the writer remembers between batches.
#[derive(Default)]
pub(super) struct Archive {
    /// The highest archived number by device and stream.
    highest: HashMap<(DeviceId, u64), i64>,
    /// Counters that are not written yet: written about once a second, not with each message.
    /// A crash loses none: see [`recount`].
    tallies: HashMap<SessionId, Tally>,
}

impl Archive {
    /// Forgets the numbers: the transaction that they are from was undone.
    pub(super) fn forget(&mut self) {
        self.highest.clear();
    }

    /// Whether there are counters to be written.
    pub(super) fn has_tallies(&self) -> bool {
        !self.tallies.is_empty()
    }

    /// Counts a message that has been committed.
    pub(super) fn count(&mut self, incoming: &Incoming) {
        let tally = self.tallies.entry(incoming.session).or_insert(Tally {
            device: incoming.device,
            messages: 0,
            bytes: 0,
            last: incoming.received_at,
        });
        tally.messages = tally.messages.saturating_add(1);
        tally.bytes = tally.bytes.saturating_add(length(&incoming.body));
        tally.last = tally.last.max(incoming.received_at);
    }

    /// Writes the counters, and up to which message they count.
    pub(super) fn write_tallies(&self, change: &mut Change<'_>) -> Result<(), StoreError> {
        for (session, tally) in &self.tallies {
            add_tally(change.connection, *session, tally)?;
        }
        change
            .connection
            .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('counted', ?)")?
            .execute([change.last_message_before()])?;
        Ok(())
    }

    /// The counters have been committed.
    pub(super) fn tallies_written(&mut self) {
        self.tallies.clear();
    }
}

fn length(body: &[u8]) -> i64 {
    i64::try_from(body.len()).unwrap_or(i64::MAX)
}

fn add_tally(connection: &Connection, session: SessionId, tally: &Tally) -> Result<(), StoreError> {
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

/// Counts what was archived after the counters were last written, when the server died in between.
pub(super) fn recount(connection: &Connection) -> Result<(), StoreError> {
    let counted: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE key = 'counted'", (), |row| row.get(0))
        .optional()?;
    let mut statement = connection.prepare(
        "SELECT session, device, count(*), sum(length(body)), max(received_at) FROM messages
            WHERE id > ? AND direction = 0 AND session IS NOT NULL GROUP BY session, device",
    )?;
    let mut rows = statement.query([counted.unwrap_or(0)])?;
    while let Some(row) = rows.next()? {
        let tally =
            Tally { device: row.get(1)?, messages: row.get(2)?, bytes: row.get(3)?, last: row.get(4)? };
        add_tally(connection, row.get(0)?, &tally)?;
    }
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) SELECT 'counted', coalesce(max(id), 0) FROM messages",
        (),
    )?;
    Ok(())
}

/// The archiving of one batch, inside its transaction.
pub(super) struct Batch<'a> {
    archive: &'a mut Archive,
    insert: CachedStatement<'a>,
    /// Connections that met a conflict in this very batch: marked as such only when it is committed.
    conflicting: Vec<Arc<Reply>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection, archive: &'a mut Archive) -> Result<Self, StoreError> {
        if archive.highest.len() > REMEMBERED_STREAMS {
            archive.highest.clear();
        }
        let insert = connection.prepare_cached(
            "INSERT INTO messages (id, device, direction, stream, number, session, kind, time, received_at, body)
                VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        Ok(Self { archive, insert, conflicting: Vec::new() })
    }

    /// Puts one message into the transaction. `None`: its connection was stopped before, there is nothing to tell.
    pub(super) fn add(
        &mut self,
        change: &mut Change<'_>,
        incoming: &Incoming,
    ) -> Result<Option<Outcome>, StoreError> {
        let stopped = incoming.reply.is_stopped()
            || self.conflicting.iter().any(|reply| Arc::ptr_eq(reply, &incoming.reply));
        if stopped {
            return Ok(None);
        }
        let key = (incoming.device, incoming.stream);
        let highest = match self.archive.highest.get(&key) {
            Some(highest) => *highest,
            None => highest_number(change.connection, incoming.device, UP, RandomId(incoming.stream))?,
        };
        let outcome = match i64::try_from(incoming.number) {
            Ok(number) if number > highest => {
                self.insert(change, incoming, number)?;
                self.archive.highest.insert(key, number);
                Outcome::New
            }
            Ok(number) if is_repeat(change.connection, incoming, number)? => Outcome::Repeat,
            // Another content; or a number that was passed over, or that no store can hold.
            _ => {
                record_conflict(change, incoming)?;
                self.conflicting.push(Arc::clone(&incoming.reply));
                Outcome::Conflict
            }
        };
        Ok(Some(outcome))
    }

    fn insert(
        &mut self,
        change: &mut Change<'_>,
        incoming: &Incoming,
        number: i64,
    ) -> Result<(), StoreError> {
        self.insert.execute(params![
            change.next_message(),
            incoming.device,
            RandomId(incoming.stream),
            number,
            incoming.session,
            incoming.kind.as_str(),
            time(incoming),
            incoming.received_at,
            incoming.body.as_slice(),
        ])?;
        Ok(())
    }
}

/// A peer's time as the database holds it: one that it can't hold is the latest that it can.
fn time(incoming: &Incoming) -> i64 {
    i64::try_from(incoming.time).unwrap_or(i64::MAX)
}

/// The highest number of a stream; 0 if it has none.
pub(super) fn highest_number(
    connection: &Connection,
    device: DeviceId,
    direction: i64,
    stream: RandomId,
) -> Result<i64, StoreError> {
    let highest = connection
        .prepare_cached(
            "SELECT max(
                coalesce((SELECT max(number) FROM messages WHERE device = ?1 AND direction = ?2 AND stream = ?3), 0),
                coalesce((SELECT highest FROM streams WHERE device = ?1 AND direction = ?2 AND stream = ?3), 0))",
        )?
        .query_row(params![device, direction, stream], |row| row.get(0))?;
    Ok(highest)
}

fn is_repeat(connection: &Connection, incoming: &Incoming, number: i64) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, time, body FROM messages WHERE device = ? AND direction = 0 AND stream = ? AND number = ?",
    )?;
    let mut rows = statement.query(params![incoming.device, RandomId(incoming.stream), number])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    Ok(row.get_ref(0)?.as_str() == Ok(incoming.kind.as_str())
        && row.get::<_, i64>(1)? == time(incoming)
        && row.get_ref(2)?.as_blob() == Ok(incoming.body.as_slice()))
}

fn record_conflict(change: &mut Change<'_>, incoming: &Incoming) -> Result<(), StoreError> {
    let mut event = NewEvent::new(EventKind::MessageConflict)
        .device(incoming.device)
        .session(incoming.session)
        .detail("stream", RandomId(incoming.stream).to_string())
        .detail("number", json!(incoming.number));
    event.address = session_address(change.connection, incoming.session)?;
    change.event(&event)?;
    Ok(())
}

fn session_address(
    connection: &Connection,
    session: SessionId,
) -> Result<Option<std::net::IpAddr>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT address FROM sessions WHERE id = ?")?
        .query_row([session], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| text.parse().ok()))
}
