//! The watchdog: resets the device unless it is fed.

use crate::clock::FREQUENCY;
use crate::registers::Register;

const WATCHDOG: usize = 0x4000_0000;
const LOAD: Register = Register::new(WATCHDOG, 0x00);
const CONTROL: Register = Register::new(WATCHDOG, 0x08);
const INTERRUPT_CLEAR: Register = Register::new(WATCHDOG, 0x0C);

/// Starts it; it can't be stopped again. It resets the device `seconds` after it was last fed, at most 680.
pub(crate) fn start(seconds: u32) {
    const INTERRUPT: u32 = 1;
    const RESET: u32 = 2;
    // It counts twice: at the end of the first count it would interrupt, at that of the second it resets.
    LOAD.write(seconds.saturating_mul(FREQUENCY / 2));
    CONTROL.write(INTERRUPT | RESET);
}

/// Has it begin to count anew.
pub(crate) fn feed() {
    INTERRUPT_CLEAR.write(1);
}
