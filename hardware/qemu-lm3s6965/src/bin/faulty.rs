//! As `ethernet`, but it fails when it is told to: the tests see what comes of it.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::application::{Application, Readings, State};
use agent_embedded::board::Board;
use agent_embedded::outbox::Outbox;
use agent_embedded::tls::Tls;
use cortex_m_rt::entry;
use embassy_net::{Config, StackResources};
use firmware::chip::Chip;
use firmware::console::Console;
use firmware::example::{self, Example};
use firmware::executor;
use firmware::networked::{Buffers, Networked, SOCKETS};
use firmware::uart::Port;
use protocol_core::message::{Facts, Message};
use protocol_core::time::{Duration, Instant};
use qemu_lm3s6965::PERIOD;

#[entry]
fn main() -> ! {
    let (chip, ethernet, uart) = qemu_lm3s6965::start_ethernet();
    let mut resources = StackResources::<SOCKETS>::new();
    let (stack, mut runner) =
        embassy_net::new(ethernet, Config::dhcpv4(Default::default()), &mut resources, chip.random());
    let buffers = Buffers::new();
    let board = Networked::new(chip, stack, &buffers);
    executor::run([pin!(serve(chip, &board, Console(uart.port))), pin!(async { runner.run().await })])
}

async fn serve(chip: impl Chip, board: &impl Board, mut console: Console<impl Port>) -> Infallible {
    let mut agent: Agent = example::agent(&chip);
    console.started(board.reset_reason());
    let example = Example::new(chip, PERIOD, |state| console.state(state));
    agent.run(board, &Tls::new(), &mut Faulty { chip, example, fault: None }).await
}

/// A message of kind `fault` has it fail, a while after it came: by then its echo was sent, or it would come again after
/// each reset.
struct Faulty<C, A> {
    chip: C,
    example: A,
    fault: Option<(Fault, Instant)>,
}

/// How it fails: the message's body.
#[derive(Clone, Copy)]
enum Fault {
    Hang,
    Panic,
}

/// How long it waits until it fails.
const DELAY: Duration = Duration::from_secs(1);

impl<C: Chip, A: Application> Application for Faulty<C, A> {
    async fn message(&mut self, message: &Message<'_>) {
        let fault = match (message.kind.as_bytes(), message.body) {
            (b"fault", b"hang") => Fault::Hang,
            (b"fault", b"panic") => Fault::Panic,
            _ => return self.example.message(message).await,
        };
        self.fault = Some((fault, self.chip.now().after(DELAY)));
    }

    async fn next(&mut self) {
        let Some((fault, at)) = self.fault else { return self.example.next().await };
        self.chip.sleep_until(at).await;
        match fault {
            Fault::Hang => loop {
                core::hint::spin_loop();
            },
            Fault::Panic => panic!("told to"),
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        self.example.say(time, outbox);
    }

    fn facts(&self) -> Facts<'_> {
        self.example.facts()
    }

    fn read(&mut self, readings: &mut Readings) {
        self.example.read(readings);
    }

    fn state(&mut self, state: State<'_>) {
        self.example.state(state);
    }
}
