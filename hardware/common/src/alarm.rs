//! One timer for all who sleep.

use core::cell::Cell;
use core::future::poll_fn;
use core::task::Poll;

use critical_section::Mutex;
use protocol_core::time::{Duration, Instant};

use crate::executor;

/// When a timer's interrupt is to come: at the earliest moment that anybody waits for. Whoever waits for a later one is
/// woken with all others, and asks again.
pub type Alarm = Mutex<Cell<Instant>>;

/// Nobody waits.
pub const fn unset() -> Alarm {
    Mutex::new(Cell::new(Instant::NEVER))
}

/// A chip's clock, and the timer that goes with it.
pub trait Timer {
    /// The timer's.
    fn alarm() -> &'static Alarm;

    /// The time since the start.
    fn now() -> Instant;

    /// Has the timer's interrupt come after `wait`, or before.
    fn set(wait: Duration);
}

/// Waits until `moment`.
pub fn sleep_until<T: Timer>(moment: Instant) -> impl Future<Output = ()> {
    poll_fn(move |_| poll::<T>(moment))
}

// Not a copy of it at each of its many callers.
#[inline(never)]
fn poll<T: Timer>(moment: Instant) -> Poll<()> {
    if T::now() >= moment {
        return Poll::Ready(());
    }
    wake_at::<T>(moment);
    Poll::Pending
}

/// Has the executor woken at `moment`, or before.
pub fn wake_at<T: Timer>(moment: Instant) {
    critical_section::with(|section| {
        let at = T::alarm().borrow(section);
        if moment < at.get() {
            at.set(moment);
            T::set(moment.since(T::now()));
        }
    });
}

/// For the timer's interrupt.
pub fn rang<T: Timer>() {
    critical_section::with(|section| T::alarm().borrow(section).set(Instant::NEVER));
    executor::wake();
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};
    use core::task::{Context, Waker};
    use std::pin::pin;

    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(0);
    static SET: AtomicU64 = AtomicU64::new(0);
    static ALARM: Alarm = unset();

    struct Fake;

    impl Timer for Fake {
        fn alarm() -> &'static Alarm {
            &ALARM
        }

        fn now() -> Instant {
            Instant::from_micros(NOW.load(Ordering::Relaxed))
        }

        fn set(wait: Duration) {
            SET.store(wait.as_micros(), Ordering::Relaxed);
        }
    }

    #[test]
    fn the_timer_is_set_for_the_earliest_and_then_for_the_next() {
        let [mut late, mut early] = [pin!(until(900)), pin!(until(300))];
        let mut context = Context::from_waker(Waker::noop());
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert_eq!(SET.load(Ordering::Relaxed), 900);
        assert!(early.as_mut().poll(&mut context).is_pending());
        assert_eq!(SET.load(Ordering::Relaxed), 300);
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert_eq!(SET.load(Ordering::Relaxed), 300, "one who waits for longer does not put it off");

        NOW.store(300, Ordering::Relaxed);
        rang::<Fake>();
        assert!(early.as_mut().poll(&mut context).is_ready());
        assert!(late.as_mut().poll(&mut context).is_pending());
        assert_eq!(SET.load(Ordering::Relaxed), 600);
    }

    fn until(micros: u64) -> impl Future<Output = ()> {
        sleep_until::<Fake>(Instant::from_micros(micros))
    }
}
