//! The store on a disk that is really full: a small file system of the test's own.

use std::{
    env,
    fs::File,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::{Arc, mpsc},
    time::Duration,
};

use holdfast_server::store::{
    Archived, EndReason, EventFilter, Incoming, Kind, MessageFilter, MessageId, NewSession, Outcome, Reply,
    SessionEnd, SessionFilter, SessionId, Store, UnixMillis,
};

/// Where the small file system is: set for this very test when it runs inside of it.
const DIRECTORY: &str = "HOLDFAST_TEST_DIRECTORY";
/// Longer than anything takes here: only a failing test waits so long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// What is left free at first, in bytes: a few dozen messages.
const LEFT_FREE: u64 = 3 * 1024 * 1024;

#[test]
fn a_full_disk_is_recorded_and_loses_nothing_that_was_acknowledged() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside_a_small_file_system(Path::new(&directory)));
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\"")
        .arg(directory.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", "a_full_disk_is_recorded_and_loses_nothing_that_was_acknowledged", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .expect("unshare (of util-linux) is needed to make a small file system");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn inside_a_small_file_system(directory: &Path) {
    let data = directory.join("data");
    let filler = directory.join("filler");
    let store = Store::open(&data).unwrap();
    fill(&filler, LEFT_FREE);

    let client = Client::connect(&store).await;
    let acknowledged = client.send_until_refused(&store, 1).await;
    assert!(acknowledged > 0);
    until(&store, "disk-full").await;
    assert!(!data.join("reserve").exists());
    client.end(&store).await;
    // No message more while there is no space, but what is small is still written.
    let refused = Client::connect(&store).await;
    assert_eq!(refused.send(&store, acknowledged + 1).await, Outcome::Failed);
    refused.end(&store).await;
    assert_eq!(count(&store).await, acknowledged);

    // A server that starts now finds it all.
    store.close().await;
    let store = Store::open(&data).unwrap();
    assert_eq!(count(&store).await, acknowledged);
    let ended = store.sessions(SessionFilter::default()).await.unwrap();
    assert!(ended.iter().all(|session| session.reason == Some(EndReason::StoreFailed)), "{ended:?}");
    store.close().await;

    // With space again, all goes on by itself.
    std::fs::remove_file(&filler).unwrap();
    let store = Store::open(&data).unwrap();
    let client = Client::connect(&store).await;
    assert_eq!(client.send(&store, acknowledged + 1).await, Outcome::New);
    let acknowledged = acknowledged + 1;
    starts_where_only_the_reserve_is_left(&data, directory).await;
    fill(&filler, LEFT_FREE);
    let acknowledged = Client::connect(&store).await.send_until_refused(&store, acknowledged + 1).await;
    std::fs::remove_file(&filler).unwrap();
    until(&store, "disk-recovered").await;
    assert!(data.join("reserve").exists());
    let client = Client::connect(&store).await;
    assert_eq!(client.send(&store, acknowledged + 1).await, Outcome::New);
    assert_eq!(count(&store).await, acknowledged + 1);
}

/// A classic client with one connection.
struct Client {
    new: NewSession,
    session: SessionId,
    outcomes: mpsc::Receiver<Outcome>,
    reply: Arc<Reply>,
}

struct Mailbox(mpsc::Sender<Outcome>);

impl Archived for Mailbox {
    fn archived(&self, _: u64, _: u64, outcome: Outcome) {
        _ = self.0.send(outcome);
    }
}

impl Client {
    async fn connect(store: &Store) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let device = store.classic_client(address).await.unwrap().id;
        let new = NewSession { device, address, boot: None, longest_message: None };
        let session = store.start_session(new).await.unwrap();
        let (sender, outcomes) = mpsc::channel();
        Self { new, session, outcomes, reply: Reply::new(Mailbox(sender)) }
    }

    /// Sends a message of 16 KiB; what became of it.
    async fn send(&self, store: &Store, number: u64) -> Outcome {
        let incoming = Incoming {
            device: self.new.device,
            session: self.session,
            stream: 1,
            number,
            kind: Kind::TEXT,
            time: 0,
            received_at: UnixMillis::now(),
            body: vec![b'x'; 16 * 1024],
            reply: Arc::clone(&self.reply),
        };
        store.archive(incoming).await.unwrap();
        self.outcomes.recv_timeout(LONGEST_WAIT).unwrap()
    }

    /// Sends messages with these numbers until one is refused; the last that was not.
    async fn send_until_refused(&self, store: &Store, first: u64) -> u64 {
        for number in first..first + 1_000 {
            match self.send(store, number).await {
                Outcome::New => {}
                Outcome::Failed => return number - 1,
                outcome => panic!("message {number}: {outcome:?}"),
            }
        }
        panic!("the disk does not get full");
    }

    async fn end(self, store: &Store) {
        let end = SessionEnd {
            session: self.session,
            last_seen: UnixMillis::now(),
            reason: EndReason::StoreFailed,
            text: None,
        };
        store.end_session(end).await.unwrap();
    }
}

/// A server that was killed has left a log, and to read it takes an index, which is made anew: where nothing is left
/// but the reserve, that has to be given up first.
async fn starts_where_only_the_reserve_is_left(killed: &Path, directory: &Path) {
    let (data, filler) = (directory.join("copy"), directory.join("second-filler"));
    std::fs::create_dir(&data).unwrap();
    for name in ["holdfast.db", "holdfast.db-wal", "reserve"] {
        std::fs::copy(killed.join(name), data.join(name)).unwrap();
    }
    fill(&filler, 0);
    let store = Store::open(&data).unwrap();
    assert!(!data.join("reserve").exists());
    assert!(count(&store).await > 0);
    store.close().await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::remove_file(&filler).unwrap();
}

/// Fills the disk, but for `left` bytes.
fn fill(path: &Path, left: u64) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 64 * 1024]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.checked_sub(left).unwrap()).unwrap();
}

/// How many messages there are.
async fn count(store: &Store) -> u64 {
    let (mut count, mut after) = (0, MessageId(0));
    loop {
        let page = store.messages(MessageFilter { after, ..MessageFilter::default() }).await.unwrap();
        let Some(last) = page.last() else { return count };
        after = last.id;
        count += u64::try_from(page.len()).unwrap();
    }
}

/// Waits for an event of this kind.
async fn until(store: &Store, kind: &str) {
    let mut newest = store.newest();
    let wait = async {
        while !store.events(EventFilter::default()).await.unwrap().iter().any(|event| event.kind == kind) {
            newest.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONGEST_WAIT, wait).await.unwrap();
}
