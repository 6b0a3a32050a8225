//! Why a task can't be had, and why a data connection is turned away.

use super::{MAX_OF_DEVICE, TaskKind};
use crate::{ssh_account::SshAccountError, store::StoreError};

/// Why a task can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The device is not connected.
    #[error("the device is offline")]
    Offline,
    /// The device does not take such tasks.
    #[error("the device takes no {} tasks: its agent is too old, or its agent.toml does not allow them", .0.name())]
    NotOffered(TaskKind),
    /// The device has too many tasks.
    #[error("the device has {MAX_OF_DEVICE} tasks, and no more may be")]
    TooMany,
    /// The task ended before it could be used.
    #[error("{0}")]
    Ended(String),
    /// The device's own configuration does not allow the task.
    #[error("{0}")]
    Refused(String),
    /// There is no such task, or it has ended.
    #[error("there is no such task that has not ended")]
    NoSuchTask,
    /// The device comes by this machine's SSH server, which it can't now.
    #[error(transparent)]
    SshAccount(#[from] SshAccountError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no random numbers.
    #[error("no random numbers are to be had: {0}")]
    NoRandom(#[from] getrandom::Error),
}

/// Why a data connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// There is no such task of this device that has not ended.
    #[error("no such task of this device waits for its bytes")]
    NoSuchTask,
    /// The key is not the task's.
    #[error("this is not the key of the task")]
    WrongKey,
    /// The task has its data connection.
    #[error("the task has had its data connection")]
    Used,
}
