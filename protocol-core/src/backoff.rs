//! How long a client waits before its next attempt (`docs/protocol.md`, Coming back).

use crate::{code::CloseReason, time::Duration};

/// A session that was open for so long was a good one: the waits begin anew.
pub const STABLE: Duration = Duration::from_secs(5);

/// How long to wait, in seconds, after a refusal that only an operator can change, if the server does not say.
const REFUSED: u32 = 300;

/// Waits that grow, each drawn at random from zero to a ceiling that doubles: so that a thousand devices which lost
/// their server together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    ceiling: Duration,
}

impl Default for Backoff {
    /// From half a second to a minute.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Waits below `least` at first, and never above `most` unless the server asks for it.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, ceiling: least }
    }

    /// The ceiling of the next wait.
    pub fn ceiling(&self) -> Duration {
        self.ceiling.min(self.most)
    }

    /// Draws the next wait; `random` is a random number.
    #[inline(never)]
    pub fn next(&mut self, random: u16) -> Duration {
        let ceiling = self.ceiling();
        self.ceiling = ceiling.plus(ceiling);
        part(ceiling, random)
    }

    /// Draws the next wait after the server ended the connection: at least what it asked for, in seconds, and up to a
    /// fifth more.
    pub fn closed(&mut self, reason: CloseReason, retry_after: u32, random: u16) -> Duration {
        let is_refused =
            matches!(reason, CloseReason::Clone | CloseReason::UnknownKey | CloseReason::Revoked);
        let asked = if is_refused && retry_after == 0 { REFUSED } else { retry_after };
        self.at_least(asked.saturating_mul(1_000), random)
    }

    /// Draws the next wait where at least so many milliseconds are asked for: up to a fifth more. If none are, it is the
    /// next.
    pub fn at_least(&mut self, millis: u32, random: u16) -> Duration {
        let wait = self.next(random);
        if millis == 0 {
            return wait;
        }
        let fifth = Duration::from_millis(millis / 5).max(self.least);
        Duration::from_millis(millis).plus(part(fifth, random))
    }

    /// Begins anew: a connection was [stable](STABLE).
    pub fn reset(&mut self) {
        self.ceiling = self.least;
    }
}

/// So many 65,536ths of `whole`.
fn part(whole: Duration, random: u16) -> Duration {
    // Waits are shorter than the three years at which this would be too much.
    Duration::from_micros(whole.as_micros().wrapping_mul(u64::from(random)) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_most() {
        let mut backoff = Backoff::default();
        let mut ceilings = std::vec![];
        for _ in 0..40 {
            let ceiling = backoff.ceiling();
            assert!(backoff.next(u16::MAX) < ceiling);
            ceilings.push(ceiling.as_micros());
        }
        assert_eq!(ceilings[..3], [500_000, 1_000_000, 2_000_000]);
        assert_eq!(ceilings[39], 60_000_000);
        backoff.reset();
        assert_eq!((backoff.ceiling().as_micros(), backoff.next(0)), (500_000, Duration::ZERO));
    }

    #[test]
    fn what_the_server_asks_for_is_kept_and_spread() {
        let wait = |reason, retry_after, random| {
            Backoff::default().closed(reason, retry_after, random).as_micros() / 1_000
        };
        assert_eq!(wait(CloseReason::Draining, 100, 0), 100_000);
        assert_eq!(wait(CloseReason::Draining, 100, u16::MAX), 119_999);
        assert_eq!(wait(CloseReason::Draining, 1, u16::MAX), 1_499);
        assert_eq!(wait(CloseReason::Draining, 0, u16::MAX), 499);
        assert_eq!(wait(CloseReason::Revoked, 0, 0), 300_000);
        assert_eq!(wait(CloseReason::Revoked, 60, 0), 60_000);
        assert!(
            wait(CloseReason::Other(99), u32::MAX, u16::MAX) >= u64::from(u32::MAX),
            "as many milliseconds as there can be"
        );
    }
}
