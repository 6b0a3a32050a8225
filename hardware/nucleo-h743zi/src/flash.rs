//! The chip's flash, of which a word may be damaged.
//!
//! Beside each 32 bytes the chip keeps a check sum. Power that is cut while they are written leaves one that does not fit; the
//! chip then answers each read of them by a bus fault, and a device that reads them when it starts would never start again.

use core::arch::asm;

use cortex_m::peripheral::SCB;
use embassy_stm32::flash::{Blocking, Error, Flash};
use embassy_stm32::pac;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The second half of the flash, where the provisioning block is.
const BANK: usize = 1;

/// The flash. What is damaged can't be read, and nothing worse comes of it; it can be erased and written again.
pub(crate) struct SafeFlash(Flash<'static, Blocking>);

impl SafeFlash {
    pub(crate) fn new(flash: Flash<'static, Blocking>, scb: &mut SCB) -> Self {
        // Bus faults of reads are ignored where faults are masked: in `read`, and there alone.
        const BFHFNMIGN: u32 = 1 << 8;
        // SAFETY: no code runs with faults masked but that in `read`, which looks by itself whether there was one.
        unsafe { scb.ccr.modify(|control| control | BFHFNMIGN) };
        Self(flash)
    }
}

impl ErrorType for SafeFlash {
    type Error = Error;
}

impl ReadNorFlash for SafeFlash {
    const READ_SIZE: usize = Flash::<'static, Blocking>::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        forget_errors();
        // SAFETY: it masks interrupts and faults until below, which what stands in between does not need.
        unsafe { asm!("cpsid f", "isb", options(nostack, preserves_flags)) };
        let result = self.0.blocking_read(offset, bytes);
        cortex_m::asm::dsb();
        let is_damaged = pac::FLASH.bank(BANK).sr().read().dbeccerr();
        // SAFETY: as before the read, faults count again. Those of the read are over.
        unsafe { asm!("cpsie f", "isb", options(nostack, preserves_flags)) };
        forget_errors();
        if is_damaged { Err(Error::Prog) } else { result }
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for SafeFlash {
    const WRITE_SIZE: usize = Flash::<'static, Blocking>::WRITE_SIZE;
    const ERASE_SIZE: usize = Flash::<'static, Blocking>::ERASE_SIZE;

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        forget_errors();
        self.0.blocking_write(offset, bytes)
    }

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        forget_errors();
        self.0.blocking_erase(from, to)
    }
}

/// The chip keeps its errors until it is told to forget them, and `embassy-stm32` would take an old one for its own.
fn forget_errors() {
    pac::FLASH.bank(BANK).ccr().write(|errors| {
        errors.set_clr_wrperr(true);
        errors.set_clr_pgserr(true);
        errors.set_clr_strberr(true);
        errors.set_clr_incerr(true);
        errors.set_clr_operr(true);
        errors.set_clr_rdperr(true);
        errors.set_clr_rdserr(true);
        errors.set_clr_sneccerr(true);
        errors.set_clr_dbeccerr(true);
        errors.set_clr_crcrderr(true);
    });
}
