//! What outlives a reset: why there was one.

use agent_embedded::board::ResetReason;
use core::sync::atomic::{AtomicU32, Ordering};

/// In RAM that no start-up code writes. After power on it holds anything.
#[cfg_attr(target_arch = "arm", unsafe(link_section = ".uninit.retained"))]
#[cfg_attr(target_arch = "riscv32", unsafe(link_section = ".rtc_fast.persistent"))]
static RETAINED: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Stands before a reason that was noted, its complement behind it: nothing that is there by chance looks so.
const MARK: u32 = 0x4846_0000;

/// Notes the reason of the next reset.
pub fn note(reason: ResetReason) {
    let value = MARK | reason as u32;
    RETAINED[0].store(value, Ordering::Relaxed);
    RETAINED[1].store(!value, Ordering::Relaxed);
}

/// Starts the device anew, as it was told to.
#[cfg(all(target_arch = "arm", target_os = "none"))]
pub fn reset() -> ! {
    note(ResetReason::Software);
    cortex_m::peripheral::SCB::sys_reset()
}

/// Takes the reason that was noted before the reset; nothing after power on.
pub fn take() -> Option<ResetReason> {
    let [value, complement] = RETAINED.each_ref().map(|word| word.load(Ordering::Relaxed));
    RETAINED[1].store(value, Ordering::Relaxed);
    const NOTED: [ResetReason; 3] = [ResetReason::Watchdog, ResetReason::Software, ResetReason::Panic];
    NOTED.into_iter().find(|reason| value == MARK | *reason as u32 && complement == !value)
}
