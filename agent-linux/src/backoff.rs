//! How long to wait before the next attempt: the waits of every client, by the system's random numbers and durations.

use std::time::Duration;

use protocol_core::{backoff, time};

/// [`Backoff`](backoff::Backoff) as this agent uses it.
#[derive(Clone, Debug)]
pub struct Backoff(backoff::Backoff);

impl Backoff {
    /// Waits below `least` at first, and never above `most` unless more is asked for.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self(backoff::Backoff::new(to_core(least), to_core(most)))
    }

    /// Draws the next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.0.next(random()).into()
    }

    /// Draws the next wait where `asked` is the least, if it is not zero: up to a fifth more.
    pub fn at_least(&mut self, asked: Duration) -> Duration {
        let millis = u32::try_from(asked.as_millis()).unwrap_or(u32::MAX);
        self.0.at_least(millis, random()).into()
    }

    /// Notes for how long a connection was open: after one that was stable the waits begin anew.
    pub fn was_open_for(&mut self, time: Duration) {
        if to_core(time) >= backoff::STABLE {
            self.0.reset();
        }
    }
}

fn to_core(duration: Duration) -> time::Duration {
    time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Without random numbers the longest wait: those who have none do not come back together for it.
fn random() -> u16 {
    getrandom::u32().unwrap_or(u32::MAX) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_differ_and_what_is_asked_for_is_kept() {
        let mut backoff = Backoff::new(SECOND, SECOND);
        let first = backoff.next_wait();
        assert!((0..50).any(|_| backoff.next_wait() != first));
        assert!((0..50).all(|_| backoff.next_wait() < SECOND));
        assert!((0..50).all(|_| (SECOND * 300..=SECOND * 360).contains(&backoff.at_least(SECOND * 300))));
        assert!(backoff.at_least(Duration::ZERO) < SECOND);
    }

    #[test]
    fn waits_begin_anew_after_a_stable_connection_only() {
        let mut backoff = Backoff::new(SECOND, SECOND * 1_000);
        for _ in 0..10 {
            backoff.next_wait();
        }
        backoff.was_open_for(SECOND * 4);
        assert!((0..20).any(|_| backoff.clone().next_wait() > SECOND));
        backoff.was_open_for(SECOND * 5);
        assert!((0..20).all(|_| backoff.clone().next_wait() < SECOND));
    }
}
