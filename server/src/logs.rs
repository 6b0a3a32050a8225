//! Plain-text log files for people and `grep`, written from the store: `server.log` has every message and event,
//! `devices/NAME.log` those of one device. The tables are the truth; the files follow them within a moment.
//!
//! A crash neither drops nor doubles a line. Now and then the files are synced, and then the store keeps, in one
//! transaction, up to which message and event they are written and how long each file is. After a crash each file
//! is cut back to the length that was kept for it, and what came behind is written again.

mod files;
mod line;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle, time};
use tracing::{error, info};

use crate::{
    config::LogFiles,
    event::EventRow,
    lock::lock,
    parts::{PartKind, Parts},
    store::{MessageRow, Newest, Store, StoreError, Unlogged},
};
use files::Files;

/// How many messages, and how many events, are taken at a time.
const PAGE: usize = 4_096;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(100);
/// How often the files are synced while lines come.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);
/// How long after a failure it is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long the end of the server waits for the last lines; the next start writes those that are missing.
const LAST_LINES: Duration = Duration::from_secs(5);
/// What this part of the server is called.
const PART: &str = "log files";
/// The file of the whole server, among the names of [`Files`].
const SERVER: &str = "server";

/// Why the logs could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// A file or directory can't be written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is where a log file should be. It is not written through: it may lead anywhere.
    #[error(
        "{path}: expected a log file, found {found}: remove it; its lines are left out until then, others go on"
    )]
    Occupied {
        /// Where.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The logs, being written.
pub struct Logs {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Logs {
    /// Begins to write the logs of this store into this directory, which is made if there is none. What goes wrong
    /// later is told by `tracing` and tried again.
    ///
    /// # Errors
    ///
    /// The directory can't be made, or the store can't be read.
    pub fn start(
        parts: &Arc<Parts>,
        store: &Store,
        directory: &Path,
        limits: LogFiles,
    ) -> Result<Self, LogError> {
        let first = Writer::open(store.clone(), directory, limits)?;
        let (stop, stopped) = watch::channel(false);
        let (part, newest, written) =
            (parts.part(PART, PartKind::Writer), store.newest(), watch::Sender::new(first.written));
        let reached = written.subscribe();
        part.gauge_by(move || vec![("waiting", behind(*reached.borrow(), *newest.borrow()) as f64)]);
        let mut first = Some(first);
        let (parts, store, directory) = (Arc::clone(parts), store.clone(), directory.to_owned());
        let task = tokio::spawn(async move {
            let run = || {
                let (first, stopped, written) = (first.take(), stopped.clone(), written.clone());
                begin(first, store.clone(), directory.clone(), limits, stopped, written)
            };
            parts.supervise(PART, PartKind::Writer, run).await;
        });
        Ok(Self { stop, task })
    }

    /// Writes what is committed, and ends. Call it before the store is closed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            error!(%error, "the logs were not closed in order: the next start mends them");
        }
    }
}

/// How many messages and events are not written yet.
fn behind(written: Newest, newest: Newest) -> i64 {
    let messages = newest.message.0.saturating_sub(written.message.0);
    let events = newest.event.0.saturating_sub(written.event.0);
    messages.max(0).saturating_add(events.max(0))
}

/// Writes with this writer; or, behind a panic, with another one. That mends the files as after a crash, so nothing is
/// missing and nothing stands there twice.
async fn begin(
    first: Option<Writer>,
    store: Store,
    directory: PathBuf,
    limits: LogFiles,
    mut stopped: watch::Receiver<bool>,
    written: watch::Sender<Newest>,
) {
    let mut writer = first;
    while writer.is_none() && !*stopped.borrow() {
        let (store, directory) = (store.clone(), directory.clone());
        let opened = tokio::task::spawn_blocking(move || Writer::open(store, &directory, limits)).await;
        match opened {
            Ok(Ok(opened)) => writer = Some(opened),
            Ok(Err(error)) => error!(%error, "the log files can't be opened: it is tried again"),
            Err(error) => error!(%error, "the log files could not be opened: it is tried again"),
        }
        if writer.is_none() {
            _ = time::timeout(RETRY_INTERVAL, stopped.changed()).await;
        }
    }
    if let Some(writer) = writer {
        follow(Arc::new(Mutex::new(writer)), store.newest(), stopped, &written).await;
    }
}

/// Writes whenever something is committed, and tells how far it has come.
async fn follow(
    writer: Arc<Mutex<Writer>>,
    mut newest: watch::Receiver<Newest>,
    mut stopped: watch::Receiver<bool>,
    written: &watch::Sender<Newest>,
) {
    let mut failed = false;
    while !*stopped.borrow() {
        newest.borrow_and_update();
        let step = blocking(&writer, Writer::step).await;
        if let Ok(step) = &step {
            written.send_replace(step.written);
        }
        let pause = match step {
            Ok(Step { more: true, .. }) => continue,
            Ok(Step { checkpoint_due, .. }) => {
                if std::mem::take(&mut failed) {
                    info!("the log files are written again");
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { break },
                    () = at(checkpoint_due) => {}
                    _ = stopped.changed() => break,
                }
                GATHER
            }
            Err(error) => {
                if !std::mem::replace(&mut failed, true) {
                    error!(%error, "the log files can't be written: it is tried again, and then nothing is missing");
                }
                RETRY_INTERVAL
            }
        };
        // Cut short by the end of the server.
        _ = time::timeout(pause, stopped.changed()).await;
    }
    if let Err(error) = blocking(&writer, Writer::finish).await {
        error!(%error, "the last lines of the logs are missing: the next start writes them");
    }
}

/// Waits until then; without a time, for ever.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Works on the files where it may block.
async fn blocking<T: Send + 'static>(
    writer: &Arc<Mutex<Writer>>,
    work: impl FnOnce(&mut Writer) -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let writer = Arc::clone(writer);
    let working = tokio::task::spawn_blocking(move || work(&mut lock(&writer)));
    working.await.unwrap_or_else(|error| match error.try_into_panic() {
        // What it was about may be half done: this writer is not used again.
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => Err(LogError::Store(StoreError::Unavailable(error.to_string()))),
    })
}

/// What a step leaves to do.
struct Step {
    /// There is more to write now.
    more: bool,
    /// When the files are to be synced.
    checkpoint_due: Option<Instant>,
    /// Up to where all is written.
    written: Newest,
}

/// The files, and how far they are written.
struct Writer {
    store: Store,
    files: Files,
    /// The newest message and event that are written.
    written: Newest,
    checkpoint_due: Option<Instant>,
}

impl Writer {
    fn open(store: Store, directory: &Path, limits: LogFiles) -> Result<Self, LogError> {
        let files = Files::open(directory, limits)?;
        let written = store.logged()?;
        Ok(Self { store, files, written, checkpoint_due: None })
    }

    /// Writes a page of lines, and syncs if it is time.
    fn step(&mut self) -> Result<Step, LogError> {
        let page = Page::of(&self.store.unlogged(self.written, PAGE)?, self.written);
        if !page.lines.is_empty() {
            self.adopt(&page.lines)?;
            self.files.write(&page.lines)?;
            self.written = page.last;
            if self.checkpoint_due.is_none() {
                self.checkpoint_due = Instant::now().checked_add(CHECKPOINT_INTERVAL);
            }
        }
        if self.files.want_sync() || self.checkpoint_due.is_some_and(|due| due <= Instant::now()) {
            self.checkpoint()?;
        }
        Ok(Step { more: page.more, checkpoint_due: self.checkpoint_due, written: self.written })
    }

    /// Writes all lines there are, for a while, and syncs.
    fn finish(&mut self) -> Result<(), LogError> {
        let begun = Instant::now();
        while self.step()?.more && begun.elapsed() < LAST_LINES {}
        self.checkpoint()
    }

    /// Makes the files known that these lines are for. What is kept of a file is kept before its first line is
    /// written, or a crash behind that would find a file of which nothing is known.
    fn adopt(&mut self, lines: &Lines) -> Result<(), LogError> {
        let unknown: Vec<String> = lines.keys().filter(|name| !self.files.knows(name)).cloned().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let records = self.store.log_files(unknown)?;
        let mut new = Vec::new();
        for (name, record) in records {
            if let Some(record) = self.files.adopt(&name, record)? {
                new.push((name, record));
            }
        }
        if !new.is_empty() {
            self.store.keep_log_files(new)?;
        }
        Ok(())
    }

    /// Syncs the files, and then keeps how far they are written.
    fn checkpoint(&mut self) -> Result<(), LogError> {
        self.store.keep_logged(self.files.sync()?, self.written)?;
        self.files.synced();
        self.checkpoint_due = None;
        Ok(())
    }
}

/// Lines by the name of their file.
type Lines = HashMap<String, String>;

/// Lines to be written.
struct Page {
    lines: Lines,
    /// The last message and event that they tell of.
    last: Newest,
    /// There are more behind them.
    more: bool,
}

impl Page {
    /// The lines of what is not yet written, behind `written`.
    fn of(unlogged: &Unlogged, written: Newest) -> Self {
        let Unlogged { messages, events, newest } = unlogged;
        // Where one kind has more behind its page, the other waits at the time of the page's end: the lines of the
        // whole server stay in order. A page itself is always written, whatever its times are.
        let behind_message =
            messages.last().filter(|last| last.id < newest.message).map(|last| last.received_at);
        let behind_event = events.last().filter(|last| last.id < newest.event).map(|last| last.at);
        let (until_message, until_event) = match (behind_message, behind_event) {
            (Some(message), Some(event)) if message <= event => (None, Some(message)),
            (Some(_), Some(event)) => (Some(event), None),
            (message, event) => (event, message),
        };
        let messages = messages
            .iter()
            .take_while(|message| until_message.is_none_or(|until| message.received_at <= until));
        let events = events.iter().take_while(|event| until_event.is_none_or(|until| event.at <= until));
        let mut page = Self { lines: Lines::new(), last: written, more: false };
        page.merge(messages, events);
        page.more = page.last.message < newest.message || page.last.event < newest.event;
        page
    }

    /// Adds the lines of both in the order of their times.
    fn merge<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a MessageRow>,
        events: impl Iterator<Item = &'a EventRow>,
    ) {
        let (mut messages, mut events) = (messages.peekable(), events.peekable());
        let mut text = String::new();
        loop {
            text.clear();
            let event_first = match (messages.peek(), events.peek()) {
                (Some(message), Some(event)) => event.at <= message.received_at,
                (message, _) => message.is_none(),
            };
            let device = if event_first {
                let Some(event) = events.next() else { break };
                self.last.event = event.id;
                line::event(event, &mut text);
                event.device.as_deref()
            } else {
                let Some(message) = messages.next() else { break };
                self.last.message = message.id;
                line::message(message, &mut text);
                Some(message.device.as_str())
            };
            self.add(SERVER.to_owned(), &text);
            if let Some(device) = device {
                self.add(files::device(device), &text);
            }
        }
    }

    fn add(&mut self, file: String, line: &str) {
        self.lines.entry(file).or_default().push_str(line);
    }
}
