//! One table for all timers of a session.

use crate::time::Instant;

/// The timers of a session. Each is armed for one moment, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The client has sent nothing for the interval: send `PING`.
    Send,
    /// Nothing has come. The client asks by `PING`; to the server the client is lost.
    Hear,
    /// A `PING`, or the opening, was not answered: the peer is lost.
    Answer,
}

impl Timer {
    const COUNT: usize = Self::Answer as usize + 1;
}

/// When each timer is due; [`Instant::NEVER`] stands for a timer that is not armed.
#[derive(Clone, Debug)]
pub(crate) struct TimerTable {
    due: [Instant; Timer::COUNT],
}

impl TimerTable {
    pub(crate) const fn new() -> Self {
        Self { due: [Instant::NEVER; Timer::COUNT] }
    }

    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        if let Some(due) = self.due.get_mut(timer as usize) {
            *due = at;
        }
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.arm(timer, Instant::NEVER);
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.due(timer) != Instant::NEVER
    }

    pub(crate) fn has_expired(&self, timer: Timer, now: Instant) -> bool {
        self.is_armed(timer) && self.due(timer) <= now
    }

    pub(crate) fn due(&self, timer: Timer) -> Instant {
        self.due.get(timer as usize).copied().unwrap_or(Instant::NEVER)
    }

    /// The earliest moment at which a timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.iter().copied().min().filter(|due| *due != Instant::NEVER)
    }
}
