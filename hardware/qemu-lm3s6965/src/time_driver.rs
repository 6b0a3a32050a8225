//! The clock for embassy, whose ticks are its microseconds too.

use core::task::Waker;

use protocol_core::time::Instant;

use crate::clock;

#[derive(Debug)]
struct Clock;

impl embassy_time_driver::Driver for Clock {
    fn now(&self) -> u64 {
        clock::now().as_micros()
    }

    fn schedule_wake(&self, at: u64, _: &Waker) {
        // Its interrupt has every task polled, and whoever waits asks again then.
        clock::wake_at(Instant::from_micros(at));
    }
}

const _: () = assert!(embassy_time_driver::TICK_HZ == 1_000_000);

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock);
