//! The original protocol on its own port: the listener, and the plain loop of one connection.
//!
//! An idle connection holds no buffer, and one in use at most the longest message: nothing is read while a text waits
//! for its commit, so the peer's own window pushes back.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use protocol_core::{
    classic::{Answer, Classic, ClassicError, Event, MAX_MESSAGE},
    time::Instant,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};
use tracing::{debug, error, info};

use super::accept;
use crate::{
    classic_clients::{ClassicClient, ClassicClients, Presence},
    clock,
    config::Config,
    event::{EventKind, NewEvent},
    metrics::METRICS,
    parts::{PartKind, Parts},
    shutdown::Shutdown,
    store::{
        Archived, EndReason, Incoming, Kind, NewSession, Outcome, RandomId, Reply, SessionEnd, Store,
        StoreError, UnixMillis,
    },
    term_password::{TermPassword, Verdict},
};

#[cfg(test)]
mod tests;

/// How long nothing may come before the kernel asks whether the peer is there, how often it asks then, and how many
/// questions may stay without an answer.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// How long a peer may take none of what it is sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long, and for how many bytes, what a peer still sends is taken and dropped, so that our last word reaches it.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 4 * 1024 * 1024);

/// How often it is written down that the connections still stand.
const SEEN_INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked whether the TERM password was set.
const PASSWORD_INTERVAL: Duration = Duration::from_secs(5);

/// What this listener is called.
pub const PART: &str = "classic listener";

thread_local! {
    /// What one read returns, on its way into the connection's own buffer.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_MESSAGE]);
}

/// What all classic connections share.
pub struct ClassicHost {
    parts: Arc<Parts>,
    /// What is kept.
    pub store: Store,
    /// Who is there.
    pub clients: Arc<ClassicClients>,
    /// The password of `TERM`.
    pub password: TermPassword,
    /// How long a text's line is quiet at its end; zero: one read is one message.
    pub gap: Duration,
    /// Asked for by `TERM`, and heard by every connection.
    pub shutdown: Shutdown,
    /// How many connections there may be at a time; more are closed at once.
    limit: usize,
    /// How many more there may be. Each holds a permit to its very end.
    room: Arc<Semaphore>,
}

/// Accepts connections until the future is dropped. Those that were accepted live on.
pub async fn run(host: Arc<ClassicHost>, listener: Arc<TcpListener>) {
    // Whoever connects does not wait until something is written down.
    tokio::join!(admit_all(&host, &listener), take_notes(&host));
}

async fn admit_all(host: &Arc<ClassicHost>, listener: &TcpListener) {
    loop {
        let (stream, address) = accept(listener).await;
        host.admit(stream, address);
    }
}

/// Writes down now and then who is there, and that the password was set.
async fn take_notes(host: &ClassicHost) {
    let mut seen = time::interval(SEEN_INTERVAL);
    let mut password = time::interval(PASSWORD_INTERVAL);
    loop {
        tokio::select! {
            _ = seen.tick() => host.note_seen().await,
            _ = password.tick() => host.note_password().await,
        }
    }
}

impl ClassicHost {
    /// What the classic connections of a server with this configuration share.
    pub fn new(
        config: &Config,
        parts: Arc<Parts>,
        store: Store,
        clients: Arc<ClassicClients>,
        shutdown: Shutdown,
    ) -> Self {
        // More permits than a semaphore has are more than there can be connections.
        let limit = config.limits.classic_connections.min(Semaphore::MAX_PERMITS);
        Self {
            parts,
            store,
            clients,
            password: TermPassword::new(&config.data),
            gap: config.classic_gap,
            shutdown,
            limit,
            room: Arc::new(Semaphore::new(limit)),
        }
    }

    /// Waits, after the shutdown was asked for, until all connections have ended and what became of them is written,
    /// or `time_limit` is over. Gives how many were still there then.
    pub async fn drain(&self, time_limit: Duration) -> usize {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        // Past the time limit the caller goes on, whoever is left.
        let _ = time::timeout(time_limit, self.room.acquire_many(all)).await;
        self.limit.saturating_sub(self.room.available_permits())
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let address = address.ip().to_canonical();
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            METRICS.connected("classic");
            let connection = Connection { stream, address, host: Arc::clone(self), session: None };
            let parts = Arc::clone(&self.parts);
            let open = parts.part(PART, PartKind::Listener).begin();
            let part = parts.part("classic clients", PartKind::Handler);
            tokio::spawn(async move {
                parts.guard(&part, Box::pin(connection.run())).await;
                drop((open, permit));
            });
        } else {
            drop(stream);
            let text = format!("{} classic connections are open, and no more may be", self.limit);
            let event = refusal(EventKind::ConnectionRefused, address, "too-many").detail("text", text);
            let host = Arc::clone(self);
            tokio::spawn(async move { host.record_refusal(event).await });
        }
    }

    async fn note_seen(&self) {
        let now = UnixMillis::now();
        let seen: Vec<_> = self.clients.all().into_iter().map(|client| (client.session, now)).collect();
        if !seen.is_empty()
            && let Err(error) = self.store.sessions_seen(seen).await
        {
            error!(%error, "it could not be written down that classic clients are there");
        }
    }

    async fn note_password(&self) {
        if self.password.was_set() {
            info!("the TERM password was set");
            self.store.note(NewEvent::new(EventKind::TermPasswordSet)).await;
        }
    }

    async fn record_refusal(&self, event: NewEvent) {
        // An address proves nothing: whoever comes from it is a stranger.
        if let Some(event) = self.store.limit_refusal(None, event) {
            self.store.note(event).await;
        }
    }
}

fn refusal(kind: EventKind, address: IpAddr, reason: &str) -> NewEvent {
    NewEvent::new(kind).address(address).detail("reason", reason).detail("protocol", "classic")
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the server stops")]
    Stopping,
    #[error("the password of TERM was right")]
    Accepted,
    #[error(transparent)]
    Protocol(#[from] ClassicError),
    #[error("the client took nothing of what it was sent for {} s", WRITE_TIMEOUT.as_secs())]
    NotReading,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the text could not be archived")]
    NotArchived,
}

impl End {
    fn reason(&self) -> EndReason {
        match self {
            Self::Closed => EndReason::Closed,
            Self::Stopping | Self::Accepted => EndReason::ServerStopped,
            Self::Protocol(_) => EndReason::ProtocolError,
            Self::Broken(error) if error.kind() != ErrorKind::TimedOut => EndReason::Broken,
            Self::Broken(_) | Self::NotReading => EndReason::Lost,
            Self::Store(_) | Self::NotArchived => EndReason::StoreFailed,
        }
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    address: IpAddr,
    host: Arc<ClassicHost>,
    /// None before the handshake.
    session: Option<Session>,
}

/// What a connection has after the handshake.
struct Session {
    /// Its place among the clients that are there, until it ends.
    _presence: Presence,
    client: ClassicClient,
    /// The stream of its texts in the store.
    stream: RandomId,
    /// The number of its last text.
    number: u64,
    reply: Arc<Reply>,
    archived: mpsc::Receiver<Outcome>,
    last_heard: UnixMillis,
}

/// Where the store tells a connection what became of its text. There is never more than one.
struct Letterbox(mpsc::Sender<Outcome>);

impl Archived for Letterbox {
    fn archived(&self, _stream: u64, _number: u64, outcome: Outcome) {
        // A connection that has ended does not ask.
        let _ = self.0.try_send(outcome);
    }
}

impl Connection {
    async fn run(mut self) {
        let end = self.talk().await.err().unwrap_or(End::Closed);
        self.finish(&end).await;
    }

    /// The loop of a connection: what comes is told by the protocol's session, and done.
    async fn talk(&mut self) -> Result<(), End> {
        self.keep_alive()?;
        let mut now = clock::now();
        let gap = u64::try_from(self.host.gap.as_micros()).unwrap_or(u64::MAX);
        let mut classic = Classic::new(now, protocol_core::time::Duration::from_micros(gap));
        let mut buffer = Vec::new();
        loop {
            let (consumed, event) = classic.input(now, &buffer)?;
            let mut waits = false;
            match event {
                Event::Wait => waits = true,
                Event::Ping => {
                    self.begin().await?;
                    self.send(&Answer::Pong.bytes()).await?;
                }
                Event::Text { message, text } => {
                    self.archive(text).await?;
                    self.send(message).await?;
                }
                Event::Password(password) => self.judge(password).await?,
                Event::Malformed => self.send(&Answer::Malformed.bytes()).await?,
                Event::End if self.host.shutdown.is_requested() => return Err(End::Stopping),
                Event::End => return Err(End::Closed),
            }
            buffer.drain(..consumed);
            if waits {
                if buffer.is_empty() {
                    buffer = Vec::new();
                }
                now = self.listen(&mut classic, &mut buffer).await?;
            }
        }
    }

    fn keep_alive(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let (idle, interval, count) = KEEP_ALIVE;
        let keep_alive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
        SockRef::from(&self.stream).set_tcp_keepalive(&keep_alive)
    }

    /// Waits until bytes come, the stream ends, the session's time is over, or the server stops; gives the time.
    async fn listen(&mut self, classic: &mut Classic, buffer: &mut Vec<u8>) -> io::Result<Instant> {
        let deadline = classic.timeout().map(|at| at.since(clock::now()).into());
        tokio::select! {
            biased;
            _ = self.host.shutdown.requested() => {
                classic.end();
                return Ok(clock::now());
            }
            ready = self.stream.readable() => ready?,
            () = time::sleep(deadline.unwrap_or_default()), if deadline.is_some() => {}
        }
        // Also when the time is over: what has come by now belongs to the text.
        let read = READ.with_borrow_mut(|read| -> io::Result<usize> {
            let room = MAX_MESSAGE.saturating_sub(buffer.len());
            let read = read.get_mut(..room).unwrap_or_default();
            let length = self.stream.try_read(read)?;
            buffer.extend_from_slice(read.get(..length).unwrap_or_default());
            Ok(length)
        });
        match read {
            Ok(0) => classic.end(),
            Ok(_) => {
                if let Some(session) = &mut self.session {
                    session.last_heard = UnixMillis::now();
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(clock::now())
    }

    /// Begins the session at the first `PING`.
    async fn begin(&mut self) -> Result<(), End> {
        if self.session.is_some() {
            return Ok(());
        }
        let store = &self.host.store;
        let device = store.classic_client(self.address).await?.id;
        let session = store
            .start_session(NewSession { device, address: self.address, boot: None, longest_message: None })
            .await?;
        let since = UnixMillis::now();
        let client = ClassicClient { device, session, address: self.address, since };
        let (sender, archived) = mpsc::channel(1);
        self.session = Some(Session {
            _presence: self.host.clients.enter(client),
            client,
            stream: RandomId::draw().map_err(io::Error::other)?,
            number: 0,
            reply: Reply::new(Letterbox(sender)),
            archived,
            last_heard: since,
        });
        Ok(())
    }

    /// Returns when the text is on disk.
    async fn archive(&mut self, text: &[u8]) -> Result<(), End> {
        // No text comes before the handshake.
        let session = self.session.as_mut().ok_or(End::NotArchived)?;
        session.number = session.number.saturating_add(1);
        let incoming = Incoming {
            device: session.client.device,
            session: session.client.session,
            stream: session.stream.0,
            number: session.number,
            kind: Kind::TEXT,
            time: 0,
            received_at: UnixMillis::now(),
            body: text.to_vec(),
            reply: Arc::clone(&session.reply),
        };
        self.host.store.archive(incoming).await?;
        tokio::select! {
            biased;
            outcome = session.archived.recv() => match outcome {
                Some(Outcome::New | Outcome::Repeat) => Ok(()),
                _ => Err(End::NotArchived),
            },
            // A client that is gone is seen to be gone, however long the commit takes; its text is archived.
            broken = self.stream.ready(Interest::ERROR) => {
                broken?;
                Err(self.stream.take_error()?.unwrap_or_else(|| ErrorKind::ConnectionReset.into()).into())
            }
        }
    }

    /// Answers a password, and stops the server if it is the right one.
    async fn judge(&mut self, password: &[u8]) -> Result<(), End> {
        self.host.note_password().await;
        let reason = match self.host.password.attempt(self.address, password).await {
            Ok(Verdict::Accepted) => {
                info!(address = %self.address, "the server is stopped by TERM");
                let accepted = NewEvent::new(EventKind::TermAccepted).address(self.address);
                self.host.store.note(self.described(accepted)).await;
                self.send(&Answer::Accepted.bytes()).await?;
                self.host.shutdown.request(format!("TERM, by the classic client {}", self.address));
                return Err(End::Accepted);
            }
            Ok(Verdict::Wrong) => "wrong",
            Ok(Verdict::NotSet) => "not-set",
            Ok(Verdict::Limited) => "too-many-attempts",
            Err(error) => {
                error!(%error, "a TERM password could not be compared");
                "failed"
            }
        };
        let event = self.described(refusal(EventKind::TermRefused, self.address, reason));
        self.host.record_refusal(event).await;
        self.send(&Answer::Refused.bytes()).await
    }

    /// An event of this connection.
    fn described(&self, event: NewEvent) -> NewEvent {
        match &self.session {
            Some(session) => event.device(session.client.device).session(session.client.session),
            None => event,
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        match time::timeout(WRITE_TIMEOUT, self.stream.write_all(bytes)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(End::NotReading),
        }
    }

    /// Writes down how the connection ended, and closes it.
    async fn finish(mut self, end: &End) {
        debug!(address = %self.address, %end, "a classic connection ended");
        let Some(session) = self.session.take() else {
            drop(self.stream);
            if let End::Protocol(error) = end {
                let event = refusal(EventKind::ConnectionRefused, self.address, "not-classic");
                self.host.record_refusal(event.detail("text", error.to_string())).await;
            }
            return;
        };
        if matches!(end, End::Protocol(_) | End::Accepted) {
            self.linger().await;
        }
        drop(self.stream);
        let text = match end {
            End::Closed | End::Stopping => None,
            end => Some(end.to_string()),
        };
        let end = SessionEnd {
            session: session.client.session,
            last_seen: session.last_heard,
            reason: end.reason(),
            text,
        };
        if let Err(error) = self.host.store.end_session(end).await {
            error!(%error, session = %session.client.session, "the end of a session could not be written down");
        }
    }

    /// Ends our side and takes what the peer still sends: closing with unread bytes would tell the kernel to throw our
    /// last word away.
    async fn linger(&mut self) {
        let (time_limit, most) = LINGER;
        let drain = async {
            self.stream.shutdown().await?;
            let mut buffer = vec![0; 4096];
            let mut taken = 0_usize;
            while taken < most {
                match self.stream.read(&mut buffer).await? {
                    0 => break,
                    length => taken = taken.saturating_add(length),
                }
            }
            Ok::<_, io::Error>(())
        };
        // The connection ends in any case.
        let _ = time::timeout(time_limit, drain).await;
    }
}
