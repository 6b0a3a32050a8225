//! The two clocks: one that never jumps, for sessions, and the calendar's, for people (see `store`).

use protocol_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

use crate::id::UnixMillis;

/// Now, on the clock that goes on while the machine is suspended.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// The calendar as it was at some moment, carried on by the clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    began: UnixMillis,
    since: Instant,
}

impl Default for Calendar {
    fn default() -> Self {
        Self::from(UnixMillis::now())
    }
}

impl Calendar {
    /// A calendar on which it is this time now.
    pub fn from(began: UnixMillis) -> Self {
        Self { began, since: now() }
    }

    /// The time, by whichever of the two clocks is behind: what is deleted for its age can't be had back, and a clock that
    /// has just been set forward, rightly or not, is no proof of age.
    pub fn now(&self) -> UnixMillis {
        let passed = now().since(self.since).as_micros() / 1_000;
        self.began.plus(i64::try_from(passed).unwrap_or(i64::MAX)).min(UnixMillis::now())
    }
}

#[cfg(test)]
mod tests {
    use super::Calendar;
    use crate::id::UnixMillis;

    const HOUR: i64 = 60 * 60 * 1_000;

    #[test]
    fn a_clock_that_was_set_forward_is_not_believed_and_one_that_was_set_back_is() {
        let now = UnixMillis::now();
        let behind = Calendar::from(now.plus(-HOUR)).now();
        assert!((now.plus(-HOUR)..now).contains(&behind), "{behind:?}");
        let ahead = Calendar::from(now.plus(HOUR)).now();
        assert!((now..now.plus(HOUR)).contains(&ahead), "{ahead:?}");
    }
}
