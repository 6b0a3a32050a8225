//! Time, as the caller passes it in: this crate reads no clock.

use core::time;

/// A moment on the caller's monotonic clock, in microseconds since a start of the caller's choice.
///
/// The clock should go on while the machine is suspended (`CLOCK_BOOTTIME`), so that a device
/// that slept knows that its server has given it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// A moment that no clock reaches.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `micros` microseconds after the clock's start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the clock's start.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment `duration` later; [`Instant::NEVER`] where that can't be told.
    #[must_use]
    #[inline(never)]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// The moment `duration` earlier; the clock's start where there is none.
    #[must_use]
    pub const fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }

    /// How long before this moment `earlier` was; zero if it was not before.
    #[inline(never)]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// `millis` milliseconds.
    pub const fn from_millis(millis: u32) -> Self {
        // A u32 times 1,000 always fits a u64, as it does times 1,000,000.
        Self((millis as u64).wrapping_mul(1_000))
    }

    /// `seconds` seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self((seconds as u64).wrapping_mul(1_000_000))
    }

    /// The span in microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Both spans, one after the other.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_micros(duration.0)
    }
}
