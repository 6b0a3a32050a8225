//! How much of the stack was ever used: it is painted at the start, and what is not the paint any more was used.

/// The most that the stack has held since the start, in bytes; 0 on a host, which only tests this.
pub fn high_water() -> usize {
    #[cfg(target_os = "none")]
    return painted::high_water();
    #[cfg(not(target_os = "none"))]
    return 0;
}

#[cfg(all(target_arch = "riscv32", target_os = "none"))]
pub use painted::paint;

#[cfg(target_os = "none")]
mod painted {
    use core::ptr;

    /// The paint of `cortex-m-rt`, whose start-up code lays it on (feature `paint-stack`).
    const PAINT: u32 = 0xCCCC_CCCC;

    /// How many words at the stack's end are not painted: on RISC-V the start-up code of `esp-hal` keeps its guard there.
    const GUARDED: usize = if cfg!(target_arch = "riscv32") { 16 } else { 0 };

    unsafe extern "C" {
        // Of the linker script: the stack grows from `_stack_start` down to `_stack_end`.
        static _stack_start: u32;
        static mut _stack_end: u32;
    }

    /// The lowest word that is painted.
    fn end() -> *mut u32 {
        (&raw mut _stack_end).wrapping_add(GUARDED)
    }

    /// Paints what is free of the stack, where the start-up code does not do that. To be called first of all.
    #[cfg(target_arch = "riscv32")]
    pub fn paint() {
        let mut word = end();
        let pointer: *mut u32;
        // SAFETY: it only reads a register.
        unsafe { core::arch::asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
        while word < pointer {
            // SAFETY: the words below the stack's pointer are the stack's, in RAM and aligned, and hold nothing.
            unsafe { ptr::write_volatile(word, PAINT) };
            word = word.wrapping_add(1);
        }
    }

    pub(super) fn high_water() -> usize {
        let start = &raw const _stack_start;
        let mut lowest_used = end().cast_const();
        // SAFETY: all words between the two are the stack's, in RAM and aligned. Volatile, because this function's own
        // frame is among them.
        while lowest_used < start && unsafe { ptr::read_volatile(lowest_used) } == PAINT {
            lowest_used = lowest_used.wrapping_add(1);
        }
        start as usize - lowest_used as usize
    }
}
