//! The board that a host is, and the application on it.

use std::time;

use agent_embedded::{
    agent::Agent,
    application::{Application, Failure, State},
    board::{Board, Clock, ResetReason},
    connection::End,
    outbox::Outbox,
    security::Security,
};
use embedded_io_async::ErrorKind;
use protocol_core::{
    message::{BootId, Facts, Kind, Message, StreamId, Text},
    provisioning::LENGTH,
    time::Instant,
};
use rustls::crypto::ring;

use super::{Shared, transport::Cable};

/// It takes frames that are larger than a TLS record.
type Device = Agent<8, 128, 8, 4_096>;

/// Runs a device on this cable until it is stopped, through all its resets.
pub(super) fn live(shared: &Shared, mut cable: impl Cable, security: &impl Security) {
    while run_once(shared, &cable, security) {
        cable.reset();
    }
}

/// Runs a device until it is reset; not so if it is stopped.
fn run_once(shared: &Shared, cable: &impl Cable, security: &impl Security) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let board = Host(shared);
    let mut application = Example(shared);
    let mut agent = Device::new(board.now(), BootId(board.random()), StreamId(board.random()));
    {
        let mut inner = shared.inner();
        inner.said.clear();
        inner.seen.starts += 1;
    }
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = shared.stop.notified() => false,
            () = shared.reset.notified() => true,
            never = agent.run(&board, cable, security, &mut application) => match never {},
        }
    })
}

/// The board.
pub(super) struct Host<'a>(pub(super) &'a Shared);

impl Clock for Host<'_> {
    fn now(&self) -> Instant {
        let passed = self.0.made.elapsed() + *self.0.ahead.borrow();
        Instant::from_micros(passed.as_micros() as u64)
    }

    async fn sleep_until(&self, at: Instant) {
        let mut ahead = self.0.ahead.subscribe();
        while let wait = time::Duration::from(at.since(self.now()))
            && !wait.is_zero()
        {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = ahead.changed() => {}
            }
        }
    }
}

impl Board for Host<'_> {
    fn fill_random(&self, bytes: &mut [u8]) {
        ring::default_provider().secure_random.fill(bytes).expect("the system has randomness");
    }

    fn feed_watchdog(&self) {}

    fn reset_reason(&self) -> ResetReason {
        ResetReason::PowerOn
    }

    fn reset(&self) {
        self.0.reset.notify_one();
    }

    fn load(&self, block: &mut [u8; LENGTH]) {
        *block = self.0.inner().flash;
    }

    fn store(&self, block: &[u8; LENGTH]) -> Result<(), ErrorKind> {
        self.0.inner().flash = *block;
        Ok(())
    }
}

/// The application: says what a test has it say.
struct Example<'a>(&'a Shared);

impl Application for Example<'_> {
    async fn message(&mut self, message: &Message<'_>) {
        self.0.inner().seen.received.push(String::from_utf8_lossy(message.body).into_owned());
    }

    async fn next(&mut self) {
        if self.0.inner().to_say.is_empty() {
            self.0.look.notified().await;
        }
    }

    fn say<const MESSAGES: usize, const BODY: usize>(
        &mut self,
        time: u64,
        outbox: &mut Outbox<MESSAGES, BODY>,
    ) {
        let mut inner = self.0.inner();
        let echoed = inner.said.len() - outbox.len();
        let echoed: Vec<_> = inner.said.drain(..echoed).collect();
        inner.seen.echoed.extend(echoed);
        while outbox.has_room()
            && let Some(text) = inner.to_say.pop_front()
        {
            outbox.push(time, Kind::TEXT, text.as_bytes()).expect("there is room");
            inner.said.push_back(text);
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts { version: Text::shortened("test"), ..Facts::default() }
    }

    fn state(&mut self, state: State<'_>) {
        let shown = match state {
            State::Connecting(address) => format!("connecting to {address}"),
            State::Online(name) => format!("online as {name}"),
            State::Offline(failure, _) => format!("offline: {failure}"),
            State::Resetting => "resetting".to_owned(),
        };
        let seen = &mut self.0.inner().seen;
        seen.states.push(shown);
        if let State::Offline(Failure::End(End::Closed { reason, .. }), _) = state {
            seen.farewells.push(reason);
        }
    }
}
