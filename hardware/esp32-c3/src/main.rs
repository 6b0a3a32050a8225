//! The agent on an ESP32-C3: UART 1 is the line to a gateway, UART 0 shows a person where the agent stands.

#![no_std]
#![no_main]

use core::cell::RefCell;
use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::board::{Board, Clock, Connect, ResetReason};
use agent_embedded::security::Plain;
use critical_section::Mutex;
use esp_hal::peripherals::Peripherals;
use esp_hal::rng::{Rng, TrngSource};
use esp_hal::rtc_cntl::{Rtc, Rwdt, RwdtStage, RwdtStageAction, SocResetReason};
use esp_hal::time::Duration;
use esp_hal::timer::OneShotTimer;
use esp_hal::timer::systimer::SystemTimer;
use esp_hal::uart::{Config, RxConfig, Uart, UartInterrupt, UartTx};
use esp_hal::{Blocking, handler, system};
use firmware::alarm::{self, Alarm, Timer};
use firmware::console::Console;
use firmware::example::{self, Example};
use firmware::uart::{self, Port};
use firmware::wire::Wire;
use firmware::{executor, retained, stack};
use protocol_core::time::{self, Instant};

// What the bootloader of ESP-IDF wants to know of a firmware.
esp_bootloader_esp_idf::esp_app_desc!();

/// How long the watchdog waits.
const WATCHDOG: Duration = Duration::from_secs(8);

/// How often the example sends its number.
const PERIOD: time::Duration = time::Duration::from_secs(60);

/// The line's, in bits a second.
const BAUD: u32 = 115_200;

/// Room for what came and was not read yet, in bytes.
const ROOM: usize = 256;

/// What the interrupts and the tasks share.
struct Devices {
    timer: OneShotTimer<'static, Blocking>,
    line: Uart<'static, Blocking>,
    watchdog: Rwdt,
}

/// There from the start on.
static DEVICES: Mutex<RefCell<Option<Devices>>> = Mutex::new(RefCell::new(None));

static ALARM: Alarm = alarm::unset();

static RECEIVED: uart::Received<ROOM> = uart::Received::new();

/// Uses the devices, with interrupts masked.
fn with<R>(act: impl FnOnce(&mut Devices) -> R) -> Option<R> {
    critical_section::with(|section| DEVICES.borrow_ref_mut(section).as_mut().map(act))
}

#[esp_hal::main]
fn main() -> ! {
    stack::paint();
    let (board, console) = start();
    let wire = Wire::new(&board, uart::Uart { port: Line, received: &RECEIVED });
    let agent = pin!(serve(&board, &wire, Console(console)));
    executor::run([agent])
}

async fn serve(board: &impl Board, wire: &impl Connect, mut console: Console<impl Port>) -> Infallible {
    let mut agent: Agent = example::agent(board);
    console.started(board.reset_reason());
    let mut example = Example::new(board, PERIOD, |state| console.state(state));
    agent.run(board, wire, &Plain, &mut example).await
}

/// Starts the board's devices.
fn start() -> (Esp32C3, Terminal) {
    let peripherals = esp_hal::init(esp_hal::Config::default());
    let board = Esp32C3 { reset_reason: reset_reason() };
    let Peripherals { RNG, ADC1, SYSTIMER, RTC_TIMER, UART0, UART1, GPIO4, GPIO5, GPIO21, .. } = peripherals;

    // Without its noise the numbers would only look random. It is never dropped, which would end it.
    core::mem::forget(TrngSource::new(RNG, ADC1));

    let mut watchdog = Rtc::new(RTC_TIMER).rwdt;
    watchdog.set_timeout(RwdtStage::Stage0, WATCHDOG);
    watchdog.enable();
    // Not the RTC's memory, where a panic has noted that it was one.
    watchdog.set_stage_action(RwdtStage::Stage0, RwdtStageAction::ResetCore);

    let mut timer = OneShotTimer::new(SystemTimer::new(SYSTIMER).alarm0);
    timer.set_interrupt_handler(alarm_rang);
    timer.listen();

    let mut line = open(UART1).with_rx(GPIO4).with_tx(GPIO5);
    line.set_interrupt_handler(line_interrupted);
    line.listen(UartInterrupt::RxFifoFull | UartInterrupt::RxTimeout);

    let (_, terminal) = open(UART0).with_tx(GPIO21).split();
    critical_section::with(|section| DEVICES.replace(section, Some(Devices { timer, line, watchdog })));
    (board, Terminal(RefCell::new(terminal)))
}

/// Starts a UART at the line's rate.
fn open(uart: impl esp_hal::uart::Instance + 'static) -> Uart<'static, Blocking> {
    // Half of what the hardware has room for, so that the interrupt may be late.
    let receiver = RxConfig::default().with_fifo_full_threshold(64);
    match Uart::new(uart, Config::default().with_baudrate(BAUD).with_rx(receiver)) {
        Ok(uart) => uart,
        // The rate is one that it has.
        Err(_) => panic!(),
    }
}

/// The board.
#[derive(Debug)]
struct Esp32C3 {
    reset_reason: ResetReason,
}

/// Why the chip started; of the watchdog's resets, those after a panic are the firmware's.
fn reset_reason() -> ResetReason {
    let noted = retained::take();
    match system::reset_reason() {
        // `CHIP_EN`, the reset pin, cuts the power.
        Some(SocResetReason::ChipPowerOn) => ResetReason::PowerOn,
        Some(SocResetReason::CoreUsbUart | SocResetReason::CoreUsbJtag) => ResetReason::Pin,
        Some(SocResetReason::SysBrownOut | SocResetReason::CorePwrGlitch) => ResetReason::BrownOut,
        Some(SocResetReason::CoreSw | SocResetReason::Cpu0Sw) => ResetReason::Software,
        Some(SocResetReason::CoreRtcWdt) => noted.unwrap_or(ResetReason::Watchdog),
        Some(SocResetReason::SysRtcWdt | SocResetReason::SysSuperWdt) => ResetReason::Watchdog,
        _ => ResetReason::Unknown,
    }
}

impl Clock for Esp32C3 {
    fn now(&self) -> Instant {
        SystemClock::now()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> {
        alarm::sleep_until::<SystemClock>(at)
    }
}

/// The system timer: a clock that runs from the start on, and an alarm.
struct SystemClock;

impl Timer for SystemClock {
    fn alarm() -> &'static Alarm {
        &ALARM
    }

    fn now() -> Instant {
        Instant::from_micros(esp_hal::time::Instant::now().duration_since_epoch().as_micros())
    }

    fn set(wait: time::Duration) {
        // It counts for years.
        _ = with(|devices| devices.timer.schedule(Duration::from_micros(wait.as_micros())));
    }
}

impl Board for Esp32C3 {
    fn fill_random(&self, bytes: &mut [u8]) {
        Rng::new().read(bytes);
    }

    fn feed_watchdog(&self) {
        with(|devices| devices.watchdog.feed());
    }

    fn reset_reason(&self) -> ResetReason {
        self.reset_reason
    }

    fn reset(&self) {
        system::software_reset()
    }
}

/// UART 1, to the gateway.
#[derive(Debug)]
struct Line;

impl Port for Line {
    fn transmit(&self, byte: u8) -> bool {
        let transmit = |devices: &mut Devices| {
            let has_room = devices.line.write_ready();
            if has_room {
                _ = devices.line.write(&[byte]);
            } else {
                // When all is out. It takes some milliseconds until then.
                devices.line.clear_interrupts(UartInterrupt::TxDone.into());
                devices.line.listen(UartInterrupt::TxDone);
            }
            has_room
        };
        with(transmit).unwrap_or_default()
    }
}

/// UART 0, to a person.
struct Terminal(RefCell<UartTx<'static, Blocking>>);

impl Port for Terminal {
    fn transmit(&self, byte: u8) -> bool {
        let mut transmitter = self.0.borrow_mut();
        transmitter.write_ready() && transmitter.write(&[byte]).is_ok()
    }
}

#[handler]
fn alarm_rang() {
    with(|Devices { timer, .. }| {
        timer.stop();
        timer.clear_interrupt();
    });
    alarm::rang::<SystemClock>();
}

#[handler]
fn line_interrupted() {
    let mut buffer = [0; 128];
    let came = with(|Devices { line, .. }| {
        line.clear_interrupts(UartInterrupt::RxFifoFull | UartInterrupt::RxTimeout | UartInterrupt::TxDone);
        line.unlisten(UartInterrupt::TxDone);
        // An error is told once. What was damaged the link has sent again.
        line.read_buffered(&mut buffer).or_else(|_| line.read_buffered(&mut buffer)).unwrap_or_default()
    });
    // This wakes the writer as well.
    RECEIVED.push(buffer.iter().copied().take(came.unwrap_or_default()));
}
