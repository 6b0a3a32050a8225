//! The agent's loop: connects, drives the connection, waits, and begins again.

#[cfg(test)]
mod tests;

use core::{convert::Infallible, future::pending, pin::pin};

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::{
    backoff::{self, Backoff},
    code::CloseReason,
    message::{Reading, Status, StreamId},
    time::{Duration, Instant},
};

pub use crate::watchdog::FEED_INTERVAL;
use crate::{
    agent::Agent,
    application::{Application, Failure, QUEUE_FREE, RESET, RESET_REASON, Readings, State},
    board::{Board, Connect},
    connection::{Connection, End, Event, Step},
    security::Security,
    watchdog::Watchdog,
};

/// How long it may take to connect.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// How long it may take to protect a connection: a microcontroller computes for seconds.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long the transport may take to send one frame.
pub const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// How long the application may take with a message.
pub const MESSAGE_LIMIT: Duration = Duration::from_secs(20);

/// How often the device says how it is doing.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(60);

impl<const MESSAGES: usize, const BODY: usize, const STREAMS: usize, const INPUT: usize, const OUTPUT: usize>
    Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>
{
    /// Runs the agent until the device is reset.
    ///
    /// The watchdog is fed while each step ends within its time, and the server was [heard](Board::OFFLINE_LIMIT) of.
    pub async fn run(
        &mut self,
        board: &impl Board,
        connector: &impl Connect,
        security: &impl Security,
        application: &mut impl Application,
    ) -> Infallible {
        let watchdog = Watchdog::new(board);
        let mut backoff = Backoff::default();
        let mut connect_at = board.now();
        loop {
            // When the session has stood long enough for the next failure to count as the first.
            let mut stable_at = Instant::NEVER;
            let ended = {
                // Pinned here, and lent: handed over, it would take its room twice.
                let attempt = pin!(async {
                    self.rest(board, connect_at, application).await;
                    self.connect(&watchdog, connector, security, application, &mut stable_at).await
                });
                watchdog.guard(attempt).await
            };
            let failure = match ended {
                Some(Err(failure)) => failure,
                None => Failure::TimedOut,
            };
            if stable_at <= board.now() {
                backoff.reset();
            }
            let random = board.random();
            if let Failure::End(End::Closed { reason: CloseReason::Conflict, .. }) = failure {
                self.outbox.begin_stream(StreamId(random));
            }
            let wait = match failure {
                Failure::End(End::Closed { reason, retry_after }) => {
                    backoff.closed(reason, retry_after, random as u16)
                }
                _ => backoff.next(random as u16),
            };
            application.state(State::Offline(failure, wait));
            connect_at = board.now().after(wait);
            if let Failure::End(End::Closed { .. }) = failure {
                // It may have asked for a long wait.
                watchdog.heard(connect_at);
            }
        }
    }

    /// Waits until then, and takes what the application has to say meanwhile.
    async fn rest(&mut self, board: &impl Board, until: Instant, application: &mut impl Application) {
        loop {
            let has_room = self.outbox.has_room();
            match select(board.sleep_until(until), next(application, has_room)).await {
                Either::First(()) => return,
                Either::Second(()) => self.say(board, application),
            }
        }
    }

    fn say(&mut self, board: &impl Board, application: &mut impl Application) {
        let time = self.time(board.now());
        application.say(time, &mut self.outbox);
    }

    /// One connection, from the transport to its end.
    async fn connect<B: Board, S: Security>(
        &mut self,
        watchdog: &Watchdog<'_, B>,
        connector: &impl Connect,
        security: &S,
        application: &mut impl Application,
        stable_at: &mut Instant,
    ) -> Result<Infallible, Failure> {
        let address = security.address(watchdog.board)?;
        application.state(State::Connecting(address.as_ref()));
        watchdog.ends_within(CONNECT_LIMIT);
        let transport = connector.connect(address.as_ref()).await.map_err(Failure::Connect)?;
        watchdog.ends_within(HANDSHAKE_LIMIT);
        let mut room = S::Room::default();
        let mut stream = security.open(watchdog.board, transport, &mut room).await?;
        watchdog.may_wait();
        Ok(Connection::open(self).drive(watchdog, security, application, &mut stream, stable_at).await?)
    }
}

impl<const MESSAGES: usize, const BODY: usize, const STREAMS: usize, const INPUT: usize, const OUTPUT: usize>
    Connection<'_, MESSAGES, BODY, STREAMS, INPUT, OUTPUT>
{
    /// Drives the connection until it ends.
    async fn drive<B: Board>(
        &mut self,
        watchdog: &Watchdog<'_, B>,
        security: &impl Security,
        application: &mut impl Application,
        stream: &mut (impl Read + Write),
        stable_at: &mut Instant,
    ) -> Result<Infallible, End> {
        let board = watchdog.board;
        let mut notices = Notices::NONE;
        loop {
            let now = board.now();
            let to_write = match self.poll(now)? {
                Step::Again => continue,
                Step::Write(bytes) => Some(bytes),
                Step::Event(event) => {
                    match event {
                        Event::Message(message) if message.kind == RESET => {
                            application.state(State::Resetting);
                            watchdog.reset();
                        }
                        Event::Message(message) => {
                            watchdog.ends_within(MESSAGE_LIMIT);
                            application.message(&message).await;
                            watchdog.may_wait();
                        }
                        Event::Notice(frame) => security.notice(board, frame),
                        Event::TooLarge(message) => application.too_large(&message),
                        Event::Welcome(welcome) => {
                            security.welcomed(board);
                            application.state(State::Online(welcome.name));
                            *stable_at = now.after(backoff::STABLE);
                            notices = Notices { facts_due: true, status_at: now };
                        }
                    }
                    // Changes nothing if it was no message.
                    self.acknowledge();
                    continue;
                }
                Step::Idle => self.next_notice(&mut notices, now, watchdog, security, application),
            };
            if let Some(bytes) = to_write {
                watchdog.ends_within(WRITE_LIMIT);
                write(stream, bytes).await?;
                watchdog.may_wait();
                continue;
            }
            let until = self.timeout().unwrap_or(Instant::NEVER).min(notices.status_at);
            let has_room = self.agent().outbox.has_room();
            let read = stream.read(self.room());
            match select3(read, board.sleep_until(until), next(application, has_room)).await {
                Either3::First(count) => {
                    let count = count.map_err(transport)?;
                    self.received(count);
                    if count > 0 {
                        watchdog.heard(board.now());
                    }
                }
                Either3::Second(()) => {}
                Either3::Third(()) => self.agent().say(board, application),
            }
        }
    }

    /// What the device has to say of itself, to be written. Asked when all else is said: a farewell is the last word.
    fn next_notice<B: Board>(
        &mut self,
        notices: &mut Notices,
        now: Instant,
        watchdog: &Watchdog<'_, B>,
        security: &impl Security,
        application: &mut impl Application,
    ) -> Option<&[u8]> {
        if watchdog.is_resetting() {
            *notices = Notices::NONE;
            return self.is_open().then(|| self.close(CloseReason::Finished));
        }
        if notices.facts_due {
            notices.facts_due = false;
            return self.notice(now, &application.facts()).ok();
        }
        if notices.status_at > now {
            return None;
        }
        notices.status_at = now.after(STATUS_INTERVAL);
        security.keep(watchdog.board);
        let agent = self.agent();
        let uptime = agent.uptime(now);
        let reason = f64::from(watchdog.board.reset_reason() as u8);
        let free = f64::from(agent.outbox.free() as u32);
        let mut readings = Readings::new();
        for (name, value) in [(RESET_REASON, reason), (QUEUE_FREE, free)] {
            // The first of sixteen.
            _ = readings.push(Reading { name, value });
        }
        application.read(&mut readings);
        // A status that does not fit the output is left out; the connection goes on.
        self.notice(now, &Status { uptime, readings }).ok()
    }
}

/// Waits until the application has something to say, and there is room for it.
async fn next(application: &mut impl Application, has_room: bool) {
    if !has_room {
        pending::<()>().await;
    }
    application.next().await;
}

/// Writes a frame as a whole. Not by the transport's own `write_all`: it panics if nothing is taken.
async fn write(stream: &mut impl Write, mut bytes: &[u8]) -> Result<(), End> {
    while !bytes.is_empty() {
        let count = stream.write(bytes).await.map_err(transport)?;
        match bytes.get(count..) {
            Some(rest) if count > 0 => bytes = rest,
            _ => return Err(End::Transport(ErrorKind::WriteZero)),
        }
    }
    stream.flush().await.map_err(transport)
}

fn transport(error: impl embedded_io_async::Error) -> End {
    End::Transport(error.kind())
}

/// What the device says of itself: its facts once a connection, its status again and again.
struct Notices {
    facts_due: bool,
    status_at: Instant,
}

impl Notices {
    /// Before the welcome nothing is said.
    const NONE: Self = Self { facts_due: false, status_at: Instant::NEVER };
}
