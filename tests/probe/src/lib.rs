//! Binaries for microcontrollers that link only if `protocol-core` and `agent-embedded` can't panic and don't
//! allocate (`cargo xtask probe`). On the host they do nothing.
//!
//! A panic would call a function that nobody defines, and there is no allocator: with either within
//! reach, after the optimiser has done its work, the linker gives up. What comes from outside passes
//! through [`black_box`], so that the optimiser knows nothing of it.

#![no_std]

pub mod parts;

use core::hint::black_box;

/// Bytes from outside, a buffer, and a moment.
#[derive(Debug)]
pub struct Outside<'a> {
    /// What came.
    pub input: &'a [u8],
    /// Room for what goes out.
    pub output: &'a mut [u8],
    /// Any number.
    pub number: u64,
}

/// Runs `part` with what the optimiser knows nothing of.
pub fn run(part: impl FnOnce(Outside<'_>)) {
    let input = black_box([0_u8; 512]);
    let mut output = black_box([0_u8; 512]);
    let number = black_box(0_u64);
    part(Outside { input: black_box(&input), output: black_box(&mut output), number });
    black_box(&output);
}

/// Makes a binary of one part: its entry on a microcontroller, and a `main` for hosts.
#[macro_export]
macro_rules! probe {
    ($part:path) => {
        // The linker finds the entry by its name.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            $crate::run($part);
            loop {
                core::hint::spin_loop();
            }
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn($crate::Outside<'_>) = $part;
        }
    };
}

/// Makes a binary of a part that is `async`: one panic is within its reach, that of a future that is polled again after
/// it has ended. No peer's bytes can lead there, and `cargo xtask probe` looks that there is no other.
#[macro_export]
macro_rules! async_probe {
    ($part:path) => {
        $crate::probe!($part);

        // The panic handler's, which else nobody defines.
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn a_panic_is_within_reach() -> ! {
            loop {
                core::hint::spin_loop();
            }
        }
    };
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Else all ways to panic look the same to the linker, which makes one of them.
    black_box(info);
    unsafe extern "C" {
        fn a_panic_is_within_reach() -> !;
    }
    // SAFETY: nobody defines it, so that a binary that would call it is never made.
    unsafe { a_panic_is_within_reach() }
}
