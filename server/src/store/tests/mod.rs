//! The store as its callers see it. Here the tools that these tests share.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

mod archive;
mod devices;
mod down;
mod faults;
mod host_keys;
mod logins;
mod operators;
mod sessions;
mod tasks;
mod wired;

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// Longer than anything takes here: only a failing test waits so long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

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
            .wait_timeout_while(self.0.answers.lock().unwrap(), LONGEST_WAIT, |answers| answers.len() < count)
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
        role: None,
        who: "operator".into(),
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
    let session = store
        .start_session(NewSession { device, address: HOME, boot: Some(9), longest_message: None })
        .await
        .unwrap();
    Connected::new(store, device, session)
}

/// A device of this name and key, enrolled by a token of its own.
pub(crate) async fn enrolled(store: &Store, name: &str, key: [u8; 32]) -> DeviceId {
    let token = NewToken {
        hash: key,
        name: Some(name.parse().unwrap()),
        uses: 1,
        expires_at: UnixMillis::now().plus(60_000),
        role: None,
        who: "test".into(),
    };
    store.create_token(token).await.unwrap();
    let enrolment = Enrolment { token_hash: key, key, facts: Facts::default(), address: HOME };
    store.enrol(enrolment).await.unwrap().unwrap().device
}

/// A key that belongs to this name.
pub(crate) fn key_of(name: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    key
}

/// Bodies of all messages, oldest first.
async fn bodies(store: &Store) -> Vec<String> {
    let rows = store.messages(MessageFilter::default()).await.unwrap();
    rows.into_iter().map(|row| String::from_utf8(row.body).unwrap()).collect()
}

/// All messages, oldest first, read in pages of this size: from the end they are the same.
async fn pages(store: &Store, filter: MessageFilter) -> Vec<MessageRow> {
    let (mut all, mut after) = (Vec::new(), MessageId(0));
    loop {
        let page = store.messages(MessageFilter { after, ..filter }).await.unwrap();
        assert!(page.len() <= filter.limit);
        let Some(last) = page.last() else { break };
        assert!(page.is_sorted_by_key(|message| message.id) && last.id > after);
        after = last.id;
        all.extend(page);
    }
    let mut left = all.as_slice();
    let mut before = MessageId(i64::MAX);
    loop {
        let page = store
            .messages(MessageFilter { after: MessageId(0), before: Some(before), ..filter })
            .await
            .unwrap();
        let Some(first) = page.first() else { break };
        before = first.id;
        left = left.strip_suffix(page.as_slice()).expect("the last of those before");
    }
    assert!(left.is_empty(), "{} were not read from the end", left.len());
    all
}

async fn event_kinds(store: &Store) -> Vec<String> {
    let events = store.events(EventFilter::default()).await.unwrap();
    events.into_iter().map(|event| event.kind).collect()
}

/// The data directory as a kill -9 would leave it now.
fn as_after_a_crash(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["holdfast.db", "holdfast.db-wal"] {
        std::fs::copy(directory.join(name), copy.path().join(name)).unwrap();
    }
    copy
}
