//! A microcontroller's agent.

use core::{
    cell::RefCell,
    future::pending,
    hint::black_box,
    pin::pin,
    task::{Context, Waker},
};

use agent_embedded::{
    agent::Agent,
    application::{Application, Readings, State},
    board::{Board, Clock, Connect, ResetReason},
    connection::{Connection, Step},
    line::{self, Line},
    outbox::Outbox,
    security::Plain,
};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use protocol_core::{
    code::CloseReason,
    message::{BootId, Facts, Kind, Message, Reading, StreamId},
    serial::Retries,
    time::Instant,
};

use super::show;
use crate::Outside;

/// A connection, with the queue behind it.
pub fn connection(outside: Outside<'_>) {
    let Outside { input, number, .. } = outside;
    let now = Instant::from_micros(number);
    let mut agent = black_box(<Agent>::new(now, BootId(number), StreamId(number)));
    show(agent.outbox.push(number, Kind::TEXT, input));
    agent.outbox.begin_stream(black_box(StreamId(number)));
    show((agent.time(now), agent.uptime(now), agent.boot()));
    let mut connection = black_box(Connection::open(&mut agent));
    while black_box(number) > 0 {
        match connection.poll(now) {
            Ok(Step::Event(event)) => show(event),
            Ok(step) => show(step),
            Err(end) => show(end),
        }
        connection.acknowledge();
        let room = connection.room();
        room.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
        connection.received(black_box(input.len()));
        show(connection.notice(now, &Facts::default()));
        show(connection.agent().outbox.push(number, Kind::TEXT, input));
        show((connection.timeout(), connection.is_open(), connection.agent().outbox.is_empty()));
    }
    show(connection.close(CloseReason::from(number as u16)));
}

/// A whole device, but for its transport.
pub fn agent(outside: Outside<'_>) {
    let now = Instant::from_micros(outside.number);
    let mut agent = black_box(<Agent>::new(now, BootId(1), StreamId(2)));
    let (board, mut application) = (Outer(outside.input), Outer(outside.input));
    poll(agent.run(&board, &board, &Plain, &mut application));
}

/// A serial line as a transport.
pub fn line(outside: Outside<'_>) {
    let Outside { input, number, .. } = outside;
    poll(async {
        let room = RefCell::new(line::Room::<64>::new(Retries::default()));
        let opened = Line::open(Outer(input), Outer(input), number as u32, &room).await;
        let Ok(mut line) = opened else { return };
        let mut buffer = [0; 32];
        while black_box(number) > 0 {
            show(line.read(&mut buffer).await);
            show(line.write(black_box(&buffer)).await);
            show(line.flush().await);
        }
    });
}

/// A control: a future with a panic within its reach.
pub fn async_panics(outside: Outside<'_>) {
    let Outside { input, number, .. } = outside;
    poll(async {
        show(Read::read(&mut Outer(input), &mut [0; 8]).await);
        show(input[number as usize]);
    });
}

fn poll(future: impl Future) {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    while black_box(true) {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
}

/// All that a device is made of, of which the optimiser knows nothing.
struct Outer<'a>(&'a [u8]);

impl Clock for Outer<'_> {
    #[inline(never)] // As on a board, where it reads registers.
    fn now(&self) -> Instant {
        Instant::from_micros(black_box(self.0.len() as u64))
    }

    async fn sleep_until(&self, at: Instant) {
        if black_box(at) > self.now() {
            pending().await
        }
    }
}

impl Connect for Outer<'_> {
    type Transport<'a>
        = Outer<'a>
    where
        Self: 'a;

    async fn connect<'a>(&'a self, address: &str) -> Result<Outer<'a>, ErrorKind> {
        show(address);
        black_box(Ok(Outer(self.0)))
    }
}

impl Board for Outer<'_> {
    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.iter_mut().zip(self.0).for_each(|(to, from)| *to = *from);
    }

    fn feed_watchdog(&self) {
        show(());
    }

    fn reset_reason(&self) -> ResetReason {
        black_box(ResetReason::PowerOn)
    }

    fn reset(&self) {
        show(self.0);
    }
}

impl Application for Outer<'_> {
    async fn message(&mut self, message: &Message<'_>) {
        show(message);
    }

    async fn next(&mut self) {
        if black_box(true) {
            pending().await
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        show(outbox.push(time, Kind::TEXT, self.0));
    }

    fn facts(&self) -> Facts<'_> {
        black_box(Facts::default())
    }

    fn read(&mut self, readings: &mut Readings) {
        show(readings.push(Reading { name: Kind::TEXT, value: 1.0 }));
    }

    fn state(&mut self, state: State<'_>) {
        show(state);
    }
}

impl ErrorType for Outer<'_> {
    type Error = ErrorKind;
}

impl Read for Outer<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        if black_box(false) {
            pending::<()>().await;
        }
        buffer.iter_mut().zip(self.0).for_each(|(to, from)| *to = *from);
        black_box(Ok(0))
    }
}

impl Write for Outer<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        black_box(Ok(bytes.len()))
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        black_box(Ok(()))
    }
}
