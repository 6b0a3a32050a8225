//! The one thread that writes: it takes all that waits, commits it as one transaction, and then answers.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, info};

use super::{
    MessageId, Newest, RandomId, StoreError,
    archive::{Batch, Incoming, Outcome},
    change::{Change, Operation},
    checkpoint::Checkpoints,
    connect,
    error::Reach,
    queue::{Queue, Taken},
    reserve::Reserve,
    settle::settle,
    streams::Streams,
};
use crate::{
    event::{EventKind, NewEvent},
    id::Direction,
    metrics::METRICS,
};

/// How long after a message it is settled, and how many may wait for it: each page of each table that is changed by
/// that is changed once for all of them.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
const MOST_UNSETTLED: i64 = 8_192;
/// How long after a failure the database is opened again, and how often it is looked for space.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// What waits for the writer.
pub(super) enum Job {
    Archive(Incoming),
    Operation(Box<dyn Operation>),
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) queue: Arc<Queue<Job>>,
    /// None after a failure, until it could be opened again.
    pub(super) connection: Option<Connection>,
    pub(super) newest: watch::Sender<Newest>,
    pub(super) _writing: watch::Sender<()>,
    pub(super) down_stream: RandomId,
    pub(super) reserve: Reserve,
    pub(super) checkpoints: Checkpoints,
    pub(super) state: State,
}

/// What the writer remembers between batches.
#[derive(Default)]
pub(super) struct State {
    streams: Streams,
    /// What became of each job of the batch at hand.
    outcomes: Vec<Option<Outcome>>,
    /// The message up to which all were settled when this was last done.
    settled: MessageId,
    /// When the others are to be settled; None while there are none.
    settle_due: Option<Instant>,
    /// Events of the store's own, for the next transaction.
    notes: Vec<NewEvent>,
    /// No space is left: messages are refused until there is some.
    full: bool,
    /// When to look again, after a failure.
    retry_at: Option<Instant>,
}

impl State {
    /// At the start, when all messages up to this one are settled.
    pub(super) fn new(settled: MessageId) -> Self {
        Self { settled, ..Self::default() }
    }
}

impl Writer {
    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::new();
        loop {
            let deadline = [self.state.settle_due, self.state.retry_at].into_iter().flatten().min();
            match self.queue.take(&mut jobs, deadline) {
                Taken::Closed => break,
                Taken::Items | Taken::Nothing => self.turn(&mut jobs),
            }
            jobs.clear();
        }
        if self.state.settle_due.is_some() || !self.state.notes.is_empty() {
            self.state.settle_due = Some(Instant::now());
            self.turn(&mut jobs);
        }
    }

    /// One batch: committed and answered, or failed and answered.
    fn turn(&mut self, jobs: &mut Vec<Job>) {
        if self.state.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.state.retry_at = None;
            self.look_again();
        }
        if self.connection.is_none() {
            return fail(jobs, || StoreError::Unavailable("it is being opened again".to_owned()));
        }
        if self.state.full {
            refuse_messages(jobs);
        }
        match self.attempt(jobs) {
            Ok(()) => {}
            Err(error) if error.reach() == Reach::Full => self.out_of_space(jobs),
            Err(error) => self.reopen_and_retry(jobs, &error),
        }
        if let Some(connection) = &self.connection {
            self.checkpoints.after_commit(connection);
        }
    }

    /// Commits the batch and answers it; on an error nothing of it is written, and nobody has been answered.
    fn attempt(&mut self, jobs: &mut Vec<Job>) -> Result<(), StoreError> {
        let Some(connection) = &self.connection else {
            return Err(StoreError::Unavailable("it is not open".to_owned()));
        };
        let settle_due =
            self.state.settle_due.is_some_and(|due| due <= Instant::now()) || self.state.streams.need_table();
        if jobs.is_empty() && !settle_due && self.state.notes.is_empty() {
            return Ok(());
        }
        let before = *self.newest.borrow();
        let (started, count) = (Instant::now(), jobs.len());
        match transact(connection, before, self.down_stream, jobs, &mut self.state, settle_due) {
            Ok(newest) => {
                METRICS.committed(count, started.elapsed());
                self.committed(jobs, newest, settle_due.then_some(before.message));
                Ok(())
            }
            Err(error) => {
                self.state.streams.forget();
                if !connection.is_autocommit()
                    && let Err(error) = connection.execute_batch("ROLLBACK")
                {
                    error!(%error, "a failed transaction could not be rolled back");
                }
                Err(error)
            }
        }
    }

    fn committed(&mut self, jobs: &mut Vec<Job>, newest: Newest, settled: Option<MessageId>) {
        // First, so that whoever is answered finds it.
        self.newest.send_if_modified(|current| std::mem::replace(current, newest) != newest);
        let state = &mut self.state;
        state.notes.clear();
        let (mut messages, mut bytes) = (0_u64, 0_u64);
        for (job, outcome) in jobs.drain(..).zip(state.outcomes.drain(..)) {
            match (job, outcome) {
                (Job::Archive(incoming), Some(outcome)) => {
                    if outcome == Outcome::New {
                        messages = messages.saturating_add(1);
                        bytes = bytes.saturating_add(incoming.body.len() as u64);
                    }
                    incoming.reply.tell(incoming.stream, incoming.number, outcome);
                }
                (Job::Archive(_), None) => {}
                (Job::Operation(operation), _) => operation.finish(None),
            }
        }
        if messages > 0 {
            METRICS.messages(Direction::In, messages, bytes);
        }
        if let Some(settled) = settled {
            state.settled = settled;
            state.settle_due = None;
        }
        let unsettled = newest.message.0.saturating_sub(state.settled.0);
        if unsettled >= MOST_UNSETTLED {
            state.settle_due = Some(Instant::now());
        } else if unsettled > 0 && state.settle_due.is_none() {
            state.settle_due = Instant::now().checked_add(SETTLE_INTERVAL);
        }
    }

    /// Uses the reserve for what has to be known even now: that the disk is full, and what ended.
    fn out_of_space(&mut self, jobs: &mut Vec<Job>) {
        METRICS.store_failed();
        self.use_reserve();
        self.state.retry_at = Instant::now().checked_add(RETRY_INTERVAL);
        refuse_messages(jobs);
        match self.attempt(jobs) {
            Ok(()) => {}
            Err(error) if error.reach() == Reach::Full => fail(jobs, || StoreError::Full),
            Err(error) => self.reopen_and_retry(jobs, &error),
        }
    }

    fn use_reserve(&mut self) {
        if !self.state.full {
            error!(database = %self.path.display(), "no space is left: messages are refused until there is some");
            self.state.full = true;
            self.reserve.release();
            self.state.notes.push(NewEvent::new(EventKind::DiskFull));
        }
    }

    /// After a failed sync no connection knows what is on the disk: a new one reads it from there.
    fn reopen_and_retry(&mut self, jobs: &mut Vec<Job>, error: &StoreError) {
        METRICS.store_failed();
        error!(database = %self.path.display(), %error, "writing failed: the database is opened again");
        self.state.notes.push(NewEvent::new(EventKind::StoreFailed).detail("error", error.to_string()));
        let result = self.reopen().and_then(|()| self.attempt(jobs));
        match result {
            Ok(()) => info!("the database is open again, and what failed is written"),
            Err(error) => {
                error!(%error, "writing failed again: messages are refused, the next attempt is in {RETRY_INTERVAL:?}");
                self.connection = None;
                self.state.notes.truncate(1);
                if error.reach() == Reach::Full {
                    self.use_reserve();
                }
                self.state.retry_at = Instant::now().checked_add(RETRY_INTERVAL);
                fail(jobs, || StoreError::Unavailable(error.to_string()));
            }
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.connection = None;
        self.state.streams.forget();
        let mut connection = connect::open_writer(&self.path)?;
        self.checkpoints.watch(&mut connection)?;
        connect::rewrite_log(&connection)?;
        let newest = connect::newest(&connection)?;
        self.newest.send_if_modified(|current| std::mem::replace(current, newest) != newest);
        self.connection = Some(connection);
        Ok(())
    }

    /// Some time after a failure: is there space, does the database open?
    fn look_again(&mut self) {
        if self.connection.is_none() {
            match self.reopen() {
                Ok(()) => info!(database = %self.path.display(), "the database is open again"),
                Err(error) => {
                    error!(database = %self.path.display(), %error, "the database still can't be opened");
                    if error.reach() == Reach::Full {
                        self.use_reserve();
                    }
                    self.state.retry_at = Instant::now().checked_add(RETRY_INTERVAL);
                    return;
                }
            }
        }
        if self.state.full {
            if self.reserve.restore() {
                info!("there is space for the database again");
                self.state.full = false;
                self.state.notes.push(NewEvent::new(EventKind::DiskRecovered));
            } else {
                self.state.retry_at = Instant::now().checked_add(RETRY_INTERVAL);
            }
        }
    }
}

/// Everything between BEGIN and COMMIT.
fn transact(
    connection: &Connection,
    before: Newest,
    down_stream: RandomId,
    jobs: &mut [Job],
    state: &mut State,
    settle_due: bool,
) -> Result<Newest, StoreError> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
    if settle_due {
        settle(connection, before.message)?;
        state.streams.table_is_whole();
    }
    let mut change = Change::new(connection, down_stream, &mut state.streams, before);
    state.outcomes.clear();
    for note in &state.notes {
        change.event(note)?;
    }
    let mut batch = Batch::new(connection)?;
    for job in jobs {
        let outcome = match job {
            Job::Archive(incoming) => batch.add(&mut change, incoming)?,
            Job::Operation(operation) => {
                change.operate(operation.as_mut())?;
                None
            }
        };
        state.outcomes.push(outcome);
    }
    connection.prepare_cached("COMMIT")?.execute(())?;
    Ok(change.committed())
}

/// Answers the messages of a batch that there is no space for them, and leaves the rest.
fn refuse_messages(jobs: &mut Vec<Job>) {
    jobs.retain(|job| match job {
        Job::Archive(incoming) => {
            incoming.reply.tell(incoming.stream, incoming.number, Outcome::Failed);
            false
        }
        Job::Operation(_) => true,
    });
}

/// Answers a whole batch that nothing of it is written.
fn fail(jobs: &mut Vec<Job>, error: impl Fn() -> StoreError) {
    refuse_messages(jobs);
    for job in jobs.drain(..) {
        if let Job::Operation(operation) = job {
            operation.finish(Some(error()));
        }
    }
}

impl Drop for Writer {
    /// However the thread ends, nobody waits for it in vain.
    fn drop(&mut self) {
        self.queue.close();
        let mut jobs = Vec::new();
        while self.queue.take(&mut jobs, None) == Taken::Items {
            fail(&mut jobs, || StoreError::Closed);
        }
    }
}
