//! Firmware for ST's Nucleo-H743ZI2: the agent over TLS, by the chip's own Ethernet.
//!
//! USART 3, which the board's ST-LINK shows as a serial port over USB, shows where it stands, at 115,200 baud.

#![no_std]
#![no_main]

mod flash;

use core::cell::RefCell;
use core::pin::pin;

use agent_embedded::board::{Board, Clock, ResetReason};
use cortex_m_rt::entry;
use embassy_stm32::eth::{self, Ethernet, PacketQueue};
use embassy_stm32::flash::Flash;
use embassy_stm32::mode::Blocking;
use embassy_stm32::peripherals::{IWDG1, RNG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::usart::UartTx;
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{bind_interrupts, pac, rcc, uid};
use embedded_io_async::ErrorKind;
use firmware::console::Console;
use firmware::embassy_clock::EmbassyClock;
use firmware::example::serve_by_tls;
use firmware::flash::Sectors;
use firmware::network::Room;
use firmware::{executor, retained};
use protocol_core::provisioning::LENGTH;
use protocol_core::time;

use crate::flash::SafeFlash;

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

/// Where the sectors of the provisioning block begin (`memory.x`), in bytes from the start of the flash.
const PROVISIONING: u32 = (2048 - 384) * 1024;

/// How long the watchdog waits, in microseconds.
const WATCHDOG: u32 = 16_000_000;

/// How often the example sends its number.
const PERIOD: time::Duration = time::Duration::from_secs(60);

/// The board.
struct Stm32 {
    watchdog: RefCell<IndependentWatchdog<'static, IWDG1>>,
    random: RefCell<Rng<'static, RNG>>,
    sectors: Sectors<SafeFlash>,
    reset_reason: ResetReason,
}

/// Why the chip starts. What was noted counts only if it was no power cut: the RAM holds anything then.
fn reset_reason() -> ResetReason {
    let flags = pac::RCC.rsr().read();
    pac::RCC.rsr().modify(|flags| flags.set_rmvf(true));
    let noted = retained::take();
    match noted {
        _ if flags.porrstf() => ResetReason::PowerOn,
        Some(reason) => reason,
        None if flags.iwdg1rstf() => ResetReason::Watchdog,
        None if flags.sftrstf() => ResetReason::Software,
        None if flags.borrstf() => ResetReason::BrownOut,
        None if flags.pinrstf() => ResetReason::Pin,
        None => ResetReason::Unknown,
    }
}

impl Clock for Stm32 {
    fn now(&self) -> time::Instant {
        EmbassyClock.now()
    }

    fn sleep_until(&self, at: time::Instant) -> impl Future<Output = ()> {
        EmbassyClock.sleep_until(at)
    }
}

impl Board for Stm32 {
    fn fill_random(&self, bytes: &mut [u8]) {
        self.random.borrow_mut().fill_bytes(bytes);
    }

    fn feed_watchdog(&self) {
        self.watchdog.borrow_mut().pet();
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
struct Serial(RefCell<UartTx<'static, Blocking>>);

impl firmware::uart::Port for Serial {
    fn transmit(&self, byte: u8) -> bool {
        // A fault of the console is no reason to wait.
        _ = self.0.borrow_mut().blocking_write(&[byte]);
        true
    }
}

#[entry]
fn main() -> ! {
    let pins = embassy_stm32::init(clocks());
    let reset_reason = reset_reason();
    let mut watchdog = IndependentWatchdog::new(pins.IWDG1, WATCHDOG);
    watchdog.unleash();
    // It is there: nobody else takes it.
    let Some(mut core) = cortex_m::Peripherals::take() else { panic!() };
    let flash = SafeFlash::new(Flash::new_blocking(pins.FLASH), &mut core.SCB);
    let board = Stm32 {
        watchdog: RefCell::new(watchdog),
        random: RefCell::new(Rng::new(pins.RNG, Interrupts)),
        sectors: Sectors::new(flash, PROVISIONING),
        reset_reason,
    };
    // The rate is one that it has.
    let Ok(uart) = UartTx::new_blocking(pins.USART3, pins.PD8, Default::default()) else { panic!() };
    let console = Console(Serial(RefCell::new(uart)));

    let mut queue = PacketQueue::<4, 4>::new();
    let ethernet = Ethernet::new(
        &mut queue,
        pins.ETH,
        Interrupts,
        pins.PA1,
        pins.PA7,
        pins.PC4,
        pins.PC5,
        pins.PG13,
        pins.PB13,
        pins.PG11,
        hardware_address(),
        pins.ETH_SMA,
        pins.PA2,
        pins.PC1,
    );

    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([pin!(serve_by_tls(&board, &network, PERIOD, console)), pin!(stack)])
}

/// 400 MHz from the chip's own oscillator, and 48 MHz for the random numbers.
fn clocks() -> embassy_stm32::Config {
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi = Some(rcc::HSIPrescaler::DIV1);
    config.rcc.hsi48 = Some(Default::default());
    config.rcc.pll1 = Some(rcc::Pll {
        source: rcc::PllSource::HSI,
        prediv: rcc::PllPreDiv::DIV4,
        mul: rcc::PllMul::MUL50,
        fracn: None,
        divp: Some(rcc::PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = rcc::Sysclk::PLL1_P;
    config.rcc.ahb_pre = rcc::AHBPrescaler::DIV2;
    config.rcc.apb1_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb2_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb3_pre = rcc::APBPrescaler::DIV2;
    config.rcc.apb4_pre = rcc::APBPrescaler::DIV2;
    config.rcc.voltage_scale = rcc::VoltageScale::Scale1;
    config
}

/// The chip has no hardware address: a locally administered one, from its serial number.
fn hardware_address() -> [u8; 6] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = uid::uid();
    [((a ^ g) & 0xFC) | 0x02, b ^ h, c ^ i, d ^ j, e ^ k, f ^ l]
}
