//! Reading beside the writer: a few connections, lent to blocking tasks.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{StoreError, connect, error::Reach};
use crate::lock::lock;

/// How many read at a time; others wait their turn.
const CONNECTIONS: usize = 4;

/// The connections. Each sees what was committed when its reading began.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), turns: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Runs a query on a thread where it may block.
    pub(super) async fn read<T, F>(self: Arc<Self>, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let reading = tokio::task::spawn_blocking(move || {
            // Whoever asked may stop waiting; the turn lasts as long as the reading does.
            let _turn = turn;
            self.read_here(query)
        });
        reading.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    /// Runs a query on this thread.
    pub(super) fn read_here<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.turns.is_closed() {
            return Err(StoreError::Closed);
        }
        let idle = lock(&self.idle).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect::open_reader(&self.path)?,
        };
        let result = snapshot(&connection, query);
        let sound = result.as_ref().err().is_none_or(|error| error.reach() == Reach::Operation);
        let mut idle = lock(&self.idle);
        if sound && connection.is_autocommit() && idle.len() < CONNECTIONS {
            idle.push(connection);
        }
        result
    }

    /// Closes the connections; those that are lent are closed when they come back.
    pub(super) fn close(&self) {
        self.turns.close();
        lock(&self.idle).clear();
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::timeout;

    use super::{CONNECTIONS, Readers};
    use crate::{lock::lock, store::connect};

    /// Longer than anything takes here: only a failing test waits so long.
    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_reading_keeps_its_turn_when_nobody_waits_for_it_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("holdfast.db");
        connect::begin(&path).unwrap();
        let readers = Arc::new(Readers::new(&path));
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        for _ in 0..CONNECTIONS {
            let (began, beginning) = tokio::sync::oneshot::channel();
            let ended = Arc::clone(&ended);
            let reading = tokio::spawn(Arc::clone(&readers).read(move |_| {
                let _ = began.send(());
                let _ = ended.lock().unwrap().recv();
                Ok(())
            }));
            timeout(TIMEOUT, beginning).await.unwrap().unwrap();
            reading.abort();
            assert!(reading.await.unwrap_err().is_cancelled());
        }
        assert_eq!(readers.turns.available_permits(), 0, "they are still reading");
        drop(end);
        let all = u32::try_from(CONNECTIONS).unwrap();
        drop(timeout(TIMEOUT, readers.turns.acquire_many(all)).await.unwrap().unwrap());
        assert!(lock(&readers.idle).len() <= CONNECTIONS);
    }
}
