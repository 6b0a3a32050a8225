//! Access to the devices' registers: the one place that reads and writes them.

use core::ptr;

/// A register of the LM3S6965.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(usize);

impl Register {
    /// The register at `offset` of the device at `base`: addresses of 32-bit registers in the data sheet, nothing else.
    pub(crate) const fn new(base: usize, offset: usize) -> Self {
        Self(base + offset)
    }

    pub(crate) fn read(self) -> u32 {
        // SAFETY: it is the address of a device's register, aligned, which no Rust value stands at.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    pub(crate) fn write(self, value: u32) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }
}
