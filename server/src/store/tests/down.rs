//! Messages to devices: kept until the device has them or their time is over.

use super::*;

fn message(text: &str) -> NewMessage {
    NewMessage { kind: Kind::TEXT, body: text.as_bytes().to_vec(), expires_at: None, who: None }
}

async fn waiting_numbers(store: &Store, device: DeviceId) -> Vec<u64> {
    let waiting = store.waiting(device, MessageId(0), 1_000).await.unwrap();
    waiting.into_iter().map(|message| message.number).collect()
}

#[tokio::test]
async fn wait_until_they_are_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (pi, other) = (device(&store, "pi-7", 1).await, device(&store, "pi-8", 2).await);
    for number in 1..=5 {
        store.enqueue(pi, message(&format!("text {number}")), 10).await.unwrap();
    }
    assert_eq!(waiting_numbers(&store, pi).await, [1, 2, 3, 4, 5]);
    let stream = store.waiting(pi, MessageId(0), 1).await.unwrap()[0].stream;
    store.enqueue(other, message("x"), 10).await.unwrap();
    let connected = connect(&store, pi).await;
    store.delivered(pi, connected.session, stream, 1, 2).await.unwrap();
    assert_eq!(waiting_numbers(&store, pi).await, [3, 4, 5]);
    assert_eq!(waiting_numbers(&store, other).await, [1]);
    // A repeated echo, and one for another stream, change nothing.
    store.delivered(pi, connected.session, stream, 1, 2).await.unwrap();
    store.delivered(pi, connected.session, stream ^ 1, 3, 5).await.unwrap();
    assert_eq!(waiting_numbers(&store, pi).await, [3, 4, 5]);
    let page = store.waiting(pi, MessageId(0), 2).await.unwrap();
    assert_eq!(page.iter().map(|message| message.number).collect::<Vec<_>>(), [3, 4]);
    let page = store.waiting(pi, page[1].id, 2).await.unwrap();
    assert_eq!(page[0].body, b"text 5");
    let row = store.device("pi-7").await.unwrap().unwrap();
    assert_eq!((row.messages_out, row.bytes_out, row.waiting), (2, 12, 3));
    let session = store.sessions(SessionFilter::default()).await.unwrap().pop().unwrap();
    assert_eq!((session.messages_out, session.bytes_out), (2, 12));
    let delivered: Vec<_> = store
        .messages(MessageFilter::default())
        .await
        .unwrap()
        .iter()
        .map(|message| message.delivered_at.is_some())
        .collect();
    assert_eq!(delivered, [true, true, false, false, false, false]);
}

#[tokio::test]
async fn each_start_of_the_store_has_its_own_stream() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    store.enqueue(pi, message("one"), 10).await.unwrap();
    store.enqueue(pi, message("two"), 10).await.unwrap();
    store.close().await;
    let store = Store::open(directory.path()).unwrap();
    store.enqueue(pi, message("three"), 10).await.unwrap();
    let waiting = store.waiting(pi, MessageId(0), 10).await.unwrap();
    let streams: Vec<_> = waiting.iter().map(|message| message.stream).collect();
    assert_eq!(waiting_numbers(&store, pi).await, [1, 2, 1]);
    assert!(streams[0] == streams[1] && streams[1] != streams[2], "{streams:?}");
}

#[tokio::test]
async fn expire_with_an_event_but_count_if_they_arrive_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let past = Some(UnixMillis::now().plus(-1));
    let future = Some(UnixMillis::now().plus(3_600_000));
    for expires_at in [past, future, None, past] {
        store.enqueue(pi, NewMessage { expires_at, ..message("x") }, 10).await.unwrap();
    }
    // Not sent any more, even before it is noted.
    assert_eq!(waiting_numbers(&store, pi).await, [2, 3]);
    assert_eq!(store.expire().await.unwrap(), 2);
    assert_eq!(store.expire().await.unwrap(), 0);
    assert_eq!(waiting_numbers(&store, pi).await, [2, 3]);
    let kinds = event_kinds(&store).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "message-expired").count(), 2);
    let connected = connect(&store, pi).await;
    let stream = store.waiting(pi, MessageId(0), 1).await.unwrap()[0].stream;
    store.delivered(pi, connected.session, stream, 4, 4).await.unwrap();
    let row = store.messages(MessageFilter::default()).await.unwrap().pop().unwrap();
    assert!(row.delivered_at.is_some() && row.expired_at.is_none());
}

#[tokio::test]
async fn are_refused_where_nobody_would_get_them() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let classic = store.classic_client(HOME).await.unwrap();
    assert!(matches!(store.enqueue(classic.id, message("x"), 10).await, Err(StoreError::Classic)));
    assert!(matches!(store.enqueue(DeviceId(99), message("x"), 10).await, Err(StoreError::NoSuchDevice)));
    store.revoke("pi-7", "operator").await.unwrap();
    assert!(matches!(store.enqueue(pi, message("x"), 10).await, Err(StoreError::Revoked)));
}

#[tokio::test]
async fn only_so_many_may_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    for _ in 0..10 {
        store.enqueue(pi, message("x"), 10).await.unwrap();
    }
    let refused = store.enqueue(pi, message("x"), 10).await;
    assert!(matches!(refused, Err(StoreError::TooManyWaiting { waiting: 10 })), "{refused:?}");
    let stream = store.waiting(pi, MessageId(0), 1).await.unwrap()[0].stream;
    let connected = connect(&store, pi).await;
    store.delivered(pi, connected.session, stream, 1, 1).await.unwrap();
    store.enqueue(pi, message("x"), 10).await.unwrap();
}
