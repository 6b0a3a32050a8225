//! What a panic comes to: the reason is noted, and the watchdog, which nobody feeds any more, resets the device.
//!
//! So a fault that comes back at each start does so no more often than the watchdog's period.

use core::panic::PanicInfo;

use agent_embedded::board::ResetReason;

use crate::{executor, retained};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    retained::note(ResetReason::Panic);
    loop {
        executor::wait_for_interrupt();
    }
}
