//! The store as its callers see it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// Longer than anything takes here: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mailbox that remembers.
#[derive(Clone, Default)]
struct Mailbox(Arc<Letters>);

#[derive(Default)]
struct Letters {
    answers: Mutex<Vec<(u64, Outcome)>>,
    came: Condvar,
}

impl Archived for Mailbox {
    fn archived(&self, _: u64, number: u64, outcome: Outcome) {
        self.0.answers.lock().unwrap().push((number, outcome));
        self.0.came.notify_all();
    }
}

impl Mailbox {
    /// Waits until so many answers have come, and takes them.
    fn take(&self, count: usize) -> Vec<(u64, Outcome)> {
        let (mut answers, timeout) = self
            .0
            .came
            .wait_timeout_while(self.0.answers.lock().unwrap(), PATIENCE, |answers| answers.len() < count)
            .unwrap();
        assert!(!timeout.timed_out(), "{} of {count} answers came", answers.len());
        std::mem::take(&mut *answers)
    }
}

/// A connection of a device.
struct Connected {
    store: Store,
    device: DeviceId,
    session: SessionId,
    mailbox: Mailbox,
    reply: Arc<Reply>,
}

impl Connected {
    fn new(store: &Store, device: DeviceId, session: SessionId) -> Self {
        let mailbox = Mailbox::default();
        let reply = Reply::new(mailbox.clone());
        Self { store: store.clone(), device, session, mailbox, reply }
    }

    fn message(&self, stream: u64, number: u64, text: &str) -> Incoming {
        Incoming {
            device: self.device,
            session: self.session,
            stream,
            number,
            kind: Kind::TEXT,
            time: 1_000 + number,
            received_at: UnixMillis::now(),
            body: text.as_bytes().to_vec(),
            reply: Arc::clone(&self.reply),
        }
    }

    async fn send(&self, stream: u64, number: u64, text: &str) {
        self.store.archive(self.message(stream, number, text)).await.unwrap();
    }
}

fn hash(seed: u8) -> [u8; 32] {
    [seed; 32]
}

async fn token(store: &Store, seed: u8, name: Option<&str>, uses: u32) {
    let token = NewToken {
        hash: hash(seed),
        name: name.map(|name| name.parse().unwrap()),
        uses,
        expires_at: UnixMillis::now().plus(60_000),
        who: "operator".to_owned(),
    };
    store.create_token(token).await.unwrap();
}

fn enrolment(token: u8, key: u8) -> Enrolment {
    let facts = Facts { host_name: Some("Board.local".to_owned()), ..Facts::default() };
    Enrolment { token_hash: hash(token), key: hash(key), facts, address: HOME }
}

async fn device(store: &Store, name: &str, key: u8) -> DeviceId {
    token(store, key, Some(name), 1).await;
    store.enrol(enrolment(key, key)).await.unwrap().unwrap().device
}

async fn connect(store: &Store, device: DeviceId) -> Connected {
    let session = store.start_session(NewSession { device, address: HOME, boot: Some(9) }).await.unwrap();
    Connected::new(store, device, session)
}

/// Bodies of all messages, oldest first.
async fn bodies(store: &Store) -> Vec<String> {
    let rows = store.messages(MessageFilter::default()).await.unwrap();
    rows.into_iter().map(|row| String::from_utf8(row.body.0).unwrap()).collect()
}

#[tokio::test]
async fn messages_are_archived_once_and_repeats_known() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    for number in 1..=3 {
        connected.send(5, number, &format!("text {number}")).await;
    }
    assert_eq!(connected.mailbox.take(3), [1, 2, 3].map(|number| (number, Outcome::New)));
    connected.send(5, 2, "text 2").await;
    connected.send(5, 4, "text 4").await;
    assert_eq!(connected.mailbox.take(2), [(2, Outcome::Repeat), (4, Outcome::New)]);
    assert_eq!(bodies(&store).await, ["text 1", "text 2", "text 3", "text 4"]);
    assert_eq!(store.highest(pi, 5).await.unwrap(), 4);
    assert_eq!(store.highest(pi, 6).await.unwrap(), 0);
}

#[tokio::test]
async fn after_a_conflict_nothing_more_of_the_connection_is_archived() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let old = connect(&store, pi).await;
    old.send(5, 1, "as it was").await;
    old.mailbox.take(1);
    // A connection that has all this on its way before the first answer.
    let restored = connect(&store, pi).await;
    restored.send(5, 1, "another").await;
    restored.send(5, 2, "behind it").await;
    restored.send(8, 1, "in another stream").await;
    // One that is not concerned, behind it in the queue.
    old.send(5, 2, "mine").await;
    assert_eq!(old.mailbox.take(1), [(2, Outcome::New)]);
    assert_eq!(restored.mailbox.take(1), [(1, Outcome::Conflict)]);
    assert_eq!(bodies(&store).await, ["as it was", "mine"]);
    let event = store.events(EventFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!(event.kind, "message-conflict");
    assert_eq!((event.device.as_deref(), event.address.as_deref()), (Some("pi-7"), Some("192.0.2.7")));
    assert_eq!(event.detail["number"], 1);
}
