//! How much of the stack was ever used: it is painted at the start, and what is not the paint any more was used.

/// The most that the stack has held since the start, in bytes; 0 on a host, which only tests this.
pub fn high_water() -> usize {
    #[cfg(target_os = "none")]
    return painted::high_water();
    #[cfg(not(target_os = "none"))]
    return 0;
}

#[cfg(target_os = "none")]
mod painted {
    use core::ptr;

    /// The paint of `cortex-m-rt`, whose start-up code lays it on (feature `paint-stack`).
    const PAINT: u32 = 0xCCCC_CCCC;

    unsafe extern "C" {
        // Of the linker script: the stack grows from `_stack_start` down to `_stack_end`.
        static _stack_start: u32;
        static _stack_end: u32;
    }

    pub(super) fn high_water() -> usize {
        let (end, start) = (&raw const _stack_end, &raw const _stack_start);
        let mut lowest_used = end;
        // SAFETY: all words between the two are the stack's, in RAM and aligned. Volatile, because this function's own
        // frame is among them.
        while lowest_used < start && unsafe { ptr::read_volatile(lowest_used) } == PAINT {
            lowest_used = lowest_used.wrapping_add(1);
        }
        start as usize - lowest_used as usize
    }
}
