//! The Unix socket for local programs: the framed protocol, with the agent as the server.
//!
//! A message from a local program is echoed when it is in the outbox, on disk. A program that grants a window
//! gets the messages from the server; its echo takes them out of the inbox. Whoever connects makes the agent
//! look again at what other processes may have written.

use std::{
    collections::VecDeque, fs, fs::File, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc,
};

use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::Frame,
    message::{Close, Hello, Information, Message, StoreId, StreamId, Text, Welcome, Window},
    session::{Event, Lost, OPENING_MAX_FRAME, OUTPUT_ROOM, ProtocolError, SendError, Server, Session},
    tag::Tag,
    time::Duration,
    window::MAX_IN_FLIGHT,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    agent::Agent,
    clock,
    feed::{Feed, LOAD_BYTES, LOAD_MESSAGES},
    outbox::NewMessage,
    pipe::Pipe,
    queue::{MAX_FRAME, QueueError},
    store::{Asked, Levels, Store, answer},
};

/// How many local programs may be connected.
const MOST_PROGRAMS: usize = 64;

/// How many more may be on their way to being told that there is no room. All others wait in the kernel.
const MOST_TURNED_AWAY: usize = 16;

/// How long a local program may take to open its session.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);

/// How much a local program may send before it is echoed.
const WINDOW: Window = Window { messages: MAX_IN_FLIGHT as u8, bytes: 256 * 1024 };

/// Listens on the socket of the state directory. Whatever an earlier agent left there is replaced: only
/// the holder of the directory's lock may call this.
///
/// # Errors
/// The system refused: the path is too long for a socket (about 100 bytes), or not ours.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves local programs until the agent stops.
pub async fn run(agent: Arc<Agent>, listener: UnixListener, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let may_accept = connections.len() < MOST_PROGRAMS + MOST_TURNED_AWAY;
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if may_accept => accepted,
        };
        let Ok((stream, _)) =
            accepted.inspect_err(|error| tracing::warn!(%error, "no local program could be accepted"))
        else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        agent.store.look_again();
        agent.identity_news.notify_one();
        if !is_allowed(&stream) {
            tracing::warn!("a program of another user was turned away");
            continue;
        }
        let program = Program::new(Arc::clone(&agent), stream, connections.len() < MOST_PROGRAMS);
        connections.spawn(program.serve(stop.clone()));
    }
    while connections.join_next().await.is_some() {}
}

/// Only the agent's own user and root may speak with it.
fn is_allowed(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == ours)
}

/// Why a local program's connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the agent stops")]
    Stopped,
    #[error("the program left")]
    Left,
    #[error("{detail}")]
    Refused { reason: CloseReason, detail: String },
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("a message is larger than this program takes; give a max_frame of {MAX_FRAME} in the hello")]
    TooSmall,
}

impl End {
    fn farewell(&self) -> Option<CloseReason> {
        match self {
            Self::Stopped => Some(CloseReason::Draining),
            Self::Refused { reason, .. } => Some(*reason),
            Self::Protocol(error) => Some(error.reason()),
            Self::Lost(_) => Some(CloseReason::Silent),
            Self::Queue(QueueError::Conflict) => Some(CloseReason::Conflict),
            Self::TooSmall | Self::Queue(QueueError::TooLarge { .. }) => Some(CloseReason::ProtocolError),
            Self::Queue(_) | Self::Send(_) => Some(CloseReason::Overloaded),
            Self::Left | Self::Broken(_) => None,
        }
    }
}

/// One connected local program.
struct Program {
    session: Session<Server>,
    pipe: Pipe<UnixStream>,
    duties: Duties,
}

impl Program {
    fn new(agent: Arc<Agent>, stream: UnixStream, has_room: bool) -> Self {
        Self {
            session: Session::server(clock::now(), OPENING_TIMEOUT),
            pipe: Pipe::new(stream),
            duties: Duties {
                agent,
                has_room,
                hello: None,
                puts: VecDeque::new(),
                receiver: None,
                asks: false,
            },
        }
    }

    async fn serve(mut self, mut stop: watch::Receiver<bool>) {
        let Err(end) = self.run(&mut stop).await;
        tracing::trace!(%end, "a local program's connection ended");
        if let Some(reason) = end.farewell() {
            let detail = end.to_string();
            let close = Close { reason, retry_after: 0, detail: Text::shortened(&detail) };
            let room = usize::from(OPENING_MAX_FRAME);
            let _ = self.pipe.write(room, |room| Ok::<_, io::Error>(self.session.close(&close, room)));
        }
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), self.pipe.finish()).await;
    }

    /// Drives the session as `protocol-core` demands: input first, then output, then wait.
    async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<std::convert::Infallible, End> {
        let mut levels = self.duties.agent.store.levels();
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
            let due = self.session.timeout().map(|due| due.since(clock::now()).into());
            tokio::select! {
                biased;
                moved = self.pipe.moved() => moved?,
                _ = stop.wait_for(|stop| *stop) => return Err(End::Stopped),
                put = put(&mut self.duties.puts) => {
                    let (stream, number) = put?;
                    self.session.echo(stream, number);
                }
                loaded = load(&mut self.duties.receiver) => loaded?,
                _ = levels.changed() => {}
                () = sleep(due) => {}
            }
        }
    }
}

async fn sleep(wait: Option<std::time::Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A message of a local program that waits for the disk.
struct Put {
    stream: StreamId,
    number: u64,
    asked: Asked<u64>,
}

/// What the agent does for a local program, beside driving its session.
struct Duties {
    agent: Arc<Agent>,
    /// The program is not one too many.
    has_room: bool,
    /// A hello that waits for its welcome.
    hello: Option<Hello>,
    /// Messages on their way to the disk, in their order.
    puts: VecDeque<Put>,
    /// The messages from the server, for the one program that receives them.
    receiver: Option<(Feed, Receiving)>,
    /// The program asked how the agent is.
    asks: bool,
}

impl Duties {
    fn hear(&mut self, event: Event<'_>) -> Result<(), End> {
        match event {
            Event::Hello(hello) => self.hello = Some(hello),
            Event::Message(message) => self.keep(&message),
            Event::Echo(echo) => {
                let position = self.receiver.as_mut().and_then(|(feed, _)| feed.echoed(&echo));
                if let Some(position) = position {
                    self.agent.store.tell(move |queues| queues.inbox.taken(position));
                }
            }
            Event::Notice(Frame { tag: Tag::INFORMATION, .. }) => self.asks = true,
            Event::Closed(_) => return Err(End::Left),
            Event::Notice(_) | Event::Pong { .. } | Event::Welcome(_) => {}
        }
        Ok(())
    }

    fn keep(&mut self, message: &Message<'_>) {
        let new = NewMessage {
            source: (message.stream, message.number),
            is_named: false,
            time: if message.time == 0 { clock::unix_time() } else { message.time },
            kind: message.kind.as_str().to_owned(),
            body: message.body.to_vec(),
        };
        let asked = self.agent.store.ask(move |queues| queues.outbox.put(&new));
        self.puts.push_back(Put { stream: message.stream, number: message.number, asked });
    }

    fn speak(
        &mut self,
        session: &mut Session<Server>,
        pipe: &mut Pipe<UnixStream>,
        levels: &Levels,
    ) -> Result<(), End> {
        if let Some(hello) = self.hello.take() {
            self.admit(&hello)?;
            self.welcome(session, pipe)?;
        }
        if std::mem::take(&mut self.asks) {
            let json = self.agent.status().to_string();
            pipe.write(usize::from(MAX_FRAME), |room| {
                session.notice(clock::now(), &Information { json: &json }, room)
            })?;
        }
        if let Some((feed, _)) = &mut self.receiver {
            let load = |after| {
                self.agent.store.ask(move |queues| queues.inbox.after(after, LOAD_MESSAGES, LOAD_BYTES))
            };
            feed.send(session, pipe, levels.inbox.last, load).map_err(|_| End::TooSmall)?;
        }
        Ok(())
    }

    fn admit(&mut self, hello: &Hello) -> Result<(), End> {
        let refuse = |reason, detail: &str| Err(End::Refused { reason, detail: detail.to_owned() });
        if hello.kind != ConnectionKind::Local {
            return refuse(CloseReason::NotServed, "this socket serves local programs only");
        }
        if !self.has_room {
            tracing::warn!(MOST_PROGRAMS, "too many local programs: another was turned away");
            return refuse(
                CloseReason::Overloaded,
                &format!(
                    "{MOST_PROGRAMS} local programs are connected, the most there may be; end some of them, then try again"
                ),
            );
        }
        if hello.window.messages > 0 {
            // What one program has taken another would miss.
            match self.agent.state.lock_for_receive() {
                Ok(lock) => {
                    let receiving = Receiving { lock: Some(lock), store: self.agent.store.clone() };
                    self.receiver = Some((Feed::after(0), receiving));
                }
                Err(error) => return refuse(CloseReason::Overloaded, &error.to_string()),
            }
        }
        Ok(())
    }

    fn welcome(&self, session: &mut Session<Server>, pipe: &mut Pipe<UnixStream>) -> Result<(), End> {
        let name = self.agent.name.borrow();
        let welcome = Welcome {
            version: session.version(),
            // Both ends are on one machine: the kernel tells when the other is gone.
            interval: 0,
            timeout: 0,
            max_frame: MAX_FRAME,
            window: WINDOW,
            store: StoreId(self.agent.boot.0),
            archived: 0,
            time: clock::unix_time(),
            name: Text::shortened(name.as_deref().unwrap_or_default()),
        };
        pipe.write(usize::from(OPENING_MAX_FRAME), |room| session.welcome(clock::now(), &welcome, room))?;
        Ok(())
    }
}

/// The right to take messages, for one program.
struct Receiving {
    lock: Option<File>,
    store: Store,
}

impl Drop for Receiving {
    /// The next may come when what this one has taken is gone from the disk, not earlier.
    fn drop(&mut self) {
        let lock = self.lock.take();
        drop(self.store.ask(move |_| Ok(lock)));
    }
}

/// Waits for the oldest message that is on its way to the disk. Dropping the future loses nothing.
async fn put(puts: &mut VecDeque<Put>) -> Result<(StreamId, u64), QueueError> {
    let Some(Put { stream, number, asked }) = puts.front_mut() else {
        return std::future::pending().await;
    };
    let done = (*stream, *number);
    let result = answer(asked).await;
    puts.pop_front();
    result.map(|_| done)
}

async fn load(receiver: &mut Option<(Feed, Receiving)>) -> Result<(), QueueError> {
    match receiver {
        Some((feed, _)) => feed.load().await,
        None => std::future::pending().await,
    }
}
