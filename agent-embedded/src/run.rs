//! The agent's loop: connects, drives the connection, waits, and begins again.

use core::{convert::Infallible, future::pending, pin::pin};

use embassy_futures::select::{Either, Either3, select, select3};
use embedded_io_async::{ErrorKind, Read, Write};
use protocol_core::{
    backoff::{self, Backoff},
    code::CloseReason,
    message::{Reading, Status, StreamId},
    time::{Duration, Instant},
};

use crate::{
    agent::Agent,
    application::{Application, Failure, QUEUE_FREE, RESET, RESET_REASON, Readings, State},
    board::{self, Board},
    connection::{Connection, End, Event, Step},
    security::Security,
};

/// How long it may take to connect.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// How long it may take to protect a connection: a microcontroller computes for seconds.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// How long the transport may take to send one frame.
pub const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// How often the watchdog is fed at least, while all is well.
pub const FEED_INTERVAL: Duration = Duration::from_secs(2);

/// How often the device says how it is doing.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(60);

/// Runs the agent until the device is reset.
///
/// The watchdog is fed while each step ends within its time, and the server was [heard](Board::OFFLINE_LIMIT) of.
pub async fn run<
    B: Board,
    S: Security,
    A: Application,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
>(
    board: &B,
    security: &S,
    application: &mut A,
    agent: &mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
) -> Infallible {
    let mut heard = Heard { board, at: board.now() };
    let mut backoff = Backoff::default();
    loop {
        application.state(State::Connecting);
        let Err(failure) = connect(&mut heard, security, application, agent, &mut backoff).await;
        let wait = wait(&failure, &mut backoff, board::random(board) as u16);
        if let Failure::End(End::Closed { reason: CloseReason::Conflict, .. }) = failure {
            agent.outbox.begin_stream(StreamId(board::random(board)));
        }
        application.state(State::Offline(failure, wait));
        rest(&heard, board.now().after(wait), application, agent).await;
    }
}

/// When the server was heard last, for the watchdog.
struct Heard<'b, B> {
    board: &'b B,
    at: Instant,
}

impl<B: Board> Heard<'_, B> {
    /// Feeds the watchdog, if the server was heard of; gives when to do it again.
    fn feed(&self) -> Instant {
        let now = self.board.now();
        if now.since(self.at) < B::OFFLINE_LIMIT {
            self.board.feed_watchdog();
        }
        now.after(FEED_INTERVAL)
    }

    /// Waits for `future`, but for no longer than `limit`.
    async fn within<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, ErrorKind> {
        let end = self.board.now().after(limit);
        let mut future = pin!(future);
        while self.board.now() < end {
            let until = self.feed().min(end);
            if let Either::First(output) = select(&mut future, self.board.sleep_until(until)).await {
                return Ok(output);
            }
        }
        Err(ErrorKind::TimedOut)
    }
}

/// How long to wait after `failure`.
fn wait(failure: &Failure, backoff: &mut Backoff, random: u16) -> Duration {
    match failure {
        Failure::End(End::Closed { reason, retry_after }) => backoff.closed(*reason, *retry_after, random),
        _ => backoff.next(random),
    }
}

/// Waits, and takes what the application has to say meanwhile.
async fn rest<
    B: Board,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
>(
    heard: &Heard<'_, B>,
    end: Instant,
    application: &mut impl Application,
    agent: &mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
) {
    while heard.board.now() < end {
        let until = heard.feed().min(end);
        let waits =
            select(heard.board.sleep_until(until), something_to_say(application, agent.outbox.has_room()));
        if let Either::Second(()) = waits.await {
            let time = agent.time(heard.board.now());
            application.say(time, &mut agent.outbox);
        }
    }
}

async fn something_to_say(application: &mut impl Application, has_room: bool) {
    if has_room { application.next().await } else { pending().await }
}

/// One connection, from the transport to its end.
async fn connect<
    B: Board,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
>(
    heard: &mut Heard<'_, B>,
    security: &impl Security,
    application: &mut impl Application,
    agent: &mut Agent<MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
    backoff: &mut Backoff,
) -> Result<Infallible, Failure> {
    let board = heard.board;
    let address = security.address()?;
    let connected = heard.within(CONNECT_LIMIT, board.connect(address.as_ref())).await;
    let transport = connected.and_then(|connected| connected).map_err(Failure::Connect)?;
    let opened = heard.within(HANDSHAKE_LIMIT, security.open(board, transport)).await;
    let stream = opened.map_err(Failure::Connect)??;
    let mut connection = Connection::open(agent);
    Ok(drive(heard, security, application, &mut connection, stream, backoff).await?)
}

/// Drives a connection until it ends.
async fn drive<
    B: Board,
    const MESSAGES: usize,
    const BODY: usize,
    const STREAMS: usize,
    const INPUT: usize,
    const OUTPUT: usize,
>(
    heard: &mut Heard<'_, B>,
    security: &impl Security,
    application: &mut impl Application,
    connection: &mut Connection<'_, MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
    mut stream: impl Read + Write,
    backoff: &mut Backoff,
) -> Result<Infallible, End> {
    let board = heard.board;
    let mut stable_at = Instant::NEVER;
    let mut notices = Notices::NONE;
    let mut is_to_reset = false;
    loop {
        let now = board.now();
        match connection.poll(now)? {
            Step::Again => {}
            Step::Write(bytes) => write(heard, &mut stream, bytes).await?,
            Step::Event(Event::Message(message)) if message.kind == RESET => {
                is_to_reset = true;
                connection.taken();
            }
            Step::Event(Event::Message(message)) => {
                application.message(&message).await;
                connection.taken();
            }
            Step::Event(Event::Notice(frame)) => security.notice(board, frame),
            Step::Event(Event::TooLarge(message)) => application.too_large(&message),
            Step::Event(Event::Welcome(welcome)) => {
                security.welcomed(board);
                application.state(State::Online(welcome.name.as_str()));
                stable_at = now.after(backoff::STABLE);
                notices = Notices { facts_due: true, status_at: now };
            }
            Step::Idle => {
                if let Some(bytes) = notices.next(now, board, application, connection) {
                    write(heard, &mut stream, bytes).await?;
                    continue;
                }
                heard
                    .within(WRITE_LIMIT, stream.flush())
                    .await
                    .map_err(End::Transport)?
                    .map_err(transport)?;
                if is_to_reset {
                    application.state(State::Resetting);
                    board.reset();
                    pending::<()>().await;
                }
                if stable_at <= now {
                    backoff.reset();
                    stable_at = Instant::NEVER;
                }
                let due = connection.timeout().unwrap_or(Instant::NEVER).min(notices.status_at);
                let until = heard.feed().min(stable_at).min(due);
                let has_room = connection.agent().outbox.has_room();
                let event = select3(
                    stream.read(connection.room()),
                    board.sleep_until(until),
                    something_to_say(application, has_room),
                );
                match event.await {
                    Either3::First(count) => {
                        connection.came(count.map_err(transport)?);
                        heard.at = board.now();
                    }
                    Either3::Second(()) => {}
                    Either3::Third(()) => {
                        let agent = connection.agent();
                        let time = agent.time(now);
                        application.say(time, &mut agent.outbox);
                    }
                }
            }
        }
    }
}

/// What the device says of itself: its facts once a connection, its status again and again.
struct Notices {
    facts_due: bool,
    status_at: Instant,
}

impl Notices {
    /// Before the welcome nothing is said.
    const NONE: Self = Self { facts_due: false, status_at: Instant::NEVER };

    /// What is due, to be written.
    fn next<
        'c,
        const MESSAGES: usize,
        const BODY: usize,
        const STREAMS: usize,
        const INPUT: usize,
        const OUTPUT: usize,
    >(
        &mut self,
        now: Instant,
        board: &impl Board,
        application: &mut impl Application,
        connection: &'c mut Connection<'_, MESSAGES, BODY, STREAMS, INPUT, OUTPUT>,
    ) -> Option<&'c [u8]> {
        if self.facts_due {
            self.facts_due = false;
            return connection.notice(now, &application.facts()).ok();
        }
        if self.status_at > now {
            return None;
        }
        self.status_at = now.after(STATUS_INTERVAL);
        let agent = connection.agent();
        let uptime = agent.uptime(now);
        let reason = f64::from(board.reset_reason() as u8);
        let free = f64::from(agent.outbox.free() as u32);
        let mut readings = Readings::new();
        for (name, value) in [(RESET_REASON, reason), (QUEUE_FREE, free)] {
            // The first of sixteen.
            _ = readings.push(Reading { name, value });
        }
        application.read(&mut readings);
        // A status that does not fit the output is left out; the connection goes on.
        connection.notice(now, &Status { uptime, readings }).ok()
    }
}

/// Writes a frame as a whole.
async fn write<B: Board>(heard: &Heard<'_, B>, stream: &mut impl Write, bytes: &[u8]) -> Result<(), End> {
    heard.within(WRITE_LIMIT, write_all(stream, bytes)).await.map_err(End::Transport)?
}

/// Not the transport's own `write_all`: it panics if nothing is taken.
async fn write_all(stream: &mut impl Write, mut bytes: &[u8]) -> Result<(), End> {
    while !bytes.is_empty() {
        let count = stream.write(bytes).await.map_err(transport)?;
        match bytes.get(count..) {
            Some(rest) if count > 0 => bytes = rest,
            _ => return Err(End::Transport(ErrorKind::WriteZero)),
        }
    }
    Ok(())
}

fn transport(error: impl embedded_io_async::Error) -> End {
    End::Transport(error.kind())
}
