//! The connection to the server, and the plain loop that drives its session.

use std::{collections::VecDeque, io, time::Duration};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::HEADER_LENGTH,
    message::{
        self, Body as _, CAMERAS_VERSION, Cameras, Close, Endpoints, Hello, OLDEST_VERSION, Offer, Order,
        Pin, Report, SshHostKeys, Stop, StreamId, TASKS_VERSION, Text, VERSION, Welcome, Window,
    },
    session::{Client, Event, Lost, OPENING_MAX_FRAME, OUTPUT_ROOM, ProtocolError, SendError, Session},
    tag::Tag,
    time::Instant,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{
    agent::{Agent, Link},
    clock::{self, Alarm},
    feed::{Feed, LOAD_BYTES, LOAD_MESSAGES},
    identity::Identity,
    inbox::Accepted,
    outbox::Next,
    pipe::Pipe,
    queue::{MAX_FRAME, QueueError, StoredMessage},
    status,
    store::{Asked, Levels, Store, answer},
    tasks::Contact,
};

/// How much the server may send before it is echoed.
const WINDOW: Window = Window { messages: 8, bytes: 64 * 1024 };

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// This agent stops.
    #[error("the agent stops")]
    Stopped,
    /// The device was enrolled anew.
    #[error("the device was enrolled anew")]
    Enrolled,
    /// The server has lost a whole stream: on the next connection it is asked about the one before.
    #[error("the server has lost a whole stream of messages; it is asked about the one before")]
    StreamLost,
    /// The server ended it.
    #[error("the server closed the connection: {detail} ({reason}){}", after_close(*reason))]
    Closed {
        /// Why.
        reason: CloseReason,
        /// How long the server wants the agent to wait, in seconds; 0 leaves it to the agent.
        retry_after: u32,
        /// Why, in the server's words.
        detail: String,
    },
    /// The server is silent.
    #[error("the server is lost: {0}")]
    Lost(#[from] Lost),
    /// The server broke the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The bytes ended.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// The queues can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is to be done, where the agent can't do it by itself.
const fn after_close(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Revoked | CloseReason::UnknownKey => {
            "; if it shall come back: holdfast enroll there, holdfast-agent enroll --again here"
        }
        _ => "",
    }
}

impl End {
    /// What the server is told, if it can be.
    fn farewell(&self) -> Option<(CloseReason, String)> {
        match self {
            Self::Stopped | Self::Enrolled => Some((CloseReason::Finished, "the agent stops".into())),
            Self::Protocol(error) => Some((error.reason(), error.to_string())),
            Self::Queue(_) => Some((CloseReason::Overloaded, "the agent can't write to its disk".into())),
            Self::StreamLost => Some((CloseReason::Finished, self.to_string())),
            Self::Closed { .. } | Self::Lost(_) | Self::Broken(_) => None,
        }
    }
}

/// Holds one connection until it ends. Gives how it ended, and for how long its session was open, if it
/// ever was.
pub(crate) async fn hold<S: AsyncRead + AsyncWrite>(
    agent: &Agent,
    identity: &mut Identity,
    stream: S,
    server: Server<'_>,
    stop: &mut watch::Receiver<bool>,
) -> (End, Option<Duration>) {
    let mut connection = Connection {
        session: Session::client(MAX_FRAME),
        pipe: Pipe::new(stream),
        duties: Duties {
            agent,
            identity,
            server,
            opened: None,
            named: agent.store.levels().borrow().outbox.stream,
            welcoming: None,
            outward: None,
            aside_told: 0,
            inward: Inward::default(),
            speaks_of_tasks: false,
            offer_due: false,
            cameras_due: false,
            facts_due: false,
            host_keys_due: false,
            status_due: Instant::NEVER,
        },
    };
    let Err(end) = connection.run(stop).await;
    connection.part(&end).await;
    let opened = connection.duties.opened;
    (end, opened.map(|opened| clock::now().since(opened).into()))
}

/// The server at the other end.
pub(crate) struct Server<'a> {
    /// As the identity names it.
    pub(crate) address: &'a str,
    /// The key it has shown.
    pub(crate) pin: Pin,
}

struct Connection<'a, S> {
    session: Session<Client>,
    pipe: Pipe<S>,
    duties: Duties<'a>,
}

impl<S: AsyncRead + AsyncWrite> Connection<'_, S> {
    /// Drives the session as `protocol-core` demands: input first, then output, then wait.
    async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<std::convert::Infallible, End> {
        let alarm = Alarm::new()?;
        let mut levels = self.duties.agent.store.levels();
        self.open()?;
        loop {
            loop {
                let (used, event) = self.session.input(clock::now(), self.pipe.received())?;
                if let Some(event) = event {
                    self.duties.hear(event)?;
                }
                if used == 0 {
                    break;
                }
                self.pipe.consume(used);
            }
            while self.pipe.write(OUTPUT_ROOM, |room| self.session.output(clock::now(), room))? > 0 {}
            let now_at = *levels.borrow_and_update();
            self.duties.speak(&mut self.session, &mut self.pipe, &now_at)?;
            let due = self.session.timeout().unwrap_or(Instant::NEVER).min(self.duties.status_due);
            tokio::select! {
                biased;
                moved = self.pipe.moved() => moved?,
                _ = stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                stored = self.duties.inward.stored() => {
                    if let Some((stream, number)) = stored? {
                        self.session.echo(stream, number);
                    }
                }
                next = welcomed(&mut self.duties.welcoming) => self.duties.begin(next?)?,
                loaded = load(&mut self.duties.outward) => loaded?,
                _ = levels.changed() => {}
                () = self.duties.agent.tasks.changed() => {}
                () = self.duties.agent.identity_news.notified() => self.duties.check_identity()?,
                () = alarm.until(Some(due)) => {}
            }
        }
    }

    fn open(&mut self) -> Result<(), End> {
        let agent = self.duties.agent;
        let hello = Hello {
            oldest_version: OLDEST_VERSION,
            newest_version: VERSION,
            kind: ConnectionKind::Control,
            boot: agent.boot,
            stream: self.duties.named,
            max_frame: MAX_FRAME,
            window: WINDOW,
        };
        let micros = u64::try_from(agent.config.connection.timeout.as_micros()).unwrap_or(u64::MAX);
        let timeout = protocol_core::time::Duration::from_micros(micros);
        let room = usize::from(OPENING_MAX_FRAME);
        self.pipe
            .write(room, |room| self.session.open(clock::now(), timeout, &hello, room))
            .map_err(|error| End::Broken(io::Error::other(error)))?;
        Ok(())
    }

    /// Tells the server why, if it can still be told.
    async fn part(&mut self, end: &End) {
        if let Some((reason, detail)) = end.farewell() {
            let close = Close { reason, retry_after: 0, detail: Text::shortened(&detail) };
            let room = usize::from(OPENING_MAX_FRAME);
            let _ = self.pipe.write(room, |room| Ok::<_, io::Error>(self.session.close(&close, room)));
        }
        let _ = tokio::time::timeout(FAREWELL, self.pipe.finish()).await;
    }
}

/// What the agent does for and by a connection, beside driving its session.
struct Duties<'a> {
    agent: &'a Agent,
    identity: &'a mut Identity,
    server: Server<'a>,
    /// When the welcome came.
    opened: Option<Instant>,
    /// The stream that the hello names.
    named: StreamId,
    /// The outbox takes note of the welcome.
    welcoming: Option<Asked<Next>>,
    /// Once it has.
    outward: Option<Feed>,
    /// How many messages that it does not take the server was told of.
    aside_told: u64,
    inward: Inward,
    /// The version agreed on has tasks.
    speaks_of_tasks: bool,
    offer_due: bool,
    cameras_due: bool,
    facts_due: bool,
    host_keys_due: bool,
    status_due: Instant,
}

impl Duties<'_> {
    fn hear(&mut self, event: Event<'_>) -> Result<(), End> {
        match event {
            Event::Welcome(welcome) => self.welcomed(&welcome),
            Event::Message(message) => self.inward.held.push_back(StoredMessage::keep(&message)),
            Event::Echo(echo) => {
                let position = self.outward.as_mut().and_then(|outward| outward.echoed(&echo));
                if let Some(position) = position {
                    self.agent.store.tell(move |queues| queues.outbox.echoed(position));
                }
            }
            Event::Notice(frame) if frame.tag == Tag::ENDPOINTS => {
                let endpoints: Endpoints<'_> = message::decode(frame.body).map_err(ProtocolError::from)?;
                self.learn(&endpoints);
            }
            Event::Notice(frame) if frame.tag == Tag::ORDER && self.speaks_of_tasks => {
                let order: Order<'_> = message::decode(frame.body).map_err(ProtocolError::from)?;
                let contact = Contact { identity: self.identity, server: self.server.address };
                self.agent.tasks.order(&order, &contact);
            }
            Event::Notice(frame) if frame.tag == Tag::STOP && self.speaks_of_tasks => {
                let stop: Stop<'_> = message::decode(frame.body).map_err(ProtocolError::from)?;
                self.agent.tasks.stop(&stop);
            }
            Event::Notice(frame) => tracing::debug!(tag = %frame.tag, "skipped a frame of an unknown tag"),
            Event::Closed(close) => {
                let detail = close.detail.as_str().to_owned();
                return Err(End::Closed { reason: close.reason, retry_after: close.retry_after, detail });
            }
            Event::Pong { .. } | Event::Hello(_) => {}
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: &Welcome<'_>) {
        self.opened = Some(clock::now());
        let address = self.server.address;
        tracing::info!(name = %welcome.name, server = address, "connected");
        note(self.identity.update(&self.agent.state, address, welcome.name.as_str(), None));
        let since = clock::unix_time();
        self.agent.link.send_replace(Link::Connected { server: address.to_owned(), since });
        self.agent.name.send_replace(Some(self.identity.name.clone()));
        let (named, archived, max_frame) = (self.named, welcome.archived, welcome.max_frame);
        let max_frame = max_frame.max(OPENING_MAX_FRAME);
        self.welcoming =
            Some(self.agent.store.ask(move |queues| queues.outbox.welcomed(named, archived, max_frame)));
        self.speaks_of_tasks = welcome.version >= TASKS_VERSION;
        self.offer_due = self.speaks_of_tasks;
        self.cameras_due = welcome.version >= CAMERAS_VERSION;
        // They came with the same version.
        self.host_keys_due = self.speaks_of_tasks;
        self.facts_due = true;
        self.status_due = clock::now();
    }

    fn begin(&mut self, next: Next) -> Result<(), End> {
        match next {
            Next::SendAfter(position) => self.outward = Some(Feed::after(position)),
            Next::AskAgain => return Err(End::StreamLost),
        }
        Ok(())
    }

    fn learn(&mut self, endpoints: &Endpoints<'_>) {
        if endpoints.current != self.server.pin {
            tracing::warn!("the server names another key than it has shown; not taken over");
            return;
        }
        note(self.identity.update(
            &self.agent.state,
            self.server.address,
            &self.identity.name.clone(),
            Some(endpoints),
        ));
    }

    fn check_identity(&self) -> Result<(), End> {
        match Identity::read(&self.agent.state) {
            Ok(Some(now)) if now.key != self.identity.key => Err(End::Enrolled),
            _ => Ok(()),
        }
    }

    /// Sends what is due and what waits, as far as it may be sent.
    fn speak<S: AsyncRead + AsyncWrite>(
        &mut self,
        session: &mut Session<Client>,
        pipe: &mut Pipe<S>,
        levels: &Levels,
    ) -> Result<(), End> {
        if self.opened.is_none() {
            return Ok(());
        }
        let now = clock::now();
        // What does not fit the peer is left out: it is only for people to see.
        if std::mem::take(&mut self.facts_due) {
            let _ = pipe.write(256, |room| session.notice(now, &self.agent.device.facts(), room));
        }
        if std::mem::take(&mut self.host_keys_due) {
            let keys = self.agent.device.ssh_host_keys();
            let said = SshHostKeys { keys: keys.iter().filter_map(|key| Text::new(key)).collect() };
            if !said.keys.is_empty() {
                let _ = pipe.write(HOST_KEYS_ROOM, |room| session.notice(now, &said, room));
            }
        }
        let aside = levels.outbox.aside_messages;
        if now >= self.status_due || aside != self.aside_told {
            self.aside_told = aside;
            let status = status::read(self.agent.state.path(), aside);
            let _ = pipe.write(1024, |room| session.notice(now, &status, room));
            let interval = self.agent.config.status_interval;
            self.status_due = if interval.is_zero() { Instant::NEVER } else { clock::after(interval) };
        }
        if self.speaks_of_tasks {
            self.speak_of_tasks(session, pipe);
        }
        let store = &self.agent.store;
        self.inward.store(store, levels);
        let Some(outward) = &mut self.outward else { return Ok(()) };
        let load = |after| store.ask(move |queues| queues.outbox.after(after, LOAD_MESSAGES, LOAD_BYTES));
        let sent = outward.send(session, pipe, levels.outbox.last, load);
        // What does not fit was set aside at the welcome.
        sent.map_err(|error| End::Broken(io::Error::other(error)))
    }

    /// Says which tasks there are, and how those stand of which the server does not know it.
    fn speak_of_tasks<S: AsyncRead + AsyncWrite>(
        &mut self,
        session: &mut Session<Client>,
        pipe: &mut Pipe<S>,
    ) {
        if std::mem::take(&mut self.offer_due) {
            let offer = self.agent.tasks.offer();
            let sent = pipe.write(OFFER_ROOM, |room| session.notice(clock::now(), &offer, room));
            if let Err(error) = sent {
                tracing::warn!(%error, "the server is not told which tasks this device takes: it gets none");
            }
        }
        if std::mem::take(&mut self.cameras_due) {
            let cameras = self.agent.tasks.cameras();
            if !cameras.cameras.is_empty()
                && let Err(error) =
                    pipe.write(CAMERAS_ROOM, |room| session.notice(clock::now(), &cameras, room))
            {
                tracing::warn!(%error, "the server is not told which cameras this device has");
            }
        }
        self.agent.tasks.report(|due| pipe.unsent() < MOST_REPORTS && report(session, pipe, due).is_ok());
    }
}

/// The room for the largest offer.
const OFFER_ROOM: usize = HEADER_LENGTH + Offer::MAX_LENGTH;

/// The room for the most cameras.
const CAMERAS_ROOM: usize = HEADER_LENGTH + Cameras::MAX_LENGTH;

/// The room for the most host keys.
const HOST_KEYS_ROOM: usize = HEADER_LENGTH + SshHostKeys::MAX_LENGTH;

/// While this much waits to be sent, in bytes, no report is added to it.
const MOST_REPORTS: usize = 32 * 1024;

/// The room for the largest report.
const REPORT_ROOM: usize = HEADER_LENGTH + Report::MAX_LENGTH;

/// Writes a report. A server that takes small frames only is told less.
fn report<S: AsyncRead + AsyncWrite>(
    session: &mut Session<Client>,
    pipe: &mut Pipe<S>,
    report: &Report<'_>,
) -> Result<usize, SendError> {
    let now = clock::now();
    pipe.write(REPORT_ROOM, |room| session.notice(now, report, room)).or_else(|_| {
        let detail = Text::shortened(Text::<128>::shortened(report.detail.as_str()).as_str());
        let less = Report { detail, output: &[], ..*report };
        pipe.write(REPORT_ROOM, |room| session.notice(now, &less, room))
    })
}

/// Waits until the outbox has taken note of the welcome; for ever if there is none. Dropping the future loses nothing.
async fn welcomed(welcoming: &mut Option<Asked<Next>>) -> Result<Next, QueueError> {
    let Some(asked) = welcoming else {
        return std::future::pending().await;
    };
    let next = answer(asked).await;
    *welcoming = None;
    next
}

async fn load(outward: &mut Option<Feed>) -> Result<(), QueueError> {
    match outward {
        Some(feed) => feed.load().await,
        None => std::future::pending().await,
    }
}

fn note<E: std::fmt::Display>(result: Result<(), E>) {
    if let Err(error) = result {
        tracing::error!(%error, "what the server says of itself can't be kept");
    }
}

/// Messages from the server on their way to the disk.
#[derive(Default)]
struct Inward {
    /// Here, and not on disk: at most a window of them.
    held: VecDeque<StoredMessage>,
    storing: Option<Asked<Stored>>,
    /// How many messages the inbox held when it had no room.
    full_at: Option<u64>,
}

/// The newest message that is on disk, and those for which there is no room.
struct Stored {
    newest: Option<(StreamId, u64)>,
    rest: VecDeque<StoredMessage>,
    /// How many messages the inbox then held.
    full_at: u64,
}

impl Inward {
    /// Has what is held brought to the disk, as far as there is room.
    fn store(&mut self, store: &Store, levels: &Levels) {
        if self.full_at.is_some_and(|full_at| levels.inbox.waiting < full_at) {
            self.full_at = None;
        }
        if self.held.is_empty() || self.storing.is_some() || self.full_at.is_some() {
            return;
        }
        let mut rest = std::mem::take(&mut self.held);
        self.storing = Some(store.ask(move |queues| {
            let mut newest = None;
            while let Some(message) = rest.front() {
                if queues.inbox.accept(message)? == Accepted::Full {
                    break;
                }
                newest = Some((message.stream, message.number));
                rest.pop_front();
            }
            let full_at = queues.inbox.marks()?.waiting;
            Ok(Stored { newest, rest, full_at })
        }));
    }

    /// Waits for what is being stored; for ever if nothing is. Gives what is to be echoed. Dropping the
    /// future loses nothing.
    async fn stored(&mut self) -> Result<Option<(StreamId, u64)>, QueueError> {
        let Some(storing) = &mut self.storing else {
            return std::future::pending().await;
        };
        let stored = answer(storing).await;
        self.storing = None;
        let mut stored = stored?;
        if !stored.rest.is_empty() {
            tracing::warn!(
                "the inbox is full: messages stay with the server until a local program takes some (holdfast-agent receive)"
            );
            self.full_at = Some(stored.full_at);
        }
        stored.rest.append(&mut self.held);
        self.held = stored.rest;
        Ok(stored.newest)
    }
}
