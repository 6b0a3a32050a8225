//! The board, as the agent knows it.

use agent_embedded::board::{Board, Clock, ResetReason};
use embedded_io_async::ErrorKind;
use firmware::retained;
use protocol_core::provisioning::LENGTH;
use protocol_core::time::Instant;

use crate::{clock, provisioning, semihosting, watchdog};

/// How long the watchdog waits, in seconds.
const WATCHDOG: u32 = 8;

/// The LM3S6965, as QEMU has it.
#[derive(Debug)]
pub struct Lm3s6965 {
    reset_reason: ResetReason,
}

impl Lm3s6965 {
    /// Starts clock and watchdog. To be called once.
    pub(crate) fn start() -> Self {
        // The emulated chip does not say itself why it starts. A reset of which nothing was noted is the watchdog's.
        let reset_reason = retained::take().unwrap_or(ResetReason::PowerOn);
        retained::note(ResetReason::Watchdog);
        if let Some(peripherals) = cortex_m::Peripherals::take() {
            clock::start(peripherals.SYST);
        }
        watchdog::start(WATCHDOG);
        Self { reset_reason }
    }
}

impl Clock for Lm3s6965 {
    fn now(&self) -> Instant {
        clock::now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        clock::sleep_until(at)
    }
}

impl Board for Lm3s6965 {
    fn fill_random(&self, bytes: &mut [u8]) {
        semihosting::fill_random(bytes);
    }

    fn feed_watchdog(&self) {
        watchdog::feed();
    }

    fn reset_reason(&self) -> ResetReason {
        self.reset_reason
    }

    fn reset(&self) {
        retained::reset()
    }

    fn load(&self, block: &mut [u8; LENGTH]) {
        provisioning::load(block);
    }

    fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        provisioning::store(block)
    }
}
