//! What the outbox and the inbox share: the message as it is kept, the database under it, and what
//! can go wrong.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use protocol_core::message::{Kind, Message, StreamId};
use rusqlite::{Connection, TransactionBehavior, config::DbConfig};

/// What a message costs of a queue's bytes beside its kind and body.
pub const OVERHEAD: u64 = 64;

/// The largest frame that the agent sends and takes, header included, in bytes.
pub const MAX_FRAME: u16 = 16 * 1024;

/// What a `MESG` frame holds at most beside kind and body, in bytes.
pub(crate) const FRAME_OVERHEAD: usize = Message::OVERHEAD;

/// The largest body, in bytes, of a message of this kind to a peer that takes frames of `max_frame` bytes.
pub fn max_body(kind: &str, max_frame: u16) -> usize {
    usize::from(max_frame).saturating_sub(FRAME_OVERHEAD + kind.len())
}

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its place in this agent's queue, from 1 up.
    pub position: u64,
    /// The stream it is sent in.
    pub stream: StreamId,
    /// Its number in the stream.
    pub number: u64,
    /// The sender's clock, in milliseconds since 1970; 0 for none.
    pub time: u64,
    /// What the body is.
    pub kind: String,
    /// The body.
    pub body: Vec<u8>,
}

impl StoredMessage {
    /// Keeps a message that came over the wire.
    pub fn keep(message: &Message<'_>) -> Self {
        Self {
            position: 0,
            stream: message.stream,
            number: message.number,
            time: message.time,
            kind: message.kind.as_str().to_owned(),
            body: message.body.to_vec(),
        }
    }

    /// The message as it goes over the wire.
    pub fn wire(&self) -> Message<'_> {
        Message {
            stream: self.stream,
            number: self.number,
            time: self.time,
            kind: Kind::new(&self.kind).unwrap_or(Kind::TEXT),
            body: &self.body,
        }
    }

    /// What the message counts in its queue, in bytes.
    pub fn size(&self) -> u64 {
        (self.kind.len() + self.body.len()) as u64 + OVERHEAD
    }
}

/// Why a queue can't do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue holds as much as it may.
    #[error(
        "the outbox is full ({messages} messages, {bytes} bytes wait for the server); send again when the server has taken some, or raise [outbox] max_bytes or max_messages"
    )]
    Full {
        /// Messages that wait.
        messages: u64,
        /// Bytes that wait.
        bytes: u64,
    },
    /// Another message has the same stream and number.
    #[error(
        "another message of this stream and number is kept already; draw a new stream at random for each queue, and count its numbers up"
    )]
    Conflict,
    /// The message does not fit a frame.
    #[error(
        "the message's body has {length} bytes or more, and {limit} are the most that may go to this server; send it in parts"
    )]
    TooLarge {
        /// The body's length, in bytes.
        length: usize,
        /// The largest body, in bytes.
        limit: usize,
    },
    /// The database was made by a newer version.
    #[error("{} was made by a newer agent (version {found}, this one knows {known}); update this one", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version of what it holds.
        found: i64,
        /// The newest version that this agent knows.
        known: i64,
    },
    /// The database failed.
    #[error("{}: {what}; see to the disk (full, read-only or worn out?) and its rights, then try again", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What failed.
        what: String,
    },
    /// The thread that keeps the queues has ended.
    #[error("the agent is stopping; send again when it runs")]
    Stopping,
}

/// How long to wait for other processes that write: many may, and disks are slow.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The version of what the databases hold.
const SCHEMA_VERSION: i64 = 1;

/// A database of one queue, and the transaction in which all that is asked for at once is gathered.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    schema: &'static str,
    /// A transaction is open.
    writing: bool,
    /// A statement failed: what else the transaction holds must not stand.
    failed: bool,
    /// Transactions committed since the start, each of them one sync.
    pub(crate) commits: u64,
}

impl Database {
    /// Opens the database, and makes it by `schema` if it is new.
    pub(crate) fn open(path: &Path, schema: &'static str) -> Result<Self, QueueError> {
        let connection = connect(path, schema)?;
        Ok(Self { connection, path: path.to_owned(), schema, writing: false, failed: false, commits: 0 })
    }

    /// Runs one reading or writing step on the connection.
    pub(crate) fn with<T>(
        &mut self,
        step: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueueError> {
        step(&self.connection).map_err(|error| {
            self.failed |= self.writing;
            database_error(&self.path, error)
        })
    }

    /// Sees to it that a transaction is open. Gives whether it was opened just now.
    pub(crate) fn begin(&mut self) -> Result<bool, QueueError> {
        if self.failed {
            let what = "the transaction has failed".to_owned();
            return Err(QueueError::Database { path: self.path.clone(), what });
        }
        if self.writing {
            return Ok(false);
        }
        self.with(|connection| connection.execute_batch("BEGIN IMMEDIATE"))?;
        self.writing = true;
        Ok(true)
    }

    /// Whether a transaction is open.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    /// Commits and syncs what was written, if anything was.
    pub(crate) fn commit(&mut self) -> Result<(), QueueError> {
        if !self.writing {
            return Ok(());
        }
        self.begin()?;
        self.with(|connection| connection.execute_batch("COMMIT"))?;
        self.writing = false;
        self.commits += 1;
        Ok(())
    }

    /// Forgets what was written, and opens the database anew: after an error of the disk nothing that
    /// this connection believes is to be trusted.
    pub(crate) fn roll_back(&mut self) {
        if !self.writing {
            return;
        }
        let _ = self.connection.execute_batch("ROLLBACK");
        self.writing = false;
        self.failed = false;
        match connect(&self.path, self.schema) {
            Ok(connection) => self.connection = connection,
            Err(error) => {
                tracing::error!(%error, "the queue can't be opened again; going on with it as it is")
            }
        }
    }
}

fn connect(path: &Path, schema: &'static str) -> Result<Connection, QueueError> {
    let (found, connection) = prepare(path, schema).map_err(|error| database_error(path, error))?;
    if found > SCHEMA_VERSION {
        return Err(QueueError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(connection)
}

fn prepare(path: &Path, schema: &str) -> rusqlite::Result<(i64, Connection)> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(TIMEOUT)?;
    // Else each `send` without an agent would pay for one, while all others wait.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let version =
        |connection: &Connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    if version(&connection)? > SCHEMA_VERSION {
        return Ok((version(&connection)?, connection));
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // `synchronous = FULL`: what is committed stays, also if the power goes. The rest keeps the agent small.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -128; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 1048576;",
    )?;
    if version(&connection)? == 0 {
        // Another process may make it at the same time.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? == 0 {
            transaction.execute_batch(schema)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        transaction.commit()?;
    }
    Ok((SCHEMA_VERSION, connection))
}

fn database_error(path: &Path, error: rusqlite::Error) -> QueueError {
    QueueError::Database { path: path.to_owned(), what: error.to_string() }
}

/// The first of what was `found`: at least one if there is any, then up to `messages` and `bytes`.
pub(crate) fn take_up_to(
    found: impl Iterator<Item = rusqlite::Result<StoredMessage>>,
    messages: usize,
    bytes: u64,
) -> rusqlite::Result<Vec<StoredMessage>> {
    let (mut taken, mut size) = (Vec::new(), 0);
    for message in found.take(messages.max(1)) {
        let message = message?;
        size += message.size();
        if !taken.is_empty() && size > bytes {
            break;
        }
        taken.push(message);
    }
    Ok(taken)
}

/// Any 64 bits as SQLite keeps them.
pub(crate) const fn to_sql(number: u64) -> i64 {
    number.cast_signed()
}

/// The 64 bits that SQLite kept.
pub(crate) const fn from_sql(number: i64) -> u64 {
    number.cast_unsigned()
}
