//! What a task's process is told by its agent, on its standard input: at first by what it makes ready, in a line, and then what
//! it is to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{openssh::OpenSsh, program::Program, ssh::Ssh, video::Video};
use crate::identity::Identity;

/// The longest preparation, and the longest assignment, in bytes.
pub(super) const LONGEST: u64 = 64 * 1024;

/// By what a task's process makes ready, before there is a task. It holds a secret: it is not shown.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Preparation {
    /// The device's key, and the servers that it trusts.
    pub(super) identity: Identity,
}

/// What a task's process is told to do. It holds secrets: it is not shown.
#[derive(Serialize, Deserialize)]
pub(super) struct Assignment {
    /// The process id of the agent: without it there is nothing to do.
    pub(super) agent: i32,
    /// The most memory, in bytes.
    pub(super) max_memory_bytes: u64,
    /// The most processor time, in seconds.
    pub(super) max_cpu_seconds: u64,
    /// The time between two signs of progress.
    pub(super) beat: Duration,
    /// The work itself.
    pub(super) work: Work,
}

/// What a task does.
#[derive(Serialize, Deserialize)]
pub(super) enum Work {
    /// Joins a data connection to this device's SSH server.
    Ssh(Box<Ssh>),
    /// Has this device's SSH server found on the server, by a stock ssh.
    OpenSsh(Box<OpenSsh>),
    /// Runs the program that starts the device anew, and waits for that.
    Reboot(Program),
    /// Shows a camera on a data connection.
    Video(Box<Video>),
}
