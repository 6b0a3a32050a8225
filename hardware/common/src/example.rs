//! The example that the firmware of every board runs: counts, and answers.

#[cfg(feature = "tls")]
use core::convert::Infallible;

use agent_embedded::agent::Agent;
use agent_embedded::application::{Application, Readings, State};
use agent_embedded::board::{Board, Clock};
use agent_embedded::outbox::Outbox;
#[cfg(feature = "tls")]
use agent_embedded::{board::Connect, tls::Tls};
use heapless::Vec;
use protocol_core::message::{BootId, Facts, Kind, Message, Reading, StreamId, Text};
use protocol_core::time::{Duration, Instant};

#[cfg(feature = "tls")]
use crate::{console::Console, uart::Port};

/// The kind of the messages that are sent again and again: the body is how many there were, as a decimal number.
const COUNT: Kind<'static> = kind("count");

/// The kind of the answer to a message: the body is the message's.
const ANSWER: Kind<'static> = kind("answer");

/// The reading of a status that says how much of the stack was ever used, in bytes.
const STACK_HIGH_WATER: Kind<'static> = kind("stack-high-water");

/// The firmware's version.
const VERSION: Text<'static, 32> = match Text::new(env!("CARGO_PKG_VERSION")) {
    Some(version) => version,
    None => panic!("not a text"),
};

/// The longest body that is answered as a whole, in bytes; of a longer one the beginning is.
const ANSWER_LENGTH: usize = 64;

/// Sends a number from time to time, and sends back each message that comes.
#[derive(Debug)]
pub struct Example<C, S> {
    clock: C,
    period: Duration,
    next_at: Instant,
    count: u32,
    /// What waits for room in the queue. If more comes, only the newest is answered: it is a courtesy.
    answer: Option<Vec<u8, ANSWER_LENGTH>>,
    /// Shows where the agent stands.
    show: S,
}

impl<C: Clock, S: FnMut(State<'_>)> Example<C, S> {
    /// Begins at once, and sends a number each `period`. `show` is told where the agent stands.
    pub fn new(clock: C, period: Duration, show: S) -> Self {
        let next_at = clock.now();
        Self { clock, period, next_at, count: 0, answer: None, show }
    }
}

impl<C: Clock, S: FnMut(State<'_>)> Application for Example<C, S> {
    async fn message(&mut self, message: &Message<'_>) {
        let body = message.body.get(..ANSWER_LENGTH).unwrap_or(message.body);
        self.answer = Vec::from_slice(body).ok();
    }

    async fn next(&mut self) {
        if self.answer.is_none() {
            self.clock.sleep_until(self.next_at).await;
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        let (kind, body) = match self.answer.take() {
            Some(body) => (ANSWER, body),
            None => {
                self.next_at = self.clock.now().after(self.period);
                self.count = self.count.wrapping_add(1);
                (COUNT, decimal(self.count))
            }
        };
        // It is only called if there is room.
        _ = outbox.push(time, kind, &body);
    }

    fn facts(&self) -> Facts<'_> {
        Facts { version: VERSION, ..Facts::default() }
    }

    fn read(&mut self, readings: &mut Readings) {
        let value = f64::from(crate::stack::high_water() as u32);
        // It fits: the agent leaves room for more.
        _ = readings.push(Reading { name: STACK_HIGH_WATER, value });
    }

    fn state(&mut self, state: State<'_>) {
        (self.show)(state);
    }
}

/// What a device keeps in RAM, begun anew: the sizes are for the caller's type to say.
pub fn agent<
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
>(
    board: &impl Board,
) -> Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT> {
    Agent::new(board.now(), BootId(board.random()), StreamId(board.random()))
}

/// The whole of a device with a network: the example over TLS, and a console that shows where it stands.
#[cfg(feature = "tls")]
pub async fn serve_by_tls(
    board: &impl Board,
    network: &impl Connect,
    period: Duration,
    mut console: Console<impl Port>,
) -> Infallible {
    let mut agent: Agent = agent(board);
    console.started(board.reset_reason());
    let mut example = Example::new(board, period, |state| console.state(state));
    agent.run(board, network, &Tls::new(), &mut example).await
}

/// A number in decimal digits. The standard library's formatting would take some kilobytes of flash.
fn decimal(mut number: u32) -> Vec<u8, ANSWER_LENGTH> {
    let mut digits = Vec::new();
    loop {
        _ = digits.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.reverse();
    digits
}

const fn kind(name: &'static str) -> Kind<'static> {
    match Kind::new(name) {
        Some(kind) => kind,
        None => panic!("not a kind"),
    }
}
