//! Waiting for what must come to be, with a limit.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for what should happen soon, on a machine that is busy.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, and gives that back; nothing if it does not within `time_limit`.
pub fn find<T>(time_limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time_limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(EVERY);
    }
}

/// Waits until `look` gives what is good by `is_good`, and gives that back.
///
/// # Panics
/// It does not within [`LONGEST_WAIT`]: the message says what was waited for, and what came last.
#[track_caller]
pub fn until<T: Debug>(what: &str, mut look: impl FnMut() -> T, is_good: impl Fn(&T) -> bool) -> T {
    let mut last = None;
    let found = find(LONGEST_WAIT, || {
        let now = look();
        match is_good(&now) {
            true => Some(now),
            false => {
                last = Some(now);
                None
            }
        }
    });
    // Not within a closure: the place that is told is that of the caller.
    let Some(found) = found else {
        panic!("waited {LONGEST_WAIT:?} in vain until {what}; in the end it was {last:#?}");
    };
    found
}

/// Waits until `look` says yes.
///
/// # Panics
/// It does not within [`LONGEST_WAIT`].
#[track_caller]
pub fn until_true(what: &str, look: impl FnMut() -> bool) {
    until(what, look, |yes| *yes);
}
