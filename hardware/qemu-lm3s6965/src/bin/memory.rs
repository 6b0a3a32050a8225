//! Holds `firmware`'s own copying, filling and comparing of memory against plain loops, on the processor that it is written
//! for. UART 0 shows what it found; QEMU ends with exit code 0 if all is as it should be, else with 1.

#![no_std]
#![no_main]

use core::arch::asm;
use core::cmp::Ordering;
use core::fmt::{self, Write};
use core::hint::black_box;

use agent_embedded::board::Board;
use cortex_m_rt::entry;
use firmware::console::Console;
use qemu_lm3s6965::{Lm3s6965, semihosting};

type Copy = unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8;
type Fill = unsafe extern "C" fn(*mut u8, i32, usize) -> *mut u8;
type FillOther = unsafe extern "C" fn(*mut u8, usize, i32);
type Clear = unsafe extern "C" fn(*mut u8, usize);
type Compare = unsafe extern "C" fn(*const u8, *const u8, usize) -> i32;

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memcpy4(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memcpy8(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memmove4(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn __aeabi_memmove8(to: *mut u8, from: *const u8, length: usize) -> *mut u8;
    fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8;
    fn __aeabi_memset(to: *mut u8, length: usize, byte: i32);
    fn __aeabi_memset4(to: *mut u8, length: usize, byte: i32);
    fn __aeabi_memset8(to: *mut u8, length: usize, byte: i32);
    fn __aeabi_memclr(to: *mut u8, length: usize);
    fn __aeabi_memclr4(to: *mut u8, length: usize);
    fn __aeabi_memclr8(to: *mut u8, length: usize);
    fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32;
    fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32;
}

/// By the addresses of functions the compiler can't take their calls for what it knows of their names.
const COPY: [Copy; 4] = [memcpy, __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8];
const MOVE: [Copy; 4] = [memmove, __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8];
const FILL: Fill = memset;
const FILL_OTHER: [FillOther; 3] = [__aeabi_memset, __aeabi_memset4, __aeabi_memset8];
const CLEAR: [Clear; 3] = [__aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8];
const COMPARE: [Compare; 2] = [memcmp, bcmp];

/// What all of them together take at most, in bytes. The compiler's own stand elsewhere, and take 3 KB.
const SIZE: usize = 256;

/// The lengths of which each is tried at each alignment.
const LENGTHS: core::ops::RangeInclusive<usize> = 0..=72;

/// The largest length.
const LARGE: usize = 2_000;

/// How much memory the lengths up to the last of [`LENGTHS`] need, and how much the largest.
const NEAR: usize = 256;
const FAR: usize = 2 * LARGE + 64;

/// How far apart two pieces of memory are of which one is moved over the other, besides 0.
const DISTANCES: [usize; 10] = [1, 2, 3, 4, 5, 8, 11, 16, 31, 64];

#[entry]
fn main() -> ! {
    let (board, uart) = qemu_lm3s6965::start();
    let mut console = Console(uart.port);
    let mut trial = Trial { board, cases: 0, tried: Memory::new(), expected: Memory::new() };
    let result = trial.run();
    // A console does not fail.
    _ = match &result {
        Ok(()) => write!(console, "memory is as expected in {} cases\r\n", trial.cases),
        Err(wrong) => write!(console, "memory is wrong: {wrong}\r\n"),
    };
    semihosting::exit(result.is_ok())
}

/// What went wrong, and where.
struct Wrong {
    what: &'static str,
    to: usize,
    from: usize,
    length: usize,
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, to, from, length } = self;
        write!(formatter, "{what}, {length} bytes from {from} to {to}")
    }
}

/// Aligned as no access of the processor needs it to be more.
#[repr(align(8))]
struct Memory([u8; FAR]);

impl Memory {
    const fn new() -> Self {
        Self([0; _])
    }
}

/// A piece of memory that is tried on, and another that is handled by plain loops. After each case the two are equal as a
/// whole, what stands around the bytes in question included.
struct Trial {
    board: Lm3s6965,
    cases: u32,
    tried: Memory,
    expected: Memory,
}

impl Trial {
    fn run(&mut self) -> Result<(), Wrong> {
        addresses()?;
        for length in LENGTHS {
            for to in 0..8 {
                self.begin(NEAR);
                self.fill(to + 8, length)?;
                for from in 0..8 {
                    self.begin(NEAR);
                    self.copy("memcpy", COPY[0], 128 + to, 16 + from, length)?;
                    self.copy("memmove", MOVE[0], 16 + to, 128 + from, length)?;
                    self.compare(to + 8, from + 136, length)?;
                }
                for distance in DISTANCES {
                    self.begin(NEAR);
                    self.copy("memmove up", MOVE[0], 80 + to + distance, 80 + to, length)?;
                    self.begin(NEAR);
                    self.copy("memmove down", MOVE[0], 80 + to - distance, 80 + to, length)?;
                }
            }
        }
        self.large()
    }

    /// Much at once, and upon itself.
    fn large(&mut self) -> Result<(), Wrong> {
        for (to, from) in [(8, 8), (8, 9), (9, 8), (11, 11)] {
            for length in [LARGE - 3, LARGE] {
                self.begin(FAR);
                self.copy("memcpy", COPY[0], to, LARGE + 16 + from, length)?;
                self.copy("memmove up", MOVE[0], to + 4, from, length)?;
                self.copy("memmove down", MOVE[0], to, from + 5, length)?;
                self.copy("memmove onto itself", MOVE[0], to, to, length)?;
                self.compare(to, LARGE + 16 + from, length)?;
                self.fill(to, length)?;
            }
        }
        Ok(())
    }

    /// Fills so many bytes of both with the same random ones.
    fn begin(&mut self, bytes: usize) {
        let mut state = self.cases | 1;
        for (tried, expected) in self.tried.0.iter_mut().zip(&mut self.expected.0).take(bytes) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (*tried, *expected) = (state as u8, state as u8);
        }
    }

    fn copy(
        &mut self,
        what: &'static str,
        copy: Copy,
        to: usize,
        from: usize,
        length: usize,
    ) -> Result<(), Wrong> {
        let wrong = Wrong { what, to, from, length };
        let start = self.tried.0.as_mut_ptr();
        let (target, source) = (start.wrapping_add(to), start.wrapping_add(from));
        // SAFETY: both pieces are in the array; what `memcpy` gets does not overlap.
        let given = unsafe { black_box(copy)(target, source, length) };
        for index in 0..length {
            // The bytes as they were before: from that end that is not overwritten yet.
            let index = if to > from { length - 1 - index } else { index };
            self.expected.0[to + index] = black_box(self.expected.0[from + index]);
        }
        self.check(given == target, wrong)
    }

    fn fill(&mut self, to: usize, length: usize) -> Result<(), Wrong> {
        let target = self.tried.0.as_mut_ptr().wrapping_add(to);
        let wrong = |what| Wrong { what, to, from: 0, length };
        // Of the number only the lowest byte counts.
        for byte in [0x15A_i32, 0, -1] {
            // SAFETY: the bytes are in the array.
            let given = unsafe { black_box(FILL)(target, byte, length) };
            self.expect_filled(to, length, byte as u8);
            self.check(given == target, wrong("memset"))?;
        }
        // SAFETY: as above.
        unsafe { black_box(FILL_OTHER[0])(target, length, 0x2C3) };
        self.expect_filled(to, length, 0xC3);
        self.check(true, wrong("__aeabi_memset"))?;
        // SAFETY: as above.
        unsafe { black_box(CLEAR[0])(target, length) };
        self.expect_filled(to, length, 0);
        self.check(true, wrong("__aeabi_memclr"))
    }

    fn expect_filled(&mut self, to: usize, length: usize, byte: u8) {
        for place in &mut self.expected.0[to..to + length] {
            *place = black_box(byte);
        }
    }

    /// Compares two pieces that are equal, and then differ in one byte, behind which they differ the other way round. Beyond
    /// their ends they differ always.
    fn compare(&mut self, one: usize, other: usize, length: usize) -> Result<(), Wrong> {
        for index in 0..length {
            self.tried.0[other + index] = black_box(self.tried.0[one + index]);
        }
        self.tried.0[other + length] = !self.tried.0[one + length];
        let mut is_right = self.compared(one, other, length) == Some(Ordering::Equal);
        if length > 0 {
            let at = self.cases as usize % length;
            for difference in [1, 0x80] {
                let byte = self.tried.0[one + at];
                self.tried.0[other + at] = byte ^ difference;
                let expected = byte.cmp(&(byte ^ difference));
                let behind = if expected.is_lt() { 0 } else { 0xFF };
                for index in at + 1..length {
                    self.tried.0[other + index] = black_box(behind);
                }
                is_right &= self.compared(one, other, length) == Some(expected);
                is_right &= self.compared(other, one, length) == Some(expected.reverse());
            }
        }
        for index in 0..=length {
            self.expected.0[other + index] = black_box(self.tried.0[other + index]);
        }
        self.check(is_right, Wrong { what: "memcmp", to: one, from: other, length })
    }

    /// What `memcmp` says; nothing if it has not left the caller's register as it was.
    fn compared(&self, one: usize, other: usize, length: usize) -> Option<Ordering> {
        let start = self.tried.0.as_ptr();
        let (mut result, mut kept) = (start.wrapping_add(one) as i32, self.cases);
        // SAFETY: both pieces are in the array, and it is called as a C function is.
        unsafe {
            asm!(
                "blx {compare}",
                compare = in(reg) COMPARE[0],
                inout("r0") result,
                in("r1") start.wrapping_add(other),
                in("r2") length,
                inout("r4") kept,
                clobber_abi("C"),
            );
        }
        (kept == self.cases).then_some(result.cmp(&0))
    }

    /// After a case.
    fn check(&mut self, is_right: bool, wrong: Wrong) -> Result<(), Wrong> {
        self.board.feed_watchdog();
        self.cases += 1;
        let end = (wrong.to.max(wrong.from) + wrong.length + 32).min(self.tried.0.len());
        let mut pairs = self.tried.0[..end].iter().zip(&self.expected.0[..end]);
        if is_right && pairs.all(|(tried, expected)| black_box(*tried) == *expected) {
            Ok(())
        } else {
            Err(wrong)
        }
    }
}

/// They are those of `firmware`, and not the compiler's: all of them stand close together, and names for the same stand for
/// the same.
fn addresses() -> Result<(), Wrong> {
    let copies = [COPY, MOVE].map(|functions| functions.map(|function| black_box(function) as usize));
    let fill = [black_box(FILL) as usize];
    let fills = FILL_OTHER.map(|function| black_box(function) as usize);
    let clears = CLEAR.map(|function| black_box(function) as usize);
    let compares = COMPARE.map(|function| black_box(function) as usize);
    let [copies, moves] = &copies;
    let names: [&[usize]; 6] = [copies, moves, &fill, &fills, &clears, &compares];
    let (low, high) =
        names.iter().fold((usize::MAX, 0), |(low, high), names| (low.min(names[0]), high.max(names[0])));
    let are_one = names.iter().all(|names| names.iter().all(|name| *name == names[0]));
    let wrong = Wrong { what: "names", to: high, from: low, length: 0 };
    if are_one && high - low < SIZE { Ok(()) } else { Err(wrong) }
}
