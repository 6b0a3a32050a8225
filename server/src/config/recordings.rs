//! `[recordings]`: how much is kept of what cameras show.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, LONGEST_SESSION, range, within};
use crate::span;

/// How much is kept of what cameras show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RecordingLimits {
    /// A recording is deleted when it ended so long ago.
    #[serde(deserialize_with = "span::deserialize")]
    pub keep: Duration,
    /// A recording ends after so long.
    #[serde(deserialize_with = "span::deserialize")]
    pub time_limit: Duration,
    /// All of them together may have so many bytes: the oldest are deleted for new ones.
    pub max_bytes: u64,
    /// A recording ends before fewer bytes than that are free on the disk.
    pub min_free_bytes: u64,
}

impl Default for RecordingLimits {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(30 * 86_400),
            time_limit: Duration::from_secs(60 * 60),
            max_bytes: 10 * 1024 * 1024 * 1024,
            min_free_bytes: 1024 * 1024 * 1024,
        }
    }
}

impl RecordingLimits {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let second = Duration::from_secs(1);
        within("recordings.keep", self.keep, 60 * second..=100 * LONGEST_SESSION)?;
        within("recordings.time-limit", self.time_limit, second..=LONGEST_SESSION)?;
        range("recordings.max-bytes", self.max_bytes, 1024 * 1024..=u64::MAX)
    }
}
