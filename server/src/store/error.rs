//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use super::DeviceKind;
use crate::id::DeviceName;

/// Why the store could not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory of the store can't be made or read.
    #[error("{path}: {source}; the server needs to own this and be able to write it")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server runs on this data directory.
    #[error("{0} is in use by another holdfast server: stop that one, or choose another --data")]
    InUse(PathBuf),
    /// The database's file is there, but nothing is in it: a disk that was full, or a copy that failed.
    #[error("{0} is empty: restore it from a backup, or remove it to begin anew, without any device")]
    Empty(PathBuf),
    /// The database's file holds something else, or is damaged.
    #[error("{path}: {source}; restore it from a backup, or move it away to begin anew, without any device")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("the database is of version {found}, this program knows up to {known}: use a newer holdfast")]
    TooNew {
        /// The database's version.
        found: i64,
        /// The newest that this program knows.
        known: usize,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
    /// There is no space left on the disk.
    #[error("no space is left for the database: free some; a server that runs goes on by itself then")]
    Full,
    /// Nothing was written: the disk or the database failed under the transaction that this was part of.
    #[error("the database could not be written ({0}): nothing was changed; try again")]
    Unavailable(String),
    /// The database contradicts itself: a fault of this program, or of whoever wrote to the file.
    #[error("the database is inconsistent: {0}")]
    Inconsistent(&'static str),
    /// The store has been closed.
    #[error("the store is closed: the server is stopping")]
    Closed,
    /// There is no such device.
    #[error("there is no such device")]
    NoSuchDevice,
    /// The device's rights were taken away.
    #[error("the device is revoked")]
    Revoked,
    /// Classic clients can't be reached or revoked: they have no identity but their address.
    #[error("this is a classic client: it is known by its address only")]
    Classic,
    /// The name is another device's.
    #[error("there is a device {:?} already", .0.as_str())]
    NameTaken(DeviceName),
    /// The key that this device is to have is known already.
    #[error("the key for {:?} is registered already", .0.as_str())]
    KeyKnown(DeviceName),
    /// The name is of a device that is wired to another gateway.
    #[error("{:?} is enrolled for another gateway: {gateway:?}", .name.as_str())]
    WiredElsewhere {
        /// The device.
        name: DeviceName,
        /// Its gateway.
        gateway: String,
    },
    /// Only a device with the Linux agent can be a gateway.
    #[error("{name:?} can't be a gateway: {}", match kind {
        DeviceKind::Agent => "it does not pass on what is wired to it",
        DeviceKind::Firmware => "it is a microcontroller itself, enrolled by --firmware",
        DeviceKind::Wired => "it is wired to another device itself",
        DeviceKind::Classic => "it is a classic client, known by its address only",
    })]
    NoGateway {
        /// The device.
        name: String,
        /// What it is.
        kind: DeviceKind,
    },
    /// Devices are wired to it, and it would be their gateway no longer.
    #[error("{name:?} is the gateway of {wired}, and could not be one as this")]
    IsGateway {
        /// The device.
        name: String,
        /// The first of the devices that are wired to it.
        wired: String,
    },
    /// The gateway's rights were taken away.
    #[error("the gateway {0:?} is revoked")]
    GatewayRevoked(String),
    /// The message is larger than what the device takes.
    #[error("the device takes messages of at most {most} bytes, and this one has {length}")]
    TooLarge {
        /// The message's length in bytes.
        length: usize,
        /// The most bytes that the device took when it last connected.
        most: usize,
    },
    /// As many messages wait for this device as may.
    #[error("{waiting} messages wait for this device, and no more may")]
    TooManyWaiting {
        /// How many wait.
        waiting: usize,
    },
}

/// How far an error reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The one operation that met it.
    Operation,
    /// The transaction: there is no space. The database is whole.
    Full,
    /// The database connection: nothing that it says can be trusted.
    Connection,
}

impl StoreError {
    /// As met when the database at this path was opened: names it, and says what to do.
    pub(super) fn opening(self, path: &Path) -> Self {
        if self.reach() == Reach::Full {
            return Self::Full;
        }
        let Self::Database(source) = self else { return self };
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::File { path, source: io::Error::other(source) }
            }
            _ => Self::Database(source),
        }
    }

    /// Whether only the operation failed, or more than it.
    pub(super) fn reach(&self) -> Reach {
        match self {
            // The index of the log could not grow: SQLite does not say so, but it is for lack of space.
            Self::Database(error) if extended_code(error) == Some(ffi::SQLITE_IOERR_SHMSIZE) => Reach::Full,
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Reach::Full,
                Some(
                    ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::PermissionDenied
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OutOfMemory
                    | ErrorCode::OperationAborted
                    | ErrorCode::InternalMalfunction,
                ) => Reach::Connection,
                _ => Reach::Operation,
            },
            Self::Full => Reach::Full,
            Self::Inconsistent(_) | Self::Empty(_) | Self::Damaged { .. } => Reach::Connection,
            _ => Reach::Operation,
        }
    }
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
