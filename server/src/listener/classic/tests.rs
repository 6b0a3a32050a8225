use std::net::Ipv4Addr;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    config::Overrides,
    event::EventRow,
    store::{EventFilter, MessageFilter, SessionFilter, SessionRow},
    term_password,
};

/// Longer than anything takes here: only a failing test waits so long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A listener with its store, and the server's stop.
struct Server {
    data: TempDir,
    host: Arc<ClassicHost>,
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Server {
    async fn start(limit: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::load(data.path(), &Overrides::default()).unwrap();
        config.classic_gap = Duration::from_millis(5);
        config.limits.classic_connections = limit;
        let store = Store::open(data.path()).unwrap();
        let parts = Arc::new(Parts::new(store.clone()));
        let host = Arc::new(ClassicHost::new(&config, parts, store, Arc::default(), Shutdown::default()));
        let running = tokio::spawn(run(Arc::clone(&host), Arc::new(listener)));
        Self { data, host, address, running }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    async fn greet(&self) -> Client {
        let mut client = self.connect().await;
        client.ask(b"PING", b"PONG").await;
        client
    }

    async fn ended(self) -> Records {
        time::timeout(LONGEST_WAIT, self.host.shutdown.requested()).await.unwrap();
        self.running.abort();
        assert_eq!(self.host.drain(LONGEST_WAIT).await, 0);
        // The counters of a session are whole when the store has been closed.
        self.host.store.close().await;
        drop(self.host);
        let store = Store::open(self.data.path()).unwrap();
        let messages = store.messages(MessageFilter::default()).await.unwrap();
        Records {
            texts: messages.into_iter().map(|message| message.body).collect(),
            sessions: store.sessions(SessionFilter::default()).await.unwrap(),
            events: store.events(EventFilter::default()).await.unwrap(),
        }
    }

    async fn stop(self) -> Records {
        self.host.shutdown.request("test");
        self.ended().await
    }
}

/// What is left in the store.
struct Records {
    texts: Vec<Vec<u8>>,
    sessions: Vec<SessionRow>,
    events: Vec<EventRow>,
}

impl Records {
    fn reasons_of(&self, kind: EventKind) -> Vec<&str> {
        let events = self.events.iter().filter(|event| event.kind == kind.name());
        events
            .map(|event| event.detail.get("reason").and_then(|reason| reason.as_str()).unwrap_or(""))
            .collect()
    }
}

struct Client(TcpStream);

impl Client {
    async fn ask(&mut self, message: &[u8], answer: &[u8]) {
        self.0.write_all(message).await.unwrap();
        let mut came = vec![0; answer.len()];
        time::timeout(LONGEST_WAIT, self.0.read_exact(&mut came)).await.unwrap().unwrap();
        assert_eq!(came, answer);
    }

    /// Waits until the server has closed, and gives what it sent before.
    async fn closed(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is a close, too.
        let _ = time::timeout(LONGEST_WAIT, self.0.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

#[tokio::test]
async fn a_text_is_archived_before_it_is_echoed() {
    let server = Server::start(10).await;
    let mut client = server.greet().await;
    assert_eq!(server.host.clients.count(), 1);
    client.ask(b"MESG one", b"MESG one").await;
    let messages = server.host.store.messages(MessageFilter::default()).await.unwrap();
    assert_eq!(messages.len(), 1);
    client.ask(b"MESG \xff\n", b"MESG \xff\n").await;
    client.ask(b"MESG", b"MESG").await;
    client.ask(b"PING", b"PONG").await;
    client.0.write_all(b"MESG last").await.unwrap();
    client.0.shutdown().await.unwrap();
    assert_eq!(client.closed().await, b"MESG last");
    let clients = Arc::clone(&server.host.clients);
    let records = server.stop().await;
    assert_eq!(clients.count(), 0);
    assert_eq!(records.texts, [&b"one"[..], b"\xff\n", b"", b"last"]);
    let [session] = &records.sessions[..] else { panic!("{:?}", records.sessions) };
    assert_eq!((session.device.as_str(), session.address.as_str()), ("127.0.0.1", "127.0.0.1"));
    assert_eq!((session.messages_in, session.bytes_in), (4, 9));
    assert_eq!(session.reason, Some(EndReason::Closed));
}

#[tokio::test]
async fn garbage_is_closed_at_the_handshake_and_leaves_an_event() {
    let server = Server::start(10).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0", b"MESG hello"] {
        let mut client = server.connect().await;
        client.0.write_all(garbage).await.unwrap();
        assert_eq!(client.closed().await, b"");
    }
    let mut empty = server.connect().await;
    empty.0.shutdown().await.unwrap();
    assert_eq!(empty.closed().await, b"");
    server.greet().await;
    let records = server.stop().await;
    assert_eq!(records.reasons_of(EventKind::ConnectionRefused), ["not-classic"; 3]);
    assert_eq!(records.sessions.len(), 1);
    assert!(records.texts.is_empty());
}

#[tokio::test]
async fn more_clients_than_allowed_are_closed_at_once() {
    let server = Server::start(2).await;
    let (first, mut second) = (server.greet().await, server.greet().await);
    assert_eq!(server.connect().await.closed().await, b"");
    drop(first);
    // The place is free as soon as the server has seen it.
    time::timeout(LONGEST_WAIT, async {
        while server.host.clients.count() > 1 {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    second.ask(b"MESG still here", b"MESG still here").await;
    let records = server.stop().await;
    assert_eq!(records.reasons_of(EventKind::ConnectionRefused), ["too-many"]);
    assert_eq!(second.closed().await, b"");
}

#[tokio::test]
async fn the_right_password_stops_the_server() {
    let server = Server::start(10).await;
    let mut client = server.greet().await;
    let mut other = server.greet().await;
    client.ask(b"TERM sesame", b"PWNO").await;
    term_password::set(server.data.path(), b"sesame").unwrap();
    client.ask(b"TERM Sesame", b"PWNO").await;
    client.ask(b"TERM", b"").await;
    time::sleep(Duration::from_millis(50)).await;
    client.ask(b"what?", b"PWIV").await;
    other.ask(b"MESG still here", b"MESG still here").await;
    client.ask(b"TERMPASS sesame", b"PWOK").await;
    assert_eq!(client.closed().await, b"");
    assert_eq!(other.closed().await, b"");
    let records = server.ended().await;
    assert_eq!(records.reasons_of(EventKind::TermRefused), ["not-set", "wrong"]);
    assert_eq!(records.reasons_of(EventKind::TermAccepted).len(), 1);
    assert_eq!(records.reasons_of(EventKind::TermPasswordSet).len(), 1);
    assert!(records.sessions.iter().all(|session| session.reason == Some(EndReason::ServerStopped)));
    assert!(!format!("{:?}", records.events).to_lowercase().contains("sesame"));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_kept_to_its_cap() {
    let server = Server::start(10).await;
    let mut client = server.greet().await;
    let long = [&b"MESG "[..], &vec![b'x'; 200_000]].concat();
    client.0.write_all(&long).await.unwrap();
    assert_eq!(client.closed().await, &long[..MAX_MESSAGE]);
    let records = server.stop().await;
    assert_eq!(records.texts, [&long[5..MAX_MESSAGE]]);
    assert_eq!(records.sessions[0].reason, Some(EndReason::ProtocolError));
}

#[tokio::test]
async fn what_came_before_the_stop_is_archived_and_echoed() {
    let server = Server::start(10).await;
    let mut client = server.greet().await;
    client.ask(b"MESG one", b"MESG one").await;
    client.0.set_nodelay(true).unwrap();
    client.0.write_all(b"MESG half a te").await.unwrap();
    let stopping = async {
        time::sleep(Duration::from_millis(1)).await;
        server.stop().await
    };
    let (rest, records) = tokio::join!(client.closed(), stopping);
    // It may not have been read by then; but what is echoed is kept, and nothing else is.
    let kept = records.texts.get(1).map(|text| [b"MESG ", &text[..]].concat()).unwrap_or_default();
    assert_eq!(rest, kept);
    assert_eq!(records.sessions[0].reason, Some(EndReason::ServerStopped));
}

#[tokio::test]
async fn a_broken_connection_is_noticed() {
    let server = Server::start(10).await;
    let client = server.greet().await;
    SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    time::timeout(LONGEST_WAIT, async {
        while server.host.clients.count() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let records = server.stop().await;
    assert_eq!(records.sessions[0].reason, Some(EndReason::Broken));
}
