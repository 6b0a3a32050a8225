//! The way of a message from a device into the archive: the path that has to be fast.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use serde_json::json;

use super::{
    DeviceId, Kind, MessageId, RandomId, SessionId, StoreError, UnixMillis, change::Change, streams::Stream,
};
use crate::event::{EventKind, NewEvent};

/// How far behind the highest number of its stream a repeat is looked for. A device repeats what had not been
/// echoed, which is no more than its window: what is further behind comes from a storage that was turned back.
const LOOK_BACK: usize = 1_024;

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

/// The archiving of one batch, inside its transaction.
pub(super) struct Batch<'a> {
    insert: CachedStatement<'a>,
    /// Connections that met a conflict in this very batch: marked as such only when it is committed.
    conflicting: Vec<Arc<Reply>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(connection: &'a Connection) -> Result<Self, StoreError> {
        let insert = connection.prepare_cached(
            "INSERT INTO messages
                (id, device, direction, stream, number, previous, session, kind, time, received_at, body)
                VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        Ok(Self { insert, conflicting: Vec::new() })
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
        let stream = change.streams.find(change.connection, incoming.device, incoming.stream)?;
        let outcome = if incoming.number > stream.highest {
            let last = self.insert(change, incoming, stream.last)?;
            let stream = Stream { highest: incoming.number, last };
            change.streams.note(incoming.device, incoming.stream, stream);
            Outcome::New
        } else if is_repeat(change.connection, incoming, stream)? {
            Outcome::Repeat
        } else {
            // Another content, or a number that was passed over.
            record_conflict(change, incoming)?;
            self.conflicting.push(Arc::clone(&incoming.reply));
            Outcome::Conflict
        };
        Ok(Some(outcome))
    }

    fn insert(
        &mut self,
        change: &mut Change<'_>,
        incoming: &Incoming,
        previous: MessageId,
    ) -> Result<MessageId, StoreError> {
        let id = change.next_message();
        self.insert.execute(params![
            id,
            incoming.device,
            RandomId(incoming.stream),
            incoming.number.cast_signed(),
            previous,
            incoming.session,
            incoming.kind.as_str(),
            time(incoming),
            incoming.received_at,
            incoming.body.as_slice(),
        ])?;
        Ok(id)
    }
}

/// A peer's time as the database holds it: one that it can't hold is the latest that it can.
fn time(incoming: &Incoming) -> i64 {
    i64::try_from(incoming.time).unwrap_or(i64::MAX)
}

/// Whether the archive has this very message under this number.
fn is_repeat(connection: &Connection, incoming: &Incoming, stream: Stream) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT number, previous, kind, time, body FROM messages WHERE id = ? AND direction = 0",
    )?;
    let mut id = stream.last;
    for _ in 0..LOOK_BACK {
        let mut rows = statement.query([id])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let found = row.get::<_, i64>(0)?.cast_unsigned();
        if found <= incoming.number {
            return Ok(found == incoming.number
                && row.get_ref(2)?.as_str() == Ok(incoming.kind.as_str())
                && row.get::<_, i64>(3)? == time(incoming)
                && row.get_ref(4)?.as_blob() == Ok(incoming.body.as_slice()));
        }
        id = row.get(1)?;
    }
    Ok(false)
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
