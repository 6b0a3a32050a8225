//! Which interrupts there are, and the part of the vector table that calls them.

use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};

/// An interrupt that a driver here uses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interrupt {
    Uart0 = 5,
    Timer0A = 19,
    Ethernet = 42,
}

// SAFETY: the numbers are those of the data sheet, each another one, and don't change.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// From now on the interrupt's function is called. It must be of use at any moment, but within a critical section.
pub(crate) fn enable(interrupt: Interrupt) {
    // SAFETY: no critical section here is made by masking single interrupts.
    unsafe { NVIC::unmask(interrupt) }
}

unsafe extern "C" {
    // Defined by the driver, or by `device.x` where a binary has no use for it.
    fn UART0();
    fn TIMER0A();
    fn ETHERNET();
}

type Vector = Option<unsafe extern "C" fn()>;

/// The vectors of the interrupts; those that nobody enables are left empty.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [Vector; 43] = {
    let mut vectors = [None::<unsafe extern "C" fn()>; 43];
    vectors[Interrupt::Uart0 as usize] = Some(UART0);
    vectors[Interrupt::Timer0A as usize] = Some(TIMER0A);
    vectors[Interrupt::Ethernet as usize] = Some(ETHERNET);
    vectors
};
