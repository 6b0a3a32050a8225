//! How long a device runs.

use protocol_core::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Seconds, counted up: a division of 64 bits takes 900 bytes of flash on a small microcontroller.
#[derive(Debug)]
pub(crate) struct Uptime {
    seconds: u32,
    /// When the last of them ended.
    counted_to: Instant,
}

impl Uptime {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { seconds: 0, counted_to: now }
    }

    /// Whole seconds until `now`.
    pub(crate) fn seconds(&mut self, now: Instant) -> u32 {
        loop {
            let next = self.counted_to.after(SECOND);
            if next > now {
                return self.seconds;
            }
            self.counted_to = next;
            self.seconds = self.seconds.saturating_add(1);
        }
    }

    /// Milliseconds until `now`.
    #[inline(never)]
    pub(crate) fn millis(&mut self, now: Instant) -> u64 {
        let seconds = self.seconds(now);
        // Less than a second, and so less than 32 bits.
        let rest = now.since(self.counted_to).as_micros() as u32;
        // 32 bits times a thousand are no more than 42.
        u64::from(seconds).wrapping_mul(1_000).wrapping_add(u64::from(rest / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_counted_from_the_start() {
        let start = Instant::from_micros(7_700_000);
        let mut uptime = Uptime::new(start);
        for (after, seconds, millis) in
            [(0, 0, 0), (999_999, 0, 999), (1_000_000, 1, 1_000), (99_001_500, 99, 99_001)]
        {
            let now = start.after(Duration::from_micros(after));
            assert_eq!((uptime.seconds(now), uptime.millis(now)), (seconds, millis), "{after}");
        }
    }
}
