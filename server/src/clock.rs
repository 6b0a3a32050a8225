//! The two clocks: one that never jumps, for sessions, and the calendar's, for people (see `store`).

use protocol_core::time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Now, on the clock that goes on while the machine is suspended.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}
