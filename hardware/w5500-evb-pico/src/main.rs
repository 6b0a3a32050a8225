//! Firmware for WIZnet's W5500-EVB-Pico: the agent over TLS, by the W5500's Ethernet.
//!
//! UART 0 (GP0, 115,200 baud) shows where it stands.

#![no_std]
#![no_main]

use core::cell::RefCell;
use core::pin::pin;

use agent_embedded::board::{Board, Clock, ResetReason};
use cortex_m_rt::entry;
use embassy_net_wiznet::chip::W5500;
use embassy_rp::clocks::RoscRng;
use embassy_rp::flash::Flash;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, FLASH};
use embassy_rp::spi::{self, Spi};
use embassy_rp::uart::{self, UartTx};
use embassy_rp::watchdog::{self, Watchdog};
use embassy_rp::{bind_interrupts, dma, pac};
use embassy_time::{Delay, Duration};
use embedded_hal_bus::spi::ExclusiveDevice;
use embedded_io_async::ErrorKind;
use firmware::console::Console;
use firmware::embassy_clock::EmbassyClock;
use firmware::example::serve_by_tls;
use firmware::flash::Sectors;
use firmware::network::Room;
use firmware::{entropy, executor, retained};
use protocol_core::provisioning::LENGTH;
use protocol_core::time;

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

/// How much flash there is, in bytes.
const FLASH_SIZE: usize = 2 * 1024 * 1024;

/// Where the sectors of the provisioning block begin (`memory.x`).
const PROVISIONING: u32 = FLASH_SIZE as u32 - 3 * 4096;

/// How long the watchdog waits.
const WATCHDOG: Duration = Duration::from_secs(8);

/// How often the example sends its number.
const PERIOD: time::Duration = time::Duration::from_secs(60);

type OwnFlash = Flash<'static, FLASH, embassy_rp::flash::Blocking, FLASH_SIZE>;

/// The board.
struct Rp2040 {
    watchdog: RefCell<Watchdog>,
    sectors: Sectors<OwnFlash>,
    reset_reason: ResetReason,
}

impl Rp2040 {
    fn new(mut watchdog: Watchdog, flash: OwnFlash) -> Self {
        let reset_reason = retained::take().unwrap_or_else(|| reset_reason(&watchdog));
        watchdog.start(WATCHDOG);
        Self { watchdog: RefCell::new(watchdog), sectors: Sectors::new(flash, PROVISIONING), reset_reason }
    }
}

/// What the chip itself knows of its last reset.
fn reset_reason(watchdog: &Watchdog) -> ResetReason {
    let causes = pac::VREG_AND_CHIP_RESET.chip_reset().read();
    match watchdog.reset_reason() {
        Some(watchdog::ResetReason::TimedOut) => ResetReason::Watchdog,
        Some(watchdog::ResetReason::Forced) => ResetReason::Software,
        None if causes.had_run() => ResetReason::Pin,
        None if causes.had_por() => ResetReason::PowerOn,
        None => ResetReason::Unknown,
    }
}

impl Clock for Rp2040 {
    fn now(&self) -> time::Instant {
        EmbassyClock.now()
    }

    fn sleep_until(&self, at: time::Instant) -> impl Future<Output = ()> {
        EmbassyClock.sleep_until(at)
    }
}

impl Board for Rp2040 {
    fn fill_random(&self, bytes: &mut [u8]) {
        entropy::fill(bytes, RoscRng::next_u8);
    }

    fn feed_watchdog(&self) {
        self.watchdog.borrow_mut().feed(WATCHDOG);
    }

    fn reset_reason(&self) -> ResetReason {
        self.reset_reason
    }

    fn reset(&self) {
        retained::reset()
    }

    fn load(&self, block: &mut [u8; LENGTH]) {
        self.sectors.load(block);
    }

    fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        self.sectors.store(block)
    }
}

/// The UART that a person looks at.
struct Serial(RefCell<UartTx<'static, uart::Blocking>>);

impl firmware::uart::Port for Serial {
    fn transmit(&self, byte: u8) -> bool {
        // A fault of the console is no reason to wait.
        _ = self.0.borrow_mut().blocking_write(&[byte]);
        true
    }
}

#[entry]
fn main() -> ! {
    let pins = embassy_rp::init(Default::default());
    let mut flash = Flash::new_blocking(pins.FLASH);
    let address = hardware_address(&mut flash);
    let board = Rp2040::new(Watchdog::new(pins.WATCHDOG), flash);
    let mut console =
        Console(Serial(RefCell::new(UartTx::new_blocking(pins.UART0, pins.PIN_0, Default::default()))));

    let mut config = spi::Config::default();
    config.frequency = 20_000_000;
    let (clock, output, input) = (pins.PIN_18, pins.PIN_19, pins.PIN_16);
    let spi = Spi::new(pins.SPI0, clock, output, input, pins.DMA_CH0, pins.DMA_CH1, Interrupts, config);
    let (select, reset) = (Output::new(pins.PIN_17, Level::High), Output::new(pins.PIN_20, Level::High));
    let interrupt = Input::new(pins.PIN_21, Pull::Up);
    let Ok(device) = ExclusiveDevice::new(spi, select, Delay);
    let mut state = embassy_net_wiznet::State::<2, 2>::new();
    let started =
        embassy_net_wiznet::new::<_, _, W5500, _, _, _>(address, &mut state, device, interrupt, reset);
    let Ok((ethernet, driver)) = executor::block_on(started) else {
        console.line(format_args!("the W5500 does not answer"));
        panic!()
    };

    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([
        pin!(serve_by_tls(&board, &network, PERIOD, console)),
        pin!(stack),
        pin!(async { driver.run().await }),
    ])
}

/// An address for the W5500, which has none: locally administered, from the number of the flash chip.
fn hardware_address(flash: &mut OwnFlash) -> [u8; 6] {
    let mut number = [0; 8];
    // If it can't be read, the boards of one network have the same address. A reset is no help then.
    _ = flash.blocking_unique_id(&mut number);
    let [_, _, a, b, c, d, e, f] = number;
    [(a & 0xFC) | 0x02, b, c, d, e, f]
}
