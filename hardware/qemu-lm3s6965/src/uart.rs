//! UART 0, at 115,200 baud.

use firmware::uart;

use crate::clock::FREQUENCY;
use crate::interrupts::{self, Interrupt};
use crate::registers::Register;

const BASE: usize = 0x4000_C000;
const DATA: Register = Register::new(BASE, 0x00);
const FLAGS: Register = Register::new(BASE, 0x18);
const BAUD_WHOLE: Register = Register::new(BASE, 0x24);
const BAUD_FRACTION: Register = Register::new(BASE, 0x28);
const LINE_CONTROL: Register = Register::new(BASE, 0x2C);
const CONTROL: Register = Register::new(BASE, 0x30);
const INTERRUPT_MASK: Register = Register::new(BASE, 0x38);
const INTERRUPT_CLEAR: Register = Register::new(BASE, 0x44);

const FLAG_RECEIVER_EMPTY: u32 = 1 << 4;
const FLAG_TRANSMITTER_FULL: u32 = 1 << 5;

const INTERRUPT_RECEIVED: u32 = 1 << 4;
const INTERRUPT_TRANSMITTED: u32 = 1 << 5;
const INTERRUPT_QUIET: u32 = 1 << 6;

/// In bits a second.
const BAUD: u32 = 115_200;

/// Room for what came and was not read yet, in bytes.
const ROOM: usize = 192;

static RECEIVED: uart::Received<ROOM> = uart::Received::new();

/// The line.
pub type Uart = uart::Uart<Port, ROOM>;

/// Its registers.
#[derive(Debug)]
pub struct Port(());

/// Starts it. To be called once.
pub(crate) fn start() -> Uart {
    // In 64ths of a bit, of which each takes 16 clocks.
    const DIVISOR: u32 = (FREQUENCY * 4 + BAUD / 2) / BAUD;
    BAUD_WHOLE.write(DIVISOR / 64);
    BAUD_FRACTION.write(DIVISOR % 64);
    const EIGHT_BITS_BY_FIFO: u32 = 0b111 << 4;
    LINE_CONTROL.write(EIGHT_BITS_BY_FIFO);
    const ENABLED_BOTH_WAYS: u32 = 0b11 << 8 | 1;
    CONTROL.write(ENABLED_BOTH_WAYS);
    INTERRUPT_MASK.write(INTERRUPT_RECEIVED | INTERRUPT_QUIET);
    interrupts::enable(Interrupt::Uart0);
    Uart { port: Port(()), received: &RECEIVED }
}

impl uart::Port for Port {
    fn transmit(&self, byte: u8) -> bool {
        let has_room = FLAGS.read() & FLAG_TRANSMITTER_FULL == 0;
        if has_room {
            DATA.write(u32::from(byte));
        } else {
            INTERRUPT_MASK.write(INTERRUPT_RECEIVED | INTERRUPT_QUIET | INTERRUPT_TRANSMITTED);
        }
        has_room
    }
}

#[unsafe(no_mangle)]
extern "C" fn UART0() {
    INTERRUPT_CLEAR.write(INTERRUPT_RECEIVED | INTERRUPT_QUIET | INTERRUPT_TRANSMITTED);
    INTERRUPT_MASK.write(INTERRUPT_RECEIVED | INTERRUPT_QUIET);
    let next = || (FLAGS.read() & FLAG_RECEIVER_EMPTY == 0).then(|| DATA.read() as u8);
    // This wakes the writer as well.
    RECEIVED.push(core::iter::from_fn(next));
}
