//! What is kept: devices, sessions, messages, events and tokens, on disk.
//!
//! [`Store`] is all that the rest of the server sees of it. One thread writes: it takes whatever waits and commits
//! it as one transaction, so that a thousand messages cost one sync (`writer.rs`). Every method that changes
//! something returns after the commit, and [`Store::archive`] answers after it. Reading happens beside the writer.
//!
//! Readers go on after the last id they saw and are woken by [`Store::newest`]: ids are given in the order of
//! commits, so nothing is missed and nothing comes twice, however slow a reader is.

mod access_tokens;
mod accounts;
mod archive;
mod change;
mod checkpoint;
mod columns;
mod connect;
mod devices;
mod error;
mod events;
mod host_keys;
mod logged;
mod logins;
mod messages;
mod operators;
mod part;
mod provisioned;
mod queue;
mod reader;
mod recordings;
mod refusals;
mod reserve;
mod roles;
mod schema;
mod sessions;
mod settle;
mod streams;
mod tasks;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;
mod told_keys;
mod touched;
mod wired;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{Semaphore, watch};
use tracing::warn;

pub use crate::id::{
    DeviceId, DeviceName, Direction, EventId, InvalidKind, InvalidName, Kind, MessageId, OperatorId,
    RandomId, RecordingId, SessionId, TaskId, TokenId, UnixMillis,
};
pub use access_tokens::{
    AccessTokenHolder, AccessTokenRefusal, AccessTokenRow, MOST_ACCESS_TOKENS, NewAccessToken,
};
pub use accounts::FirstLogin;
pub use archive::{Archived, Incoming, Outcome, Reply};
pub use devices::{Counts, DeviceKind, DeviceRef, DeviceRow, Facts, KeyStatus, Revoked};
pub use error::StoreError;
pub use events::EventFilter;
pub use logins::{Candidate, IDLE_LIMIT, LoginRow, NewLogin, PLAIN_IDLE_LIMIT, SecretHash, TIME_LIMIT};
pub use messages::{MessageFilter, MessageRow, NewMessage, Waiting};
pub use operators::{OperatorEnrolment, OperatorKey, OperatorRef, OperatorRow, RevokedOperator};
pub use provisioned::Provisioned;
pub use recordings::{NewRecording, RecordingFilter, RecordingRow, RecordingSize, RecordingState};
pub use roles::{parse_role, rank};
pub use sessions::{EndReason, LastSession, NewSession, SessionEnd, SessionFilter, SessionRow};
pub use tasks::{NewTask, TaskChange, TaskFilter, TaskRow, TaskState};
pub use tokens::{Enrolled, Enrolment, EnrolmentRefusal, NewToken};
pub use told_keys::ToldKeys;
pub use wired::{EnrolledWired, WiredStatus};

// For the logs, which read on their own thread.
pub(crate) use logged::{LogFileRow, Unlogged};

use change::{Change, Typed};
use queue::{Limits, Queue, Refused};
use reader::Readers;
use writer::{Job, Writer};

use crate::lock::lock;

/// How much may wait for the writer: about a second's work. Beyond it [`Store::archive`] waits.
const LIMITS: Limits = Limits { items: 16_384, bytes: 32 * 1024 * 1024 };

/// The newest rows that have been committed; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The newest message.
    pub message: MessageId,
    /// The newest event.
    pub event: EventId,
}

/// The open store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    id: RandomId,
    path: PathBuf,
    queue: Arc<Queue<Job>>,
    readers: Arc<Readers>,
    newest: watch::Receiver<Newest>,
    /// Its sender lives as long as the writer.
    writing: watch::Receiver<()>,
    refusals: refusals::Refusals,
    /// One note at a time of when an operator was last seen.
    seen_notes: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Keeps other servers out as long as the store is open.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Opens the store in this directory, and makes what there is not yet. Sessions that were open when the
    /// last server died are closed. Blocks: it may have to bring an old database up to date.
    ///
    /// # Errors
    ///
    /// Another server uses the directory, the database is empty, damaged or of a newer version, or the disk fails.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let lock = connect::lock_directory(directory)?;
        let path = connect::database(directory);
        let reserve = reserve::Reserve::new(directory.join("reserve"));
        let checkpoints = checkpoint::Checkpoints::start(&path)?;
        let mut opened = open_database(&path);
        if opened.as_ref().is_err_and(|error| error.reach() == error::Reach::Full) {
            warn!(database = %path.display(), "no space is left: the reserve is used to start");
            reserve.release();
            opened = open_database(&path);
        }
        let mut connection = opened.map_err(|error| error.opening(&path))?;
        checkpoints.watch(&mut connection)?;
        let id =
            connection.query_row("SELECT value FROM meta WHERE key = 'store-id'", (), |row| row.get(0))?;
        let found = connect::newest(&connection)?;
        let (newest_sender, newest) = watch::channel(found);
        let (writing_sender, writing) = watch::channel(());
        let queue = Arc::new(Queue::new(LIMITS));
        let writer = Writer {
            path: path.clone(),
            queue: Arc::clone(&queue),
            connection: Some(connection),
            newest: newest_sender,
            _writing: writing_sender,
            down_stream: RandomId::draw().map_err(|error| StoreError::Unavailable(error.to_string()))?,
            reserve,
            checkpoints,
            state: writer::State::new(found.message),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::File { path: path.clone(), source })?;
        let readers = Arc::new(Readers::new(&path));
        let (writer, lock) = (Mutex::new(Some(writer)), Mutex::new(Some(lock)));
        let refusals = refusals::Refusals::default();
        let seen_notes = Arc::new(Semaphore::new(1));
        let shared = Shared { id, path, queue, readers, newest, writing, refusals, seen_notes, writer, lock };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The random number that this database was given when it was made; a copy or a backup has the same.
    pub fn id(&self) -> u64 {
        self.shared.id.0
    }

    /// Hands a message to the writer. What becomes of it is told to its [`Reply`], once it is committed.
    ///
    /// Where as much waits as may, this waits for room: the caller reads no more from its peer meanwhile, and must
    /// read what has come before it judges whether the peer lives. The session's window keeps this rare.
    ///
    /// # Errors
    ///
    /// The store is closed.
    pub async fn archive(&self, incoming: Incoming) -> Result<(), StoreError> {
        let bytes = size(&incoming);
        self.shared.queue.push(Job::Archive(incoming), bytes).await.map_err(|_| StoreError::Closed)
    }

    /// As [`Store::archive`], without waiting: `Some` is the message back, as there is no room now.
    ///
    /// # Errors
    ///
    /// The store is closed.
    pub fn try_archive(&self, incoming: Incoming) -> Result<Option<Incoming>, StoreError> {
        let bytes = size(&incoming);
        match self.shared.queue.try_push(Job::Archive(incoming), bytes) {
            Ok(()) => Ok(None),
            Err(Refused::Full(Job::Archive(incoming))) => Ok(Some(incoming)),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// What waits for the writer: jobs, and bytes of messages.
    pub fn backlog(&self) -> (usize, usize) {
        self.shared.queue.waiting()
    }

    /// How large the database is, with its log, in bytes.
    pub fn size(&self) -> u64 {
        let files = ["", "-wal"].map(|end| {
            let mut name = self.shared.path.clone().into_os_string();
            name.push(end);
            std::fs::metadata(name).map_or(0, |file| file.len())
        });
        files.iter().sum()
    }

    /// The newest committed rows, as they change: wake up by it, then read what is new by id. Its sender is gone
    /// when the store is closed.
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.shared.newest.clone()
    }

    /// Waits until the store writes no more: it was closed, or its thread has died, which the server can't outlive.
    pub async fn ended(&self) {
        let mut writing = self.shared.writing.clone();
        // Nothing is ever sent: the change is that the sender goes.
        while writing.changed().await.is_ok() {}
    }

    /// Commits what waits and closes the database; later calls on any clone fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        let store = self.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close_here()).await {
            warn!(%error, "the store was not closed in order");
        }
    }

    /// As [`Store::close`], on a thread where it may block.
    pub fn close_here(&self) {
        self.shared.close();
    }

    /// Makes a change, in a transaction shared with others; returns when it is committed.
    /// The closure may run twice, if the first transaction fails.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Change<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (operation, answer) = Typed::new(operation);
        self.shared
            .queue
            .push(Job::Operation(Box::new(operation)), 0)
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Store::write`], on a thread where it may block. Does not wait for room: use it from few threads.
    pub(crate) fn write_here<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Change<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (operation, answer) = Typed::new(operation);
        let mut job = Job::Operation(Box::new(operation));
        loop {
            job = match self.shared.queue.try_push(job, 0) {
                Ok(()) => return answer.blocking_recv().unwrap_or(Err(StoreError::Closed)),
                Err(Refused::Closed(_)) => return Err(StoreError::Closed),
                Err(Refused::Full(job)) => job,
            };
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Reads, in one snapshot, on a thread where it may block.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        Arc::clone(&self.shared.readers).read(query).await
    }

    /// Reads, in one snapshot, on this thread.
    pub(crate) fn read_here<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.shared.readers.read_here(query)
    }
}

impl Shared {
    fn close(&self) {
        self.queue.close();
        self.readers.close();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            warn!("the store's writer had ended by a panic");
        }
        lock(&self.lock).take();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a message counts for in the queue's bound.
fn size(incoming: &Incoming) -> usize {
    incoming.body.len().saturating_add(size_of::<Incoming>())
}

/// The writer's connection to a database that is up to date; makes it if there is none.
fn open_database(path: &Path) -> Result<Connection, StoreError> {
    connect::begin(path)?;
    let mut connection = connect::open_writer(path)?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Brings a database up to date, and closes what the last server left open.
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    schema::migrate(connection)?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    settle::settle(&transaction, connect::newest(&transaction)?.message)?;
    sessions::close_stale(&transaction)?;
    transaction.commit()?;
    Ok(())
}
