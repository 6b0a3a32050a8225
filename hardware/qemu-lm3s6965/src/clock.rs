//! The time since the start: SysTick counts each second down, and timer 0 is the alarm that ends a sleep.

use core::cell::Cell;

use cortex_m::peripheral::{SCB, SYST, syst::SystClkSource};
use cortex_m_rt::exception;
use critical_section::Mutex;
use firmware::alarm::{self, Alarm, Timer};
use protocol_core::time::{Duration, Instant};

use crate::interrupts::{self, Interrupt};
use crate::registers::Register;

/// The processor's clock as it is after a reset of the emulated machine, in hertz.
pub(crate) const FREQUENCY: u32 = 12_500_000;

const TIMER0: usize = 0x4003_0000;
const MODE: Register = Register::new(TIMER0, 0x04);
const CONTROL: Register = Register::new(TIMER0, 0x0C);
const INTERRUPT_MASK: Register = Register::new(TIMER0, 0x18);
const INTERRUPT_CLEAR: Register = Register::new(TIMER0, 0x24);
const LOAD: Register = Register::new(TIMER0, 0x28);

/// Whole seconds since the start.
static SECONDS: Mutex<Cell<u32>> = Mutex::new(Cell::new(0));

static ALARM: Alarm = alarm::unset();

/// Starts the clock at 0.
pub(crate) fn start(mut systick: SYST) {
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(FREQUENCY - 1);
    systick.clear_current();
    systick.enable_interrupt();
    systick.enable_counter();
    // It stands at the end of a second until it has begun to count; the emulated one takes a while for that.
    while SYST::get_current() == 0 {}
    const ONE_SHOT: u32 = 1;
    MODE.write(ONE_SHOT);
    INTERRUPT_MASK.write(1);
    interrupts::enable(Interrupt::Timer0A);
}

/// The time since the start.
// Not a copy of it at each of its many callers.
#[inline(never)]
pub(crate) fn now() -> Instant {
    critical_section::with(|section| {
        let (mut seconds, mut left) = (SECONDS.borrow(section).get(), SYST::get_current());
        if SCB::is_pendst_pending() {
            // The second has ended, and its interrupt waits for the end of this section.
            (seconds, left) = (seconds.wrapping_add(1), SYST::get_current());
        }
        let micros = (FREQUENCY - 1).saturating_sub(left) * 2 / 25;
        Instant::from_micros(u64::from(seconds) * 1_000_000 + u64::from(micros))
    })
}

/// Waits until `moment`.
pub(crate) fn sleep_until(moment: Instant) -> impl Future<Output = ()> {
    alarm::sleep_until::<Timer0>(moment)
}

/// Has the executor woken at `moment`, or before.
pub(crate) fn wake_at(moment: Instant) {
    alarm::wake_at::<Timer0>(moment);
}

/// The longest time that the timer counts, in microseconds; a longer sleep has a break in it.
const LONGEST: u64 = 171_000_000;

struct Timer0;

impl Timer for Timer0 {
    fn alarm() -> &'static Alarm {
        &ALARM
    }

    fn now() -> Instant {
        now()
    }

    fn set(wait: Duration) {
        const ENABLED: u32 = 1;
        CONTROL.write(0);
        // Not 0, which would not count. 25 / 2 is `FREQUENCY` in megahertz.
        LOAD.write(wait.as_micros().min(LONGEST) as u32 * 25 / 2 + 1);
        CONTROL.write(ENABLED);
    }
}

const _: () = assert!(LONGEST * 25 <= u32::MAX as u64, "the product is of 32 bits");

#[exception]
fn SysTick() {
    critical_section::with(|section| {
        let seconds = SECONDS.borrow(section);
        seconds.set(seconds.get().wrapping_add(1));
    });
}

#[unsafe(no_mangle)]
extern "C" fn TIMER0A() {
    INTERRUPT_CLEAR.write(1);
    alarm::rang::<Timer0>();
}
