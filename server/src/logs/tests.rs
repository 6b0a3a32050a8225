//! The files after crashes, rotations and accidents.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::*;
use crate::{
    event::{EventKind, NewEvent},
    store::{
        Archived, DeviceId, Incoming, Kind, MessageId, NewSession, Outcome, Reply, SessionId, UnixMillis,
    },
};

struct Mailbox;

impl Archived for Mailbox {
    fn archived(&self, _: u64, _: u64, outcome: Outcome) {
        assert_eq!(outcome, Outcome::New);
    }
}

/// A store with one classic client, and its logs.
struct Bench {
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
    store: Store,
    limits: LogFiles,
    device: DeviceId,
    session: SessionId,
    reply: Arc<Reply>,
    sent: u64,
}

impl Bench {
    fn new(limits: LogFiles) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
        let device = runtime.block_on(store.classic_client(address)).unwrap().id;
        let session = runtime
            .block_on(store.start_session(NewSession { device, address, boot: None, longest_message: None }))
            .unwrap();
        Self { runtime, directory, store, limits, device, session, reply: Reply::new(Mailbox), sent: 0 }
    }

    /// Archives a message of this text.
    fn send(&mut self, text: &str) {
        self.sent += 1;
        let incoming = Incoming {
            device: self.device,
            session: self.session,
            stream: 1,
            number: self.sent,
            kind: Kind::TEXT,
            time: 0,
            received_at: UnixMillis::now(),
            body: text.as_bytes().to_vec(),
            reply: Arc::clone(&self.reply),
        };
        self.runtime.block_on(self.store.archive(incoming)).unwrap();
        // Behind it in the queue: when this is written, so is the message.
        self.runtime.block_on(self.store.sessions_seen(Vec::new())).unwrap();
    }

    fn writer(&self) -> Writer {
        Writer::open(self.store.clone(), &self.directory.path().join("logs"), self.limits).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("logs").join(name)
    }

    /// The texts in the device's file, those put aside (oldest first) before it.
    fn texts(&self) -> Vec<String> {
        let mut text = String::new();
        for generation in 1..1_000 {
            let aside = self.path(&format!("devices/192.0.2.7.log.{generation}"));
            text.push_str(&fs::read_to_string(aside).unwrap_or_default());
        }
        text.push_str(&fs::read_to_string(self.path("devices/192.0.2.7.log")).unwrap_or_default());
        let messages = text.lines().filter_map(|line| line.split_once(" in text "));
        messages.map(|(_, text)| text.to_owned()).collect()
    }

    /// How many texts are in the server's file.
    fn server_texts(&self) -> usize {
        let server = fs::read_to_string(self.path("server.log")).unwrap_or_default();
        server.lines().filter(|line| line.contains(" in text ")).count()
    }

    fn expected(&self) -> Vec<String> {
        (1..=self.sent).map(|number| format!("text {number}")).collect()
    }

    fn send_some(&mut self, count: u64) {
        for _ in 0..count {
            let text = format!("text {}", self.sent + 1);
            self.send(&text);
        }
    }
}

fn large() -> LogFiles {
    LogFiles::default()
}

/// Three messages and it is full.
fn small() -> LogFiles {
    LogFiles { max_bytes: 200, keep: 1_000 }
}

fn write_all(writer: &mut Writer) {
    while writer.step().unwrap().more {}
}

#[test]
fn messages_and_events_of_a_device_and_of_the_server() {
    let mut bench = Bench::new(large());
    bench.send("hello\nworld");
    bench.runtime.block_on(bench.store.record(NewEvent::new(EventKind::ServerStarted))).unwrap();
    write_all(&mut bench.writer());
    let server = fs::read_to_string(bench.path("server.log")).unwrap();
    let mut lines: Vec<_> = server.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    // What has the same millisecond stands in either order.
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "- event server-started",
            "192.0.2.7 event device-connected session=1 address=192.0.2.7",
            "192.0.2.7 in text hello\\nworld",
        ]
    );
    let device = fs::read_to_string(bench.path("devices/192.0.2.7.log")).unwrap();
    let both = device.lines().filter(|line| server.lines().any(|found| found == *line));
    assert_eq!((both.count(), device.lines().count()), (2, 2), "{device}");
}

#[test]
fn a_crash_neither_drops_nor_doubles_a_line() {
    let mut bench = Bench::new(large());
    let mut writer = bench.writer();
    bench.send_some(3);
    write_all(&mut writer);
    writer.checkpoint().unwrap();
    bench.send_some(3);
    write_all(&mut writer);
    assert_eq!(bench.texts(), bench.expected());
    // The server dies; half a line more is in the file.
    drop(writer);
    let path = bench.path("devices/192.0.2.7.log");
    let before = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{before}2026-11-22T0")).unwrap();
    let mut writer = bench.writer();
    write_all(&mut writer);
    assert_eq!(bench.texts(), bench.expected());
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    // And with more to come, twice in a row.
    bench.send_some(2);
    write_all(&mut writer);
    drop(writer);
    write_all(&mut bench.writer());
    assert_eq!(bench.texts(), bench.expected());
}

#[test]
fn a_crash_at_any_place_around_a_rotation_is_mended() {
    for synced in 0..4 {
        for lost in [1, 2, 3, 4, 7, 10] {
            let mut bench = Bench::new(small());
            let mut writer = bench.writer();
            for _ in 0..synced {
                bench.send_some(1);
                write_all(&mut writer);
            }
            writer.checkpoint().unwrap();
            for _ in 0..lost {
                bench.send_some(1);
                // As a step, without the sync at its end.
                let page = Page::of(&writer.store.unlogged(writer.written, PAGE).unwrap(), writer.written);
                writer.adopt(&page.lines).unwrap();
                writer.files.write(&page.lines).unwrap();
                writer.written = page.last;
            }
            assert_eq!(bench.texts(), bench.expected(), "before the crash: {synced}, {lost}");
            drop(writer);
            let mut writer = bench.writer();
            write_all(&mut writer);
            assert_eq!(bench.texts(), bench.expected(), "after the crash: {synced}, {lost}");
            bench.send_some(4);
            write_all(&mut writer);
            assert_eq!(bench.texts(), bench.expected(), "going on: {synced}, {lost}");
        }
    }
}

#[test]
fn only_so_many_files_are_kept() {
    for keep in [0, 1, 3] {
        let mut bench = Bench::new(LogFiles { max_bytes: 200, keep });
        let mut writer = bench.writer();
        for _ in 0..30 {
            bench.send_some(1);
            write_all(&mut writer);
        }
        let files = fs::read_dir(bench.path("devices")).unwrap().count();
        assert_eq!(files, keep + 1);
        let texts = bench.texts();
        assert!(bench.expected().ends_with(&texts), "{texts:?}");
        assert!(!texts.is_empty());
    }
}

#[test]
fn lines_go_on_after_somebody_deleted_or_emptied_a_file() {
    let mut bench = Bench::new(large());
    let mut writer = bench.writer();
    bench.send_some(2);
    write_all(&mut writer);
    fs::remove_file(bench.path("devices/192.0.2.7.log")).unwrap();
    bench.send_some(1);
    write_all(&mut writer);
    assert_eq!(bench.texts(), ["text 3"]);
    fs::File::create(bench.path("devices/192.0.2.7.log")).unwrap();
    bench.send_some(1);
    write_all(&mut writer);
    assert_eq!(bench.texts(), ["text 4"]);
    writer.checkpoint().unwrap();
    drop(writer);
    fs::remove_dir_all(bench.path("")).unwrap();
    bench.send_some(1);
    write_all(&mut bench.writer());
    assert_eq!(bench.texts(), ["text 5"]);
}

#[test]
fn lines_of_an_older_store_stay() {
    let mut bench = Bench::new(small());
    fs::create_dir_all(bench.path("devices")).unwrap();
    fs::write(bench.path("devices/192.0.2.7.log"), "x in text old 2\n").unwrap();
    fs::write(bench.path("devices/192.0.2.7.log.7"), "x in text old 1\n").unwrap();
    bench.send_some(8);
    write_all(&mut bench.writer());
    let mut expected = vec!["old 1".to_owned(), "old 2".to_owned()];
    expected.extend(bench.expected());
    assert_eq!(bench.texts(), expected);
}

#[test]
fn a_failed_write_is_made_up_for() {
    let mut bench = Bench::new(large());
    let mut writer = bench.writer();
    bench.send_some(2);
    write_all(&mut writer);
    drop(std::mem::replace(&mut writer, bench.writer()));
    bench.send_some(2);
    // A file that can't be written: the others may be written before that fails, or not.
    let page = Page::of(&writer.store.unlogged(writer.written, PAGE).unwrap(), writer.written);
    writer.adopt(&page.lines).unwrap();
    let mut lines = page.lines;
    lines.insert("never adopted".to_owned(), "x".to_owned());
    assert!(matches!(writer.files.write(&lines), Err(LogError::File { .. })));
    // No directory can be made.
    let (logs, aside) = (bench.path(""), bench.directory.path().join("elsewhere"));
    fs::rename(&logs, &aside).unwrap();
    fs::write(bench.directory.path().join("logs"), "").unwrap();
    assert!(matches!(writer.step(), Err(LogError::File { .. })));
    assert!(writer.step().is_err());
    fs::remove_file(bench.directory.path().join("logs")).unwrap();
    fs::rename(&aside, &logs).unwrap();
    write_all(&mut writer);
    assert_eq!(bench.texts(), bench.expected());
    assert_eq!(bench.server_texts(), 4);
}

#[test]
fn deleted_directories_are_made_again() {
    let mut bench = Bench::new(large());
    let mut writer = bench.writer();
    bench.send_some(2);
    write_all(&mut writer);
    // Before a sync: there is nothing to be synced, and nothing fails.
    fs::remove_dir_all(bench.path("")).unwrap();
    writer.checkpoint().unwrap();
    bench.send_some(2);
    write_all(&mut writer);
    assert_eq!(bench.texts(), ["text 3", "text 4"]);
    assert_eq!(bench.server_texts(), 2);
    // Before lines; only the devices' one.
    fs::remove_dir_all(bench.path("devices")).unwrap();
    bench.send_some(1);
    write_all(&mut writer);
    assert_eq!(bench.texts(), ["text 5"]);
    assert_eq!(bench.server_texts(), 3);
    // Moved away, while the files are open: no line follows them.
    let aside = bench.directory.path().join("elsewhere");
    fs::rename(bench.path(""), &aside).unwrap();
    bench.send_some(1);
    write_all(&mut writer);
    writer.checkpoint().unwrap();
    assert_eq!(bench.texts(), ["text 6"]);
    assert_eq!(bench.server_texts(), 1);
}

#[test]
fn nothing_is_written_through_what_is_no_log_file() {
    let occupy: [fn(&Path, &Path); 2] = [
        |path, elsewhere| std::os::unix::fs::symlink(elsewhere, path).unwrap(),
        |path, _| fs::create_dir(path).unwrap(),
    ];
    for occupy in occupy {
        let mut bench = Bench::new(large());
        let elsewhere = bench.directory.path().join("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        let path = bench.path("devices/192.0.2.7.log");
        let mut writer = bench.writer();
        occupy(&path, &elsewhere);
        bench.send_some(2);
        write_all(&mut writer);
        writer.checkpoint().unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(bench.server_texts(), 2, "the other file goes on");
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
        bench.send_some(1);
        write_all(&mut writer);
        assert_eq!(bench.texts(), ["text 3"]);
        assert_eq!(bench.server_texts(), 3);
        // While it was open.
        fs::remove_file(&path).unwrap();
        occupy(&path, &elsewhere);
        bench.send_some(1);
        write_all(&mut writer);
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(bench.server_texts(), 4);
    }
    let error = LogError::Occupied { path: "logs/server.log".into(), found: "a symbolic link" }.to_string();
    assert!(
        error.starts_with("logs/server.log: ") && error.contains("a symbolic link: remove it"),
        "{error}"
    );
}

#[test]
fn more_devices_than_files_may_be_open() {
    let mut bench = Bench::new(large());
    let mut writer = bench.writer();
    for round in 1..=3 {
        for host in 1..=150 {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, host));
            let device = bench.runtime.block_on(bench.store.classic_client(address)).unwrap().id;
            let event = NewEvent::new(EventKind::ConnectionRefused).device(device).detail("round", round);
            bench.runtime.block_on(bench.store.record(event)).unwrap();
        }
        write_all(&mut writer);
        if round == 2 {
            writer.checkpoint().unwrap();
        }
    }
    for host in 1..=150 {
        let text = fs::read_to_string(bench.path(&format!("devices/10.0.0.{host}.log"))).unwrap();
        let rounds: Vec<_> = text.lines().map(|line| line.rsplit_once('=').unwrap().1).collect();
        assert_eq!(rounds, ["1", "2", "3"]);
    }
    bench.send_some(1);
    write_all(&mut writer);
    assert_eq!(bench.texts(), bench.expected());
}

#[test]
fn follows_the_store_until_it_is_stopped() {
    let mut bench = Bench::new(large());
    let (store, path) = (bench.store.clone(), bench.path(""));
    let logs = bench
        .runtime
        .block_on(async { Logs::start(&Arc::new(Parts::new(store.clone())), &store, &path, large()) })
        .unwrap();
    bench.send_some(5);
    bench.runtime.block_on(logs.stop());
    assert_eq!(bench.texts(), bench.expected());
    bench.runtime.block_on(store.close());
    let store = Store::open(bench.directory.path()).unwrap();
    assert_eq!(store.logged().unwrap().message, MessageId(5));
}
