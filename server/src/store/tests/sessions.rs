//! Sessions: no ghosts, whoever died.

use super::*;

#[tokio::test]
async fn begin_and_end_with_their_events() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let last_seen = UnixMillis::now().plus(5);
    store.sessions_seen(vec![(connected.session, last_seen)]).await.unwrap();
    let open = store.sessions(SessionFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((open.ended, open.last_seen, open.boot), (None, last_seen, Some(RandomId(9))));
    connected.send(5, 1, "hello").await;
    let end = SessionEnd {
        session: connected.session,
        last_seen,
        reason: EndReason::Lost,
        text: Some("no answer".to_owned()),
    };
    store.end_session(end.clone()).await.unwrap();
    // The message was handed over before the end: it is archived before the end.
    assert_eq!(connected.mailbox.take(1), [(1, Outcome::New)]);
    // A second end changes nothing.
    store.end_session(SessionEnd { reason: EndReason::Closed, ..end }).await.unwrap();
    let row = store.sessions(SessionFilter { device: Some(pi), ..SessionFilter::default() }).await.unwrap();
    assert_eq!((row[0].reason, row[0].reason_text.as_deref()), (Some(EndReason::Lost), Some("no answer")));
    assert!(row[0].ended >= Some(row[0].started));
    let kinds = event_kinds(&store).await;
    assert_eq!(kinds, ["token-created", "device-enrolled", "device-connected", "device-lost"]);
    let device = store.device("pi-7").await.unwrap().unwrap();
    assert_eq!((device.sessions, device.last_seen), (1, Some(last_seen)));
}

#[tokio::test]
async fn that_were_open_when_the_server_died_end_when_they_were_last_seen() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let (first, second) = (connect(&store, pi).await, connect(&store, pi).await);
    let seen = UnixMillis::now().plus(60_000);
    store.sessions_seen(vec![(first.session, seen)]).await.unwrap();
    let end =
        SessionEnd { session: second.session, last_seen: seen, reason: EndReason::Replaced, text: None };
    store.end_session(end).await.unwrap();
    let crashed = as_after_a_crash(directory.path());
    for _ in 0..2 {
        let again = Store::open(crashed.path()).unwrap();
        let rows = again.sessions(SessionFilter::default()).await.unwrap();
        assert_eq!((rows[0].ended, rows[0].reason), (Some(seen), Some(EndReason::ServerDied)));
        assert_eq!(rows[1].reason, Some(EndReason::Replaced));
        let lost = event_kinds(&again).await;
        assert_eq!(lost.iter().filter(|kind| *kind == "device-disconnected").count(), 2);
        let device = again.device("pi-7").await.unwrap().unwrap();
        assert!(device.connected_millis >= 60_000 - 30_000, "{}", device.connected_millis);
        again.close().await;
    }
}

#[tokio::test]
async fn a_revoked_device_begins_none() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    store.revoke("pi-7", "operator").await.unwrap();
    let session = NewSession { device: pi, address: HOME, boot: None, longest_message: None };
    assert!(matches!(store.start_session(session).await, Err(StoreError::Revoked)));
    let session = NewSession { device: DeviceId(99), ..session };
    assert!(matches!(store.start_session(session).await, Err(StoreError::NoSuchDevice)));
}

#[tokio::test]
async fn are_read_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (one, two) = (device(&store, "one", 1).await, device(&store, "two", 2).await);
    for _ in 0..10 {
        connect(&store, one).await;
        connect(&store, two).await;
    }
    let (mut ids, mut after) = (Vec::new(), SessionId(0));
    loop {
        let filter = SessionFilter { device: Some(two), after, limit: 3, ..SessionFilter::default() };
        let page = store.sessions(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.id;
        ids.extend(page.iter().map(|session| session.id.0));
    }
    assert_eq!(ids, (1..=10).map(|number| number * 2).collect::<Vec<_>>());
    let end = SessionFilter {
        device: Some(two),
        before: Some(SessionId(16)),
        limit: 3,
        ..SessionFilter::default()
    };
    let page = store.sessions(end).await.unwrap();
    assert_eq!(page.iter().map(|session| session.id.0).collect::<Vec<_>>(), [10, 12, 14]);
}
