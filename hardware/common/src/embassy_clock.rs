//! The time, on boards that embassy has a driver of the clock for.

use agent_embedded::board::Clock;
use embassy_time::Timer;
use protocol_core::time::Instant;

/// Embassy's clock, in microseconds since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyClock;

const _: () = assert!(embassy_time::TICK_HZ == 1_000_000, "its ticks are microseconds");

impl Clock for EmbassyClock {
    fn now(&self) -> Instant {
        Instant::from_micros(embassy_time::Instant::now().as_ticks())
    }

    async fn sleep_until(&self, at: Instant) {
        Timer::at(embassy_time::Instant::from_ticks(at.as_micros())).await;
    }
}
