//! Carrying the write-ahead log over into the database, off the path of commits.
//!
//! A thread beside the writer does the bulk of it while the writer goes on. The log can start again from its
//! beginning only when all of it has been carried over, which that thread never sees while commits keep coming:
//! so from a certain size on the writer carries over the rest itself, which is little by then.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tracing::{debug, warn};

use super::{StoreError, connect};

/// From how many pages of 4 KiB on, and after how many more each time, the thread carries over: 8 MiB. The more, the fewer
/// syncs of the database stand beside those of commits, and the fewer pages are written that change again at once.
const BESIDE: usize = 2_048;
/// From how many pages on the writer carries over the rest: 32 MiB.
const INSIDE: usize = 8_192;

/// The writer's side.
pub(super) struct Checkpoints {
    /// Pages in the log after the last commit; SQLite's hook writes it.
    pages: Arc<AtomicUsize>,
    /// Pages when the thread was last woken, and when the writer last carried over itself.
    woken_at: usize,
    tried_at: usize,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread.
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let (wake, woken) = sync_channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn({
                let path = path.clone();
                move || run_checkpoints(&path, &woken)
            })
            .map_err(|source| StoreError::File { path, source })?;
        Ok(Self { pages: Arc::default(), woken_at: 0, tried_at: 0, wake: Some(wake), thread: Some(thread) })
    }

    /// Has the log's size told after each commit of this connection.
    pub(super) fn watch(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let pages = Arc::clone(&self.pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: std::ffi::c_int| {
            pages.store(usize::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(())
    }

    /// Carries over what is due.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.woken_at {
            // The log has started again from its beginning.
            self.woken_at = 0;
            self.tried_at = 0;
        }
        if pages >= self.woken_at.saturating_add(BESIDE)
            && let Some(wake) = &self.wake
        {
            self.woken_at = pages;
            // If it is full, the thread is going to look anyway.
            _ = wake.try_send(());
        }
        if pages >= INSIDE && pages >= self.tried_at.saturating_add(BESIDE) {
            self.tried_at = pages;
            checkpoint(connection);
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn run_checkpoints(path: &Path, woken: &Receiver<()>) {
    let mut connection = None;
    while woken.recv().is_ok() {
        if connection.is_none() {
            connection = connect::open_plain(path)
                .inspect_err(|error| warn!(%error, "the checkpoint thread can't open the database"))
                .ok();
        }
        if let Some(open) = &connection
            && !checkpoint(open)
        {
            connection = None;
        }
    }
}

/// Carries over as much as goes without waiting for anyone. A failure harms nothing: the log just stays longer.
fn checkpoint(connection: &Connection) -> bool {
    let counts = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match counts {
        Ok((busy, pages, carried)) => {
            debug!(busy, pages, carried, "checkpoint");
            true
        }
        Err(error) => {
            warn!(%error, "a checkpoint failed; it is tried again later");
            false
        }
    }
}
