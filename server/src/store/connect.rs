//! Opening the database: its directory, its modes, its settings.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use tracing::warn;

use super::{Newest, StoreError};

/// How long a lock that somebody else holds is waited for (a person's `sqlite3`, a backup).
const BUSY: Duration = Duration::from_secs(10);

/// Makes the data directory if there is none, and takes the lock that keeps a second server out.
pub(super) fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    let file_error = |path: &Path, source| StoreError::File { path: path.to_owned(), source };
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| file_error(directory, source))?;
    }
    let metadata = fs::metadata(directory).map_err(|source| file_error(directory, source))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        // Not tightened here: it may be a directory that others are meant to use, such as /tmp.
        warn!(directory = %directory.display(), "others than the owner may enter the data directory: chmod 700 it");
    }
    let path = directory.join("lock");
    let lock = create(&path)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(file_error(&path, source)),
    }
}

/// Opens a file of mode 0600, and makes it if there is none.
fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::File { path: path.to_owned(), source })
}

/// Makes the database if there is none. It gets its name when SQLite has written its header: whatever interrupts
/// this, a database under this name is never empty by our doing.
pub(super) fn begin(path: &Path) -> Result<(), StoreError> {
    let file_error = |source| StoreError::File { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unfinished = path.with_extension("db.new");
            drop(create(&unfinished)?);
            drop(open_plain(&unfinished)?);
            fs::rename(&unfinished, path).map_err(file_error)
        }
        Err(error) => Err(file_error(error)),
    }
}

/// The writer's connection. SQLite gives the log beside the database the database's mode.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    // SQLite would take it for a new database, and a server for a fleet without devices.
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Err(StoreError::Empty(path.to_owned()));
    }
    let connection = open_plain(path)?;
    // 16 MiB of pages; a log that had to grow is cut back to 64 MiB.
    connection.execute_batch("PRAGMA cache_size = -16384; PRAGMA journal_size_limit = 67108864;")?;
    Ok(connection)
}

/// A connection with the settings that all share.
pub(super) fn open_plain(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;",
    )?;
    Ok(connection)
}

/// A connection that can't write.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = open_plain(path)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// Carries all of the log over and starts it anew.
///
/// After a failed sync the system may hold pages that it will never write, and call them written. Behind such
/// pages nothing may be appended: what is read from them goes into the database, by a sync of its own.
pub(super) fn rewrite_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if busy {
        return Err(StoreError::Unavailable("its log is still being read".to_owned()));
    }
    Ok(())
}

/// The newest rows.
pub(crate) fn newest(connection: &Connection) -> Result<Newest, StoreError> {
    let newest = connection
        .prepare_cached(
            "SELECT coalesce((SELECT max(id) FROM messages), 0), coalesce((SELECT max(id) FROM events), 0)",
        )?
        .query_row((), |row| Ok(Newest { message: row.get(0)?, event: row.get(1)? }))?;
    Ok(newest)
}

/// The database in a data directory.
pub(super) fn database(directory: &Path) -> PathBuf {
    directory.join("holdfast.db")
}
