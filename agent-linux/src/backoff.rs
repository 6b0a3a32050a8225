//! How long to wait before the next attempt.

use std::time::Duration;

/// Waits that grow, each drawn at random from zero to a ceiling that doubles: so that a thousand
/// devices which lost their server together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits below `least` at first, and never above `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// The ceiling of the next wait.
    pub fn ceiling(&self) -> Duration {
        self.least.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.most)
    }

    /// Draws the next wait; `asked` is what the server asked for, which is kept, and lengthened by up
    /// to a fifth.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1).min(31);
        match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) => asked + (asked / 5).max(self.least).mul_f64(fraction()),
            None => ceiling.mul_f64(fraction()),
        }
    }

    /// Begins anew: a connection was stable.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_ceiling_doubles_up_to_the_most() {
        let mut backoff = Backoff::new(SECOND / 2, SECOND * 60);
        let mut ceilings = vec![];
        for _ in 0..40 {
            let ceiling = backoff.ceiling();
            assert!(backoff.next(None) <= ceiling);
            ceilings.push(ceiling);
        }
        assert_eq!(ceilings[..3], [SECOND / 2, SECOND, SECOND * 2]);
        assert_eq!(ceilings[39], SECOND * 60);
        backoff.reset();
        assert_eq!(backoff.ceiling(), SECOND / 2);
    }

    #[test]
    fn what_the_server_asks_for_is_kept_and_spread() {
        let mut backoff = Backoff::new(SECOND / 2, SECOND * 60);
        let waits: Vec<_> = (0..50).map(|_| backoff.next(Some(SECOND * 300))).collect();
        assert!(waits.iter().all(|wait| (SECOND * 300..=SECOND * 360).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }

    #[test]
    fn waits_differ() {
        let mut backoff = Backoff::new(SECOND, SECOND);
        let first = backoff.next(None);
        assert!((0..50).any(|_| backoff.next(None) != first));
    }
}
