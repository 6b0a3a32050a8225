//! Headers of ours, and what stands in one that is not.

/// What a connection is upgraded to that carries the bytes of an SSH session.
pub const UPGRADE: &str = "holdfast-ssh";

/// The header of the answer to that: the number of the task that the session is.
pub const TASK: &str = "holdfast-task";

/// The header of answers to operators elsewhere that tells the pins of the server's keys: the one in use, and the next.
pub const KEYS: &str = "holdfast-keys";

/// The header of answers to operators elsewhere that tells where the server is found, best first.
pub const ADDRESSES: &str = "holdfast-addresses";

/// The header of answers to operators elsewhere that tells their role.
pub const ROLE: &str = "holdfast-role";
