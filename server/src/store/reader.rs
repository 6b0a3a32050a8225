//! Reading beside the writer: a few connections, lent to blocking tasks.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{StoreError, connect, error::Reach};

/// How many read at a time; others wait their turn.
const CONNECTIONS: usize = 4;

/// The connections. Each sees what was committed when its reading began.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), turns: Semaphore::new(CONNECTIONS) }
    }

    /// Runs a query on a thread where it may block.
    pub(super) async fn read<T, F>(self: Arc<Self>, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let readers = Arc::clone(&self);
        let _turn = readers.turns.acquire().await.map_err(|_| StoreError::Closed)?;
        tokio::task::spawn_blocking(move || self.read_here(query))
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    /// Runs a query on this thread.
    pub(super) fn read_here<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.turns.is_closed() {
            return Err(StoreError::Closed);
        }
        let idle = self.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect::open_reader(&self.path)?,
        };
        let result = snapshot(&connection, query);
        let sound = result.as_ref().err().is_none_or(|error| error.reach() == Reach::Operation);
        if sound && connection.is_autocommit() {
            self.lock().push(connection);
        }
        result
    }

    /// Closes the connections; those that are lent are closed when they come back.
    pub(super) fn close(&self) {
        self.turns.close();
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All statements of a query see the same state.
fn snapshot<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.prepare_cached("BEGIN")?.execute(())?;
    let result = query(connection);
    connection.prepare_cached("ROLLBACK")?.execute(())?;
    result
}
