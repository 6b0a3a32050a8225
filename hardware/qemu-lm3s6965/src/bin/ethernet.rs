//! The agent over TLS, by Ethernet. UART 0 shows a person where it stands.

#![no_std]
#![no_main]

use core::pin::pin;

use cortex_m_rt::entry;
use firmware::console::Console;
use firmware::example::serve_by_tls;
use firmware::executor;
use firmware::network::Room;
use qemu_lm3s6965::PERIOD;

#[entry]
fn main() -> ! {
    let (board, port, ethernet) = qemu_lm3s6965::start_networked();
    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([pin!(serve_by_tls(&board, &network, PERIOD, Console(port))), pin!(stack)])
}
