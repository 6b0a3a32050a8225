//! The inbox, on a real disk.

use super::*;

fn open(root: &tempfile::TempDir, limits: InboxLimits) -> Inbox {
    Inbox::open(&StateDirectory::make(root.path()).unwrap(), limits).unwrap()
}

fn message(stream: u64, number: u64) -> StoredMessage {
    let body = format!("body {number}").into_bytes();
    StoredMessage { position: 0, stream: StreamId(stream), number, time: 1, kind: "text".into(), body }
}

#[test]
fn a_message_comes_once_however_often_it_is_sent() {
    let root = tempfile::tempdir().unwrap();
    let mut inbox = open(&root, InboxLimits::default());
    assert_eq!(inbox.accept(&message(1, 1)), Ok(Accepted::Stored));
    assert_eq!(inbox.accept(&message(1, 4)), Ok(Accepted::Stored), "gaps are the server's");
    inbox.commit().unwrap();
    inbox.taken(2).unwrap();
    inbox.commit().unwrap();
    drop(inbox);
    let mut inbox = open(&root, InboxLimits::default());
    assert_eq!(inbox.accept(&message(1, 4)), Ok(Accepted::Repeated));
    assert_eq!(inbox.accept(&message(1, 3)), Ok(Accepted::Repeated));
    assert_eq!(inbox.accept(&message(2, 4)), Ok(Accepted::Stored), "another stream");
    assert_eq!(inbox.marks().unwrap(), Marks { last: 3, waiting: 1, waiting_bytes: OVERHEAD + 10 });
}

#[test]
fn what_was_not_committed_never_came() {
    let root = tempfile::tempdir().unwrap();
    let mut inbox = open(&root, InboxLimits::default());
    assert_eq!(inbox.accept(&message(1, 1)), Ok(Accepted::Stored));
    inbox.roll_back();
    assert_eq!(inbox.accept(&message(1, 1)), Ok(Accepted::Stored));
}

#[test]
fn a_full_inbox_takes_nothing_and_forgets_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut inbox = open(&root, InboxLimits { max_messages: 2, ..InboxLimits::default() });
    for number in 1..=2 {
        inbox.accept(&message(1, number)).unwrap();
    }
    assert_eq!(inbox.accept(&message(1, 3)), Ok(Accepted::Full));
    inbox.taken(1).unwrap();
    assert_eq!(inbox.accept(&message(1, 3)), Ok(Accepted::Stored));
    inbox.commit().unwrap();
    let found = inbox.after(0, 9, 9999).unwrap();
    assert_eq!(found.iter().map(|message| message.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(inbox.after(2, 9, 9999).unwrap().len(), 1);
    assert_eq!(inbox.after(0, 9, 1).unwrap().len(), 1);
}

#[test]
fn the_streams_that_were_silent_longest_are_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let mut inbox = open(&root, InboxLimits::default());
    for stream in 0..STREAMS {
        inbox.accept(&message(stream, 1)).unwrap();
    }
    inbox.accept(&message(0, 2)).unwrap();
    inbox.accept(&message(STREAMS, 1)).unwrap();
    assert_eq!(inbox.accept(&message(0, 2)), Ok(Accepted::Repeated));
    assert_eq!(inbox.accept(&message(2, 1)), Ok(Accepted::Repeated));
    assert_eq!(inbox.accept(&message(1, 1)), Ok(Accepted::Stored), "forgotten");
}
