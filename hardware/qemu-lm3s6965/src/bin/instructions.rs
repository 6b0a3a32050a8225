//! How many instructions a device takes for a ping, and for a message of 16 bytes each way: the session and the queue, and
//! not what carries them. UART 0 shows a line for each.
//!
//! QEMU has to run it with `-icount shift=10`: by its clock each instruction then takes 1,024 ns.

#![no_std]
#![no_main]

use core::fmt::Write;

use agent_embedded::agent::Agent;
use agent_embedded::board::Clock as _;
use agent_embedded::connection::{Connection, Event, Step};
use cortex_m::asm;
use cortex_m_rt::entry;
use firmware::console::Console;
use firmware::example;
use heapless::Vec;
use protocol_core::message::{Kind, Message, StoreId, StreamId, Text, VERSION, Welcome, Window};
use protocol_core::session::{self, Server, Session};
use protocol_core::time::{Duration, Instant};
use qemu_lm3s6965::Lm3s6965;

/// How often each is counted, once it is warm: the mean is shown.
const ROUNDS: u32 = 16;

const BODY: &[u8; 16] = b"sixteen bytes...";

/// As the firmware `uart` has it.
type SmallAgent = Agent<4, 64, 4, 256, 256>;

#[entry]
fn main() -> ! {
    let (board, uart) = qemu_lm3s6965::start();
    let mut console = Console(uart.port);
    let mut agent: SmallAgent = example::agent(&board);
    let mut both = Both::open(&board, &mut agent);
    both.measure("ping", Both::ping, &mut console);
    both.measure("up", Both::up, &mut console);
    both.measure("down", Both::down, &mut console);
    loop {
        asm::wfi();
    }
}

/// A device's connection, and the server's session, which is not counted.
struct Both<'a> {
    counter: Counter<'a>,
    now: Instant,
    device: Connection<'a, 4, 64, 4, 256, 256>,
    server: Session<Server>,
    /// The number of the server's newest message.
    sent: u64,
}

impl<'a> Both<'a> {
    fn open(board: &'a Lm3s6965, agent: &'a mut SmallAgent) -> Self {
        let now = board.now();
        let (counter, device) = (Counter::new(board), Connection::open(agent));
        let server = Session::server(now, Duration::from_secs(10));
        let mut both = Self { counter, now, device, server, sent: 0 };
        both.run();
        let welcome = Welcome {
            version: VERSION,
            interval: 30_000,
            timeout: 10_000,
            max_frame: 512,
            window: Window { messages: 4, bytes: 1024 },
            store: StoreId(1),
            archived: 0,
            time: 1_800_000_000_000,
            name: Text::new("counted").unwrap_or_default(),
        };
        let mut buffer = [0; 256];
        let length = both.server.welcome(now, &welcome, &mut buffer).unwrap_or(0);
        both.hand(buffer.get(..length).unwrap_or_default());
        both.run();
        assert!(both.device.is_open(), "the session did not open");
        both
    }

    /// Counts one of those below, and shows the mean.
    fn measure(&mut self, name: &str, once: fn(&mut Self) -> u32, console: &mut impl Write) {
        once(self);
        let mean = (0..ROUNDS).map(|_| once(self)).sum::<u32>() / ROUNDS;
        // A console does not fail.
        _ = write!(console, "instructions {name} {mean}\r\n");
    }

    /// The server asks, the device answers.
    fn ping(&mut self) -> u32 {
        self.server.ping();
        self.pass_on();
        self.run()
    }

    /// A message is put into the device's queue, sent, and echoed.
    fn up(&mut self) -> u32 {
        let outbox = &mut self.device.agent().outbox;
        let pushed = self.counter.count(|| outbox.push(0, Kind::TEXT, BODY));
        assert!(pushed.0.is_ok(), "there is room");
        let sent = self.run();
        self.pass_on();
        let echoed = self.run();
        assert!(self.device.agent().outbox.is_empty(), "it was echoed");
        pushed.1 + sent + echoed
    }

    /// The server sends a message, which the device takes, and echoes.
    fn down(&mut self) -> u32 {
        self.sent += 1;
        let message =
            Message { stream: StreamId(7), number: self.sent, time: 0, kind: Kind::TEXT, body: BODY };
        let mut buffer = [0; 256];
        let length = self.server.message(self.now, &message, &mut buffer).unwrap_or(0);
        self.hand(buffer.get(..length).unwrap_or_default());
        let count = self.run();
        assert!(self.server.in_flight() == 0, "it was echoed");
        count
    }

    /// What the server has to say is handed to the device.
    fn pass_on(&mut self) {
        let mut buffer = [0; 256];
        let length = self.server.output(self.now, &mut buffer).unwrap_or(0);
        self.hand(buffer.get(..length).unwrap_or_default());
    }

    fn hand(&mut self, bytes: &[u8]) {
        let room = self.device.room();
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.device.received(bytes.len());
    }

    /// Runs the device until it has nothing to do, and gives the instructions that it took; what it says goes to the
    /// server.
    fn run(&mut self) -> u32 {
        let (mut all, mut said) = (0, Vec::<u8, 512>::new());
        loop {
            let (step, count) = self.counter.count(|| self.device.poll(self.now));
            all += count;
            match step {
                Ok(Step::Idle) => break,
                Ok(Step::Write(bytes)) => assert!(said.extend_from_slice(bytes).is_ok(), "it says little"),
                Ok(Step::Event(Event::Message(_))) => {
                    all += self.counter.count(|| self.device.acknowledge()).1;
                }
                Ok(Step::Event(_) | Step::Again) => {}
                Err(_) => panic!("the connection ended"),
            }
        }
        self.hear(&said);
        all
    }

    /// The server hears what the device said, and is to echo its messages.
    fn hear(&mut self, mut bytes: &[u8]) {
        loop {
            let mut came = None;
            let Ok((used, event)) = self.server.input(self.now, bytes) else { panic!("the server parted") };
            if let Some(session::Event::Message(message)) = event {
                came = Some((message.stream, message.number));
            }
            if let Some((stream, number)) = came {
                self.server.echo(stream, number);
            }
            bytes = bytes.get(used..).unwrap_or_default();
            if used == 0 {
                return;
            }
        }
    }
}

/// Counts instructions by the clock.
struct Counter<'b> {
    board: &'b Lm3s6965,
    /// What counting takes itself, in microseconds.
    own: u64,
}

impl<'b> Counter<'b> {
    fn new(board: &'b Lm3s6965) -> Self {
        let mut counter = Self { board, own: 0 };
        counter.own = counter.micros(|| ()).1;
        counter
    }

    fn count<T>(&self, what: impl FnOnce() -> T) -> (T, u32) {
        let (result, micros) = self.micros(what);
        (result, (micros.saturating_sub(self.own) * 1_000 / 1_024) as u32)
    }

    fn micros<T>(&self, what: impl FnOnce() -> T) -> (T, u64) {
        let begun = self.board.now();
        let result = what();
        (result, self.board.now().since(begun).as_micros())
    }
}
