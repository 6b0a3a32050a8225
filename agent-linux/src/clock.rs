//! Time: the monotonic clock that also counts sleep, the calendar, and an alarm on the former.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, SystemTime},
};

use protocol_core::time::Instant;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// The start of 2020 in milliseconds since 1970: a calendar before it was never set.
const CALENDAR_SET: u64 = 1_577_836_800_000;

/// Now, by the clock that goes on while the machine is suspended.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Instant::from_micros(seconds * 1_000_000 + nanos / 1_000)
}

/// The calendar, in milliseconds since 1970; 0 while the device does not know the time.
pub fn unix_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(0);
    if millis < CALENDAR_SET { 0 } else { millis }
}

/// A time in milliseconds since 1970 as people and programs read it: `2026-11-22T07:30:01.250Z`.
pub fn rfc3339(millis: u64) -> String {
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    // The calendar repeats each 400 years (146,097 days); counted from a March 1st, leap days come last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", of_day % 1_000)
}

/// The moment `wait` from now.
pub fn after(wait: Duration) -> Instant {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    now().after(protocol_core::time::Duration::from_micros(micros))
}

/// Wakes a task at a moment of [`now`]'s clock. Unlike the runtime's timers it rings at once when the
/// machine wakes after that moment.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Makes an alarm; it must be called within the runtime.
    ///
    /// # Errors
    /// The kernel has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor changes, which an OwnedFd's never does; what is to be used instead is unsafe"
        )]
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)? })
    }

    /// Waits until `moment`; for ever if there is none. Dropping the future forgets it.
    pub async fn until(&self, moment: Option<Instant>) {
        let Some(moment) = moment.filter(|moment| *moment != Instant::NEVER) else {
            return std::future::pending().await;
        };
        if self.ring_at(moment).await.is_err() {
            // A timer that can't be set is no reason to hang: look again soon.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn ring_at(&self, moment: Instant) -> io::Result<()> {
        // A time of zero would disarm the timer.
        let micros = moment.as_micros().max(1);
        let at = Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: (micros % 1_000_000) as i64 * 1_000,
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Itimerspec { it_interval: never, it_value: at };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &times)?;
        let mut count = [0; 8];
        self.timer
            .async_io(Interest::READABLE, |timer| Ok(rustix::io::read(timer, &mut count)?))
            .await
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn an_alarm_rings_again_and_again_and_not_before_its_time() {
        let alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let moment = after(Duration::from_millis(20));
            alarm.until(Some(moment)).await;
            assert!(now() >= moment);
        }
        alarm.until(Some(Instant::from_micros(0))).await;
        let long = alarm.until(Some(after(Duration::from_secs(3600))));
        assert!(tokio::time::timeout(Duration::from_millis(50), long).await.is_err());
        let never = alarm.until(None);
        assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
    }

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(951_868_800_001), "2000-03-01T00:00:00.001Z");
        assert_eq!(rfc3339(CALENDAR_SET - 1), "2019-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(CALENDAR_SET), "2020-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn the_calendar_is_set_on_a_machine_that_runs_tests() {
        assert!(unix_time() > CALENDAR_SET);
    }
}
