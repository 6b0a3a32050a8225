//! Changes to the database: what is asked of the writer, beside the archiving of messages, and the transaction as
//! that sees it.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    EventId, MessageId, Newest, RandomId, StoreError, UnixMillis, error::Reach, events, streams::Streams,
};
use crate::{event::NewEvent, id::Direction, metrics::METRICS};

/// A change other than the archiving of a message.
pub(super) trait Operation: Send {
    /// Makes the change. May be called again, in another transaction, if the first was undone.
    /// `false`: it failed by itself and is to be undone; an error: the whole transaction is.
    fn run(&mut self, change: &mut Change<'_>) -> Result<bool, StoreError>;
    /// The transaction is committed, or has failed for this reason.
    fn finish(self: Box<Self>, failure: Option<StoreError>);
}

/// An operation that answers with a value.
pub(super) struct Typed<T, F> {
    operation: F,
    result: Option<Result<T, StoreError>>,
    sender: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Typed<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Change<'_>) -> Result<T, StoreError> + Send + 'static,
{
    pub(super) fn new(operation: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { operation, result: None, sender }, receiver)
    }
}

impl<T, F> Operation for Typed<T, F>
where
    T: Send,
    F: FnMut(&mut Change<'_>) -> Result<T, StoreError> + Send,
{
    fn run(&mut self, change: &mut Change<'_>) -> Result<bool, StoreError> {
        match (self.operation)(change) {
            Err(error) if error.reach() != Reach::Operation => Err(error),
            result => {
                let keep = result.is_ok();
                self.result = Some(result);
                Ok(keep)
            }
        }
    }

    fn finish(self: Box<Self>, failure: Option<StoreError>) {
        let result = match failure {
            Some(error) => Err(error),
            None => self.result.unwrap_or(Err(StoreError::Closed)),
        };
        // Whoever asked may have gone; the change stands all the same.
        _ = self.sender.send(result);
    }
}

/// The transaction, as an operation sees it.
pub(crate) struct Change<'a> {
    /// The database, inside the transaction.
    pub(crate) connection: &'a Connection,
    /// The stream of messages to devices that are enqueued now.
    pub(super) down_stream: RandomId,
    /// When the transaction began.
    pub(crate) now: UnixMillis,
    /// Where the streams from devices stand.
    pub(super) streams: &'a mut Streams,
    /// The newest rows, its own included.
    newest: Newest,
    counted: Counted,
}

/// What is counted of a transaction, once it is committed.
#[derive(Default)]
struct Counted {
    events: Vec<&'static str>,
    /// Messages that devices have, and their bytes.
    delivered: (u64, u64),
}

impl<'a> Change<'a> {
    /// At the beginning of a transaction, when these were the newest rows.
    pub(super) fn new(
        connection: &'a Connection,
        down_stream: RandomId,
        streams: &'a mut Streams,
        newest: Newest,
    ) -> Self {
        let (now, counted) = (UnixMillis::now(), Counted::default());
        Self { connection, down_stream, now, streams, newest, counted }
    }

    /// The transaction is committed: gives the newest rows.
    pub(super) fn committed(self) -> Newest {
        for name in self.counted.events {
            METRICS.event(name);
        }
        let (messages, bytes) = self.counted.delivered;
        METRICS.messages(Direction::Out, messages, bytes);
        self.newest
    }

    /// Counts messages that a device has now.
    pub(super) fn delivered(&mut self, messages: u64, bytes: u64) {
        let (all, all_bytes) = self.counted.delivered;
        self.counted.delivered = (all.saturating_add(messages), all_bytes.saturating_add(bytes));
    }

    /// Records an event.
    pub(crate) fn event(&mut self, event: &NewEvent) -> Result<EventId, StoreError> {
        self.newest.event.0 = self.newest.event.0.saturating_add(1);
        events::insert(self.connection, self.newest.event, self.now, event)?;
        self.counted.events.push(event.kind.name());
        Ok(self.newest.event)
    }

    /// The id of a new message.
    pub(super) fn next_message(&mut self) -> MessageId {
        self.newest.message.0 = self.newest.message.0.saturating_add(1);
        self.newest.message
    }

    /// Runs one operation so that it alone is undone if it fails.
    pub(super) fn operate(&mut self, operation: &mut dyn Operation) -> Result<(), StoreError> {
        let (newest, events, delivered) = (self.newest, self.counted.events.len(), self.counted.delivered);
        self.connection.prepare_cached("SAVEPOINT operation")?.execute(())?;
        if !operation.run(self)? {
            self.connection.prepare_cached("ROLLBACK TO operation")?.execute(())?;
            self.newest = newest;
            self.counted.events.truncate(events);
            self.counted.delivered = delivered;
        }
        self.connection.prepare_cached("RELEASE operation")?.execute(())?;
        Ok(())
    }
}
