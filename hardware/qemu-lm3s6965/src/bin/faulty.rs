//! As `ethernet`, but it fails when it is told to: the tests see what comes of it.

#![no_std]
#![no_main]

use core::convert::Infallible;
use core::pin::pin;

use agent_embedded::agent::Agent;
use agent_embedded::application::{Application, Readings, State};
use agent_embedded::board::{Board, Clock, Connect};
use agent_embedded::outbox::Outbox;
use agent_embedded::tls::Tls;
use cortex_m_rt::entry;
use firmware::console::Console;
use firmware::example::{self, Example};
use firmware::executor;
use firmware::network::Room;
use firmware::uart::Port;
use protocol_core::message::{Facts, Message};
use protocol_core::time::{Duration, Instant};
use qemu_lm3s6965::PERIOD;

#[entry]
fn main() -> ! {
    let (board, port, ethernet) = qemu_lm3s6965::start_networked();
    let mut room = Room::new();
    let (network, stack) = room.open(&board, ethernet);
    executor::run([pin!(serve(&board, &network, Console(port))), pin!(stack)])
}

async fn serve(board: &impl Board, network: &impl Connect, mut console: Console<impl Port>) -> Infallible {
    let mut agent: Agent = example::agent(board);
    console.started(board.reset_reason());
    let example = Example::new(board, PERIOD, |state| console.state(state));
    agent.run(board, network, &Tls::new(), &mut Faulty { clock: board, example, fault: None }).await
}

/// A message of kind `fault` has it fail, a while after it came: by then its echo was sent, or it would come again after
/// each reset.
struct Faulty<C, A> {
    clock: C,
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

impl<C: Clock, A: Application> Application for Faulty<C, A> {
    async fn message(&mut self, message: &Message<'_>) {
        let fault = match (message.kind.as_bytes(), message.body) {
            (b"fault", b"hang") => Fault::Hang,
            (b"fault", b"panic") => Fault::Panic,
            _ => return self.example.message(message).await,
        };
        self.fault = Some((fault, self.clock.now().after(DELAY)));
    }

    async fn next(&mut self) {
        let Some((fault, at)) = self.fault else { return self.example.next().await };
        self.clock.sleep_until(at).await;
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
