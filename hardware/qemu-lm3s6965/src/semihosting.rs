//! What the emulator offers beside the machine: files of the host, and its own end, by ARM's semihosting.
//!
//! QEMU must be started with `-semihosting-config enable=on,target=native`; without it the first call ends in a fault.

use core::arch::asm;

const OPEN: u32 = 0x01;
const CLOSE: u32 = 0x02;
const WRITE: u32 = 0x05;
const READ: u32 = 0x06;
const EXIT: u32 = 0x20;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Read = 1,
    Write = 5,
}

/// Calls the host: one operation with its parameters, as ARM's "Semihosting for AArch32 and AArch64" names them.
///
/// # Safety
/// The parameters are those of the operation, and what they point to is there, and writable where it writes.
unsafe fn call(operation: u32, parameters: &[usize; 3]) -> i32 {
    let mut result = operation;
    // SAFETY: the breakpoint is taken by the host, which changes r0 and what the caller has vouched for.
    unsafe { asm!("bkpt #0xAB", inout("r0") result, in("r1") parameters, options(nostack)) }
    result as i32
}

/// A file of the host.
#[derive(Debug)]
struct File(usize);

impl File {
    /// `name` ends with a zero.
    fn open(name: &core::ffi::CStr, mode: Mode) -> Option<Self> {
        let parameters = [name.as_ptr() as usize, mode as usize, name.count_bytes()];
        // SAFETY: it reads the name, whose length is given.
        let handle = unsafe { call(OPEN, &parameters) };
        usize::try_from(handle).ok().map(Self)
    }

    /// Gives how many bytes came.
    fn read(&self, buffer: &mut [u8]) -> usize {
        let parameters = [self.0, buffer.as_mut_ptr() as usize, buffer.len()];
        // SAFETY: it writes to the buffer, whose length is given.
        let missing = unsafe { call(READ, &parameters) };
        buffer.len().saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX))
    }

    /// Gives whether all was written.
    fn write(&self, bytes: &[u8]) -> bool {
        let parameters = [self.0, bytes.as_ptr() as usize, bytes.len()];
        // SAFETY: it reads the bytes, whose length is given.
        unsafe { call(WRITE, &parameters) == 0 }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody has it any more.
        unsafe { call(CLOSE, &[self.0, 0, 0]) };
    }
}

/// Fills `bytes` with random ones from the host, fit for keys.
///
/// Without them the device can't go on: it panics, and starts anew.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    let count = File::open(c"/dev/urandom", Mode::Read).map_or(0, |file| file.read(bytes));
    assert!(count == bytes.len(), "the host has no entropy");
}

/// Reads the file `name` of the directory that QEMU runs in: gives how many bytes came, 0 if there is no such file.
pub(crate) fn read_file(name: &core::ffi::CStr, buffer: &mut [u8]) -> usize {
    File::open(name, Mode::Read).map_or(0, |file| file.read(buffer))
}

/// Writes the file `name` of the directory that QEMU runs in: gives whether that could be done.
pub(crate) fn write_file(name: &core::ffi::CStr, bytes: &[u8]) -> bool {
    File::open(name, Mode::Write).is_some_and(|file| file.write(bytes))
}

/// Ends QEMU, with exit code 0 or 1.
pub fn exit(is_success: bool) -> ! {
    const APPLICATION_EXIT: usize = 0x20026;
    loop {
        // SAFETY: it takes two numbers.
        unsafe { call(EXIT, &[APPLICATION_EXIT, usize::from(!is_success), 0]) };
    }
}
