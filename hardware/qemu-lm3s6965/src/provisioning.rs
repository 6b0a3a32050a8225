//! The provisioning block: in the last page of flash, where QEMU's `loader` has put it, or what it was changed to since.
//!
//! The emulated flash can't be written. So a changed block is kept in a file of the host.

use core::ffi::CStr;

use embedded_io_async::ErrorKind;
use protocol_core::provisioning::{LENGTH, Provisioning};

use crate::semihosting;

const CHANGED: &CStr = c"provisioning.changed";

unsafe extern "C" {
    // Of the linker script.
    static _provisioning_start: [u8; LENGTH];
}

/// Reads the block: a changed one counts only if it is of the device whose block is in flash.
pub(crate) fn load(block: &mut [u8; LENGTH]) {
    // SAFETY: the linker script keeps these bytes of flash free for it.
    let flash = unsafe { &_provisioning_start };
    *block = *flash;
    let mut changed = [0; LENGTH];
    if semihosting::read_file(CHANGED, &mut changed) == LENGTH
        && let (Ok(was), Ok(is)) = (Provisioning::decode(flash), Provisioning::decode(&changed))
        && was.key == is.key
    {
        *block = changed;
    }
}

/// Keeps a changed block.
pub(crate) fn store(block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
    if semihosting::write_file(CHANGED, block) { Ok(()) } else { Err(ErrorKind::Other) }
}
