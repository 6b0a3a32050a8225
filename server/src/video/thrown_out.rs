//! Who was thrown out, and is not let in again at once: else it would be for their browser to stay away.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{Key, VideoError};
use crate::{lock::lock, span, store::OperatorId, tasks::Requester};

/// For how long somebody is not let in again where they were thrown out.
pub(super) const KEPT_OUT: Duration = Duration::from_secs(5 * 60);

/// Somebody, by whatever they come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Person {
    /// An operator elsewhere.
    Operator(OperatorId),
    /// A user of this machine.
    User(String),
}

impl Person {
    /// Who this is.
    pub(super) fn of(operator: Option<OperatorId>, name: &str) -> Self {
        operator.map_or_else(|| Self::User(name.to_owned()), Self::Operator)
    }

    /// Who asks.
    pub(super) fn asking(requester: &Requester) -> Self {
        Self::of(requester.operator, &requester.name)
    }
}

/// Who was thrown out of which stream.
#[derive(Debug, Default)]
pub(super) struct ThrownOut(Mutex<HashMap<(Key, Person), Ban>>);

#[derive(Debug)]
struct Ban {
    until: Instant,
    reason: String,
}

impl ThrownOut {
    /// Somebody is thrown out of this stream, for so long and for this reason.
    pub(super) fn add(&self, key: Key, person: Person, time: Duration, reason: String) {
        let now = Instant::now();
        let mut all = lock(&self.0);
        all.retain(|_, ban| ban.until > now);
        all.insert((key, person), Ban { until: now + time, reason });
    }

    /// Whether somebody may look at this stream again.
    ///
    /// # Errors
    /// [`VideoError::ThrownOut`] if not yet.
    pub(super) fn check(&self, key: Key, person: Person) -> Result<(), VideoError> {
        let all = lock(&self.0);
        let left =
            |ban: &Ban| ban.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        match all.get(&(key, person)).and_then(|ban| Some((left(ban)?, &ban.reason))) {
            None => Ok(()),
            Some((left, reason)) => {
                // Not `0s`, while it is not over.
                let left = span::shortened(Duration::from_secs(left.as_secs() + 1));
                Err(VideoError::ThrownOut(format!("{reason}; you can look again in {left}")))
            }
        }
    }
}
