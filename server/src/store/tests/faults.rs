//! Full disks, failing disks, and databases that are not ours.

use std::os::unix::fs::PermissionsExt;

use rusqlite::ffi;

use super::*;
use crate::event::{EventKind, NewEvent};

/// What SQLite says when the disk fails under it.
fn disk_failure() -> StoreError {
    StoreError::Database(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None))
}

/// Waits until an event of this kind has been recorded.
async fn until(store: &Store, kind: EventKind) {
    let mut newest = store.newest();
    let wait = async {
        while !event_kinds(store).await.iter().any(|name| name == kind.name()) {
            newest.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONGEST_WAIT, wait).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_is_made_up_for_before_anyone_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    connected.send(5, 1, "before").await;
    connected.mailbox.take(1);
    let mut failures = 1;
    let failing = store.write(move |change| {
        change.event(&NewEvent::new(EventKind::ServerStarted))?;
        if failures > 0 {
            failures -= 1;
            return Err(disk_failure());
        }
        Ok(change.now)
    });
    let (result, ()) = tokio::join!(failing, connected.send(5, 2, "in the same batch, or the next"));
    result.unwrap();
    assert_eq!(connected.mailbox.take(1), [(2, Outcome::New)]);
    assert_eq!(bodies(&store).await.len(), 2);
    let kinds = event_kinds(&store).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "server-started").count(), 1);
    assert!(kinds.contains(&"store-failed".to_owned()));
}

#[tokio::test]
async fn while_the_disk_fails_nothing_is_acknowledged_and_then_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    // Fails twice: the batch is given up.
    let failing = store.write(|_| Err::<(), _>(disk_failure()));
    let sent = connected.send(5, 1, "lost, if it is in the same batch");
    let (result, ()) = tokio::join!(failing, sent);
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert_eq!(connected.mailbox.take(1), [(1, Outcome::Failed)]);
    // Nothing more of this connection, though the store may be open again.
    connected.send(5, 2, "would leave a gap").await;
    until(&store, EventKind::StoreFailed).await;
    let again = connect(&store, pi).await;
    again.send(5, 1, "sent again").await;
    assert_eq!(again.mailbox.take(1), [(1, Outcome::New)]);
    assert_eq!(bodies(&store).await, ["sent again"]);
}

#[tokio::test]
async fn a_failed_operation_undoes_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let failing = store.write(|change| {
        change.event(&NewEvent::new(EventKind::ServerStopped))?;
        change
            .connection
            .execute("INSERT INTO devices (name, kind, created) VALUES ('pi-7', 'framed', 0)", ())?;
        Ok(())
    });
    let (failed, (), recorded) = tokio::join!(
        failing,
        connected.send(5, 1, "x"),
        store.record(NewEvent::new(EventKind::ServerStarted))
    );
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    recorded.unwrap();
    assert_eq!(connected.mailbox.take(1), [(1, Outcome::New)]);
    let kinds = event_kinds(&store).await;
    assert_eq!(kinds, ["token-created", "device-enrolled", "device-connected", "server-started"]);
    // Ids have no gap: what was undone has not used one up.
    assert_eq!(store.newest().borrow().event, EventId(4));
}

/// Lets the database grow by so many pages from now on.
async fn limit_pages(store: &Store, pages: i64) {
    let limit = move |change: &mut Change<'_>| {
        let count: i64 = change.connection.query_row("PRAGMA page_count", (), |row| row.get(0))?;
        let sql = format!("PRAGMA max_page_count = {}", count + pages);
        change.connection.query_row(&sql, (), |_| Ok(()))?;
        Ok(())
    };
    store.write(limit).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_messages_records_it_and_ends_with_space() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    limit_pages(&store, 3).await;
    let mut number = 0;
    let failed = loop {
        number += 1;
        connected.send(5, number, &"x".repeat(2_000)).await;
        match connected.mailbox.take(1)[0].1 {
            Outcome::New => assert!(number < 1_000),
            outcome => break outcome,
        }
    };
    assert_eq!(failed, Outcome::Failed);
    // As the reserve is no part of this limit, the test makes room in its place.
    let reserve = directory.path().join("reserve");
    let gone = tokio::time::timeout(LONGEST_WAIT, async {
        while reserve.exists() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.unwrap();
    limit_pages(&store, 20).await;
    until(&store, EventKind::DiskFull).await;
    let end = SessionEnd {
        session: connected.session,
        last_seen: UnixMillis::now(),
        reason: EndReason::StoreFailed,
        text: None,
    };
    store.end_session(end).await.unwrap();
    until(&store, EventKind::DiskRecovered).await;
    assert!(reserve.exists());
    let again = connect(&store, pi).await;
    again.send(5, number, "there is room again").await;
    assert_eq!(again.mailbox.take(1), [(number, Outcome::New)]);
    assert_eq!(store.highest(pi, 5).await.unwrap(), number);
    assert_eq!(bodies(&store).await.len(), usize::try_from(number).unwrap());
}

#[tokio::test]
async fn modes_are_tight_and_a_second_server_is_kept_out() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("made/by/open");
    let store = Store::open(&directory).unwrap();
    store.record(NewEvent::new(EventKind::ServerStarted)).await.unwrap();
    assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["holdfast.db", "holdfast.db-wal", "holdfast.db-shm", "lock", "reserve"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(matches!(Store::open(&directory), Err(StoreError::InUse(_))));
    store.close().await;
    drop(store);
    Store::open(&directory).unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let mut newest = store.newest();
    connected.send(5, 1, "handed over before").await;
    store.close().await;
    assert_eq!(connected.mailbox.take(1), [(1, Outcome::New)]);
    let message = connected.message(5, 2, "too late");
    assert!(matches!(store.archive(message).await, Err(StoreError::Closed)));
    assert!(matches!(store.record(NewEvent::new(EventKind::ServerStarted)).await, Err(StoreError::Closed)));
    assert!(matches!(store.devices().await, Err(StoreError::Closed)));
    newest.borrow_and_update();
    assert!(newest.changed().await.is_err());
    store.ended().await;
}

#[tokio::test]
async fn a_writer_that_panics_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let panicking = store.write(|_| -> Result<(), StoreError> { panic!("a fault of this test's making") });
    let (result, ()) = tokio::join!(panicking, store.ended());
    assert!(matches!(result, Err(StoreError::Closed)));
    assert!(store.archive(connected.message(5, 1, "x")).await.is_err());
    store.close().await;
    assert!(bodies(&Store::open(directory.path()).unwrap()).await.is_empty());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = store.id();
    store.close().await;
    drop(store);
    let path = connect::database(directory.path());
    let set = |version: i64| {
        let connection = Connection::open(&path).unwrap();
        let before: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        before
    };
    let newest = set(99);
    assert!(matches!(Store::open(directory.path()), Err(StoreError::TooNew { found: 99, .. })));
    set(newest);
    assert_eq!(Store::open(directory.path()).unwrap().id(), id);
    std::fs::write(&path, b"this is no database, and longer than a header of one would be. ".repeat(100))
        .unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let (error, path) = (error.to_string(), path.display().to_string());
    assert!(error.starts_with(&path) && error.contains("restore it from a backup"), "{error}");
}

#[tokio::test]
async fn an_emptied_database_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = connect::database(directory.path());
    // A first start that was interrupted: the next one begins anew.
    std::fs::write(path.with_extension("db.new"), "").unwrap();
    let store = Store::open(directory.path()).unwrap();
    let id = store.id();
    store.close().await;
    drop(store);
    std::fs::write(&path, "").unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Empty(_)), "{error:?}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "it is left as it is");
    std::fs::remove_file(&path).unwrap();
    assert_ne!(Store::open(directory.path()).unwrap().id(), id);
}

#[tokio::test]
async fn the_log_of_the_database_stays_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let wal = directory.path().join("holdfast.db-wal");
    let mut largest = 0;
    // 200 MiB in commits of about 1 MiB. On a busy machine the log starts again late, but it does.
    for batch in 0..200 {
        for number in 1..=64 {
            connected.send(5, batch * 64 + number, &"x".repeat(16_000)).await;
        }
        connected.mailbox.take(64);
        largest = largest.max(std::fs::metadata(&wal).unwrap().len());
    }
    assert!(largest < 128 * 1024 * 1024, "{largest}");
}
