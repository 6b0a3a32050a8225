//! Messages from devices: once each, in order, and nothing acknowledged that is not on disk.

use super::*;

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

#[tokio::test]
async fn what_is_acknowledged_survives_a_crash_and_numbers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    for number in 1..=50 {
        connected.send(5, number, &format!("text {number}")).await;
    }
    connected.mailbox.take(50);
    let crashed = as_after_a_crash(directory.path());
    let again = Store::open(crashed.path()).unwrap();
    assert_eq!(again.id(), store.id());
    assert_eq!(again.highest(pi, 5).await.unwrap(), 50);
    assert_eq!(bodies(&again).await.len(), 50);
    let session = connect(&again, pi).await;
    session.send(5, 50, "text 50").await;
    session.send(5, 51, "text 51").await;
    assert_eq!(session.mailbox.take(2), [(50, Outcome::Repeat), (51, Outcome::New)]);
    // What had not been settled is counted all the same, once.
    let row = again.device("pi-7").await.unwrap().unwrap();
    assert_eq!((row.messages_in, row.bytes_in), (50, 9 * 6 + 41 * 7));
    let sessions = again.sessions(SessionFilter::default()).await.unwrap();
    assert_eq!(sessions[0].messages_in, 50);
    again.close().await;
    let again = Store::open(crashed.path()).unwrap();
    assert_eq!(again.device("pi-7").await.unwrap().unwrap().messages_in, 51);
    let filter = MessageFilter { device: Some(pi), limit: 7, ..MessageFilter::default() };
    assert_eq!(pages(&again, filter).await.len(), 51);
}

#[tokio::test]
async fn many_connections_share_their_commits() {
    const CONNECTIONS: u64 = 20;
    const MESSAGES: u64 = 500;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let seed = u8::try_from(number + 1).unwrap();
        let device = device(&store, &format!("pi-{number}"), seed).await;
        connections.push(connect(&store, device).await);
    }
    let begin = *store.newest().borrow();
    let mut newest = store.newest();
    let commits = tokio::spawn(async move {
        let mut commits = 0;
        while newest.borrow_and_update().message.0 < i64::try_from(CONNECTIONS * MESSAGES).unwrap() {
            newest.changed().await.unwrap();
            commits += 1;
        }
        commits
    });
    for number in 1..=MESSAGES {
        for connected in &connections {
            connected.send(9, number, &number.to_string()).await;
        }
    }
    let count = usize::try_from(MESSAGES).unwrap();
    for connected in &connections {
        let expected: Vec<_> = (1..=MESSAGES).map(|number| (number, Outcome::New)).collect();
        assert_eq!(connected.mailbox.take(count), expected);
    }
    assert!(commits.await.unwrap() < CONNECTIONS * MESSAGES / 4);
    // By device and by all, settled or not, in any page size: the same messages.
    let filter = MessageFilter { after: begin.message, limit: 333, ..MessageFilter::default() };
    assert_eq!(pages(&store, filter).await.len(), count * connections.len());
    for connected in &connections {
        let filter = MessageFilter { device: Some(connected.device), limit: 64, ..MessageFilter::default() };
        let numbers: Vec<_> = pages(&store, filter).await.iter().map(|message| message.number).collect();
        assert_eq!(numbers, (1..=MESSAGES).collect::<Vec<_>>());
    }
    store.close().await;
    let store = Store::open(directory.path()).unwrap();
    for row in store.devices().await.unwrap() {
        assert_eq!(row.messages_in, MESSAGES);
        let filter = MessageFilter { device: Some(row.id), limit: 100, ..MessageFilter::default() };
        assert_eq!(pages(&store, filter).await.len(), count);
    }
}

#[tokio::test]
async fn a_repeat_is_known_by_kind_time_and_body() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    connected.send(5, 1, "same").await;
    // The numbers 2 and 3 are passed over: legal while nothing is in flight.
    connected.send(5, 4, "far").await;
    connected.mailbox.take(2);
    let differing: [fn(&mut Incoming); 5] = [
        |message| message.kind = "other".parse().unwrap(),
        |message| message.time += 1,
        |message| message.body.push(0),
        |message| message.number = 3,
        |message| message.number = 0,
    ];
    for differ in differing {
        let restored = connect(&store, pi).await;
        let mut message = restored.message(5, 1, "same");
        differ(&mut message);
        store.archive(message).await.unwrap();
        assert_eq!(restored.mailbox.take(1)[0].1, Outcome::Conflict);
    }
    connected.send(5, 1, "same").await;
    assert_eq!(connected.mailbox.take(1), [(1, Outcome::Repeat)]);
    assert_eq!(bodies(&store).await, ["same", "far"]);
}

#[tokio::test]
async fn all_numbers_of_64_bits_are_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let numbers = [1, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
    for number in numbers {
        // One by one: the highest of the stream is written by each.
        let mut message = connected.message(5, 1, "x");
        message.number = number;
        store.archive(message).await.unwrap();
        assert_eq!(connected.mailbox.take(1), [(number, Outcome::New)]);
        assert_eq!(store.highest(pi, 5).await.unwrap(), number);
    }
    store.close().await;
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.highest(pi, 5).await.unwrap(), u64::MAX);
    let again = connect(&store, pi).await;
    for number in numbers {
        let mut message = again.message(5, 1, "x");
        message.number = number;
        store.archive(message).await.unwrap();
        assert_eq!(again.mailbox.take(1), [(number, Outcome::Repeat)]);
    }
    let rows = store.messages(MessageFilter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), numbers);
}

#[tokio::test]
async fn streams_and_devices_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (one, two) = (device(&store, "one", 1).await, device(&store, "two", 2).await);
    let (one, two) = (connect(&store, one).await, connect(&store, two).await);
    for stream in [0, 1, u64::MAX, 1 << 63] {
        for connected in [&one, &two] {
            connected.send(stream, 1, "first").await;
            connected.send(stream, 1, "first").await;
            assert_eq!(connected.mailbox.take(2), [(1, Outcome::New), (1, Outcome::Repeat)]);
        }
    }
    let rows = store.messages(MessageFilter::default()).await.unwrap();
    assert_eq!(rows.len(), 8);
    assert_eq!(rows[4].stream, RandomId(u64::MAX));
}

#[tokio::test]
async fn since_finds_the_first_message_of_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    for number in 1..=40 {
        let mut message = connected.message(5, number, "x");
        message.received_at = UnixMillis(i64::try_from(number / 2 * 100).unwrap());
        store.archive(message).await.unwrap();
    }
    connected.mailbox.take(40);
    for (since, first) in [(0, 1), (1, 2), (100, 2), (101, 4), (1_950, 40), (2_000, 40)] {
        for device in [None, Some(pi)] {
            let filter = MessageFilter { since: Some(UnixMillis(since)), device, ..MessageFilter::default() };
            let rows = store.messages(filter).await.unwrap();
            assert_eq!(rows[0].number, first, "since {since}");
            assert_eq!(rows.len(), usize::try_from(41 - first).unwrap());
        }
    }
    let filter = MessageFilter { since: Some(UnixMillis(2_001)), ..MessageFilter::default() };
    assert!(store.messages(filter).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_follower_sees_each_message_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let pi = device(&store, "pi-7", 1).await;
    let connected = connect(&store, pi).await;
    let follower = tokio::spawn({
        let store = store.clone();
        async move {
            let mut newest = store.newest();
            let (mut seen, mut after) = (Vec::new(), MessageId(0));
            while seen.len() < 300 {
                newest.borrow_and_update();
                let filter = MessageFilter { after, limit: 7, ..MessageFilter::default() };
                let page = store.messages(filter).await.unwrap();
                match page.last() {
                    Some(last) => after = last.id,
                    None => newest.changed().await.unwrap(),
                }
                seen.extend(page.iter().map(|message| message.number));
            }
            seen
        }
    });
    for number in 1..=300 {
        connected.send(5, number, "x").await;
        if number % 50 == 0 {
            connected.mailbox.take(50);
        }
    }
    assert_eq!(follower.await.unwrap(), (1..=300).collect::<Vec<_>>());
}
