//! The outbox, on a real disk.

use super::*;

fn open(root: &tempfile::TempDir, limits: OutboxLimits) -> Outbox {
    let state = StateDirectory::make(root.path()).unwrap();
    let mut outbox = Outbox::open(&state, limits).unwrap();
    outbox.marks().unwrap();
    outbox
}

fn message(number: u64) -> NewMessage {
    let body = format!("body {number}").into_bytes();
    let source = (StreamId(u64::MAX), number);
    NewMessage { source, is_named: false, time: u64::MAX, kind: "text".into(), body }
}

fn put(outbox: &mut Outbox, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        outbox.put(&message(number)).unwrap();
    }
    outbox.commit().unwrap();
}

fn echo(outbox: &mut Outbox, position: u64) {
    outbox.echoed(position).unwrap();
    outbox.write_down_echoes().unwrap();
    outbox.commit().unwrap();
}

/// Stream, number and position of each message after a position.
fn names(outbox: &mut Outbox, after: u64) -> Vec<(StreamId, u64, u64)> {
    let found = outbox.after(after, 99, 999_999).unwrap();
    found.iter().map(|message| (message.stream, message.number, message.position)).collect()
}

fn welcomed(outbox: &mut Outbox, stream: StreamId, archived: u64, max_frame: u16) -> Next {
    let next = outbox.welcomed(stream, archived, max_frame).unwrap();
    outbox.commit().unwrap();
    next
}

#[test]
fn messages_come_back_oldest_first_as_they_were_put() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    put(&mut outbox, 1..=5);
    drop(outbox);
    let mut outbox = open(&root, OutboxLimits::default());
    let found = outbox.after(2, 2, 1000).unwrap();
    assert_eq!(found.iter().map(|message| message.number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(found[0].body, b"body 3");
    assert_eq!(found[0].time, u64::MAX);
    assert_eq!(outbox.after(2, 9, 1).unwrap().len(), 1, "one, however large it is");
    assert_eq!(outbox.after(5, 9, 1).unwrap(), []);
}

#[test]
fn what_was_not_committed_never_was() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    put(&mut outbox, 1..=1);
    outbox.put(&message(2)).unwrap();
    drop(outbox);
    let mut outbox = open(&root, OutboxLimits::default());
    assert_eq!(outbox.marks().unwrap().last, 1);
    assert_eq!(outbox.put(&message(3)).unwrap(), 2);
}

#[test]
fn the_same_source_is_the_same_message_also_when_it_is_echoed() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits { keep_messages: 1, ..OutboxLimits::default() });
    put(&mut outbox, 1..=2);
    assert_eq!(outbox.put(&message(1)).unwrap(), 1);
    outbox.echoed(2).unwrap();
    outbox.write_down_echoes().unwrap();
    outbox.commit().unwrap();
    assert_eq!(outbox.put(&message(2)).unwrap(), 2, "kept, so known");
    assert_eq!(outbox.put(&message(1)).unwrap(), 3, "no longer kept, so new");
}

#[test]
fn the_same_source_with_another_text_is_a_conflict_unless_it_is_a_name() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    put(&mut outbox, 1..=1);
    let other = NewMessage { body: b"other".to_vec(), ..message(1) };
    assert_eq!(outbox.put(&other), Err(QueueError::Conflict));
    assert_eq!(outbox.put(&NewMessage { is_named: true, ..other }), Ok(1));
    assert_eq!(outbox.put(&NewMessage { time: 0, ..message(1) }), Ok(1), "the time may be another");
}

#[test]
fn a_full_outbox_refuses_and_has_room_again_after_echoes() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits { max_messages: 3, ..OutboxLimits::default() });
    put(&mut outbox, 1..=3);
    let bytes = 3 * (OVERHEAD + 10);
    assert_eq!(outbox.put(&message(4)), Err(QueueError::Full { messages: 3, bytes }));
    assert_eq!(outbox.put(&message(3)), Ok(3), "what is in it is no new message");
    outbox.echoed(1).unwrap();
    outbox.write_down_echoes().unwrap();
    outbox.commit().unwrap();
    assert_eq!(outbox.put(&message(4)), Ok(4));
    outbox.commit().unwrap();
    let mut outbox = open(&root, OutboxLimits { max_bytes: bytes, ..OutboxLimits::default() });
    assert_eq!(outbox.put(&message(5)), Err(QueueError::Full { messages: 3, bytes }));
}

#[test]
fn a_message_that_fits_no_frame_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    let limit = max_body("text", MAX_FRAME);
    let fits = NewMessage { body: vec![0; limit], ..message(1) };
    outbox.put(&fits).unwrap();
    let largest = StoredMessage {
        position: 1,
        stream: StreamId(u64::MAX),
        number: u64::MAX,
        ..outbox.after(0, 1, 0).unwrap().remove(0)
    };
    let mut buffer = vec![0; usize::from(crate::queue::MAX_FRAME)];
    protocol_core::message::encode(&largest.wire(), crate::queue::MAX_FRAME, &mut buffer).unwrap();
    let over = NewMessage { body: vec![0; limit + 1], ..message(2) };
    assert_eq!(outbox.put(&over), Err(QueueError::TooLarge { length: limit + 1, limit }));
}

#[test]
fn echoed_messages_are_kept_within_bounds() {
    let root = tempfile::tempdir().unwrap();
    let limits =
        OutboxLimits { keep_messages: 4, keep_bytes: 3 * (OVERHEAD + 10), ..OutboxLimits::default() };
    let mut outbox = open(&root, limits);
    put(&mut outbox, 1..=9);
    for (echoed, first) in [(2, 1), (4, 2), (8, 6), (8, 6)] {
        outbox.echoed(echoed).unwrap();
        outbox.write_down_echoes().unwrap();
        outbox.commit().unwrap();
        let marks = outbox.marks().unwrap();
        assert_eq!((marks.first, marks.echoed, marks.waiting()), (first, echoed, 9 - echoed));
        assert_eq!(marks.kept_bytes, (echoed + 1 - first) * (OVERHEAD + 10));
        assert_eq!(marks.waiting_bytes, (9 - echoed) * (OVERHEAD + 10));
        assert_eq!(outbox.after(0, 1, 0).unwrap()[0].position, first);
    }
}

#[test]
fn a_new_stream_numbers_what_waits_from_one() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    put(&mut outbox, 1..=5);
    let old = outbox.marks().unwrap().stream;
    echo(&mut outbox, 3);
    outbox.change_stream().unwrap();
    outbox.commit().unwrap();
    assert_eq!(outbox.marks().unwrap().stream, old, "the newest that was echoed is of it");
    let names = names(&mut outbox, 0);
    let new = names[4].0;
    assert_ne!(new, old);
    assert_eq!(names, [(old, 1, 1), (old, 2, 2), (old, 3, 3), (new, 1, 4), (new, 2, 5)]);
    echo(&mut outbox, 4);
    assert_eq!(outbox.marks().unwrap().stream, new);
    assert_eq!(outbox.put(&message(2)), Ok(2), "a repeated message is known in any stream");
}

#[test]
fn a_server_that_lost_some_gets_again_what_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits { keep_messages: 4, ..OutboxLimits::default() });
    let stream = outbox.marks().unwrap().stream;
    put(&mut outbox, 1..=7);
    echo(&mut outbox, 6);
    let commits = outbox.commits();
    assert_eq!(welcomed(&mut outbox, stream, 6, MAX_FRAME), Next::SendAfter(6));
    assert_eq!(welcomed(&mut outbox, stream, 7, MAX_FRAME), Next::SendAfter(6), "it is not echoed");
    assert_eq!(outbox.commits(), commits, "no news, and written");
    assert_eq!(welcomed(&mut outbox, stream, 5, MAX_FRAME), Next::SendAfter(5));
    let marks = outbox.marks().unwrap();
    assert_eq!((marks.waiting(), marks.kept_bytes), (2, 3 * (OVERHEAD + 10)), "{marks:?}");
    assert_eq!(welcomed(&mut outbox, stream, 0, MAX_FRAME), Next::SendAfter(2), "the rest is gone");
    echo(&mut outbox, 7);
    let marks = outbox.marks().unwrap();
    assert_eq!((marks.waiting(), marks.waiting_bytes, marks.first), (0, 0, 4), "{marks:?}");
}

#[test]
fn a_server_that_knows_nothing_of_a_stream_is_asked_about_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    let oldest = outbox.marks().unwrap().stream;
    put(&mut outbox, 1..=3);
    echo(&mut outbox, 3);
    outbox.change_stream().unwrap();
    put(&mut outbox, 4..=6);
    // Nothing of the new stream was echoed: of the old one the server has even more than this device has.
    assert_eq!(welcomed(&mut outbox, oldest, 9, MAX_FRAME), Next::SendAfter(3));
    echo(&mut outbox, 5);
    let newer = outbox.marks().unwrap().stream;
    assert_eq!(welcomed(&mut outbox, newer, 2, MAX_FRAME), Next::SendAfter(5));
    // An older database, from before the change.
    assert_eq!(welcomed(&mut outbox, newer, 0, MAX_FRAME), Next::AskAgain);
    assert_eq!(outbox.marks().unwrap().stream, oldest);
    assert_eq!(welcomed(&mut outbox, oldest, 2, MAX_FRAME), Next::SendAfter(2));
    assert_eq!(names(&mut outbox, 2), [(oldest, 3, 3), (newer, 1, 4), (newer, 2, 5), (newer, 3, 6)]);
    // It is the first stream: there is none to be asked about before it.
    assert_eq!(welcomed(&mut outbox, oldest, 0, MAX_FRAME), Next::SendAfter(0));
    assert_eq!(outbox.marks().unwrap().waiting(), 6);
    // What is no longer kept takes its stream along.
    echo(&mut outbox, 6);
    outbox.limits.keep_messages = 2;
    put(&mut outbox, 7..=7);
    echo(&mut outbox, 7);
    assert_eq!(welcomed(&mut outbox, newer, 0, MAX_FRAME), Next::SendAfter(5));
}

#[test]
fn another_server_gets_what_waits_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits::default());
    let old = outbox.marks().unwrap().stream;
    put(&mut outbox, 1..=2);
    outbox.put(&NewMessage { body: vec![0; 1000], ..message(3) }).unwrap();
    outbox.commit().unwrap();
    echo(&mut outbox, 1);
    welcomed(&mut outbox, old, 1, 256);
    outbox.change_server().unwrap();
    outbox.commit().unwrap();
    let new = outbox.marks().unwrap().stream;
    assert_ne!(new, old);
    assert_eq!(names(&mut outbox, 0), [(new, 1, 2), (new, 3, 4)]);
    assert_eq!(welcomed(&mut outbox, new, 0, MAX_FRAME), Next::SendAfter(1));
}

#[test]
fn a_message_that_the_server_does_not_take_is_set_aside_until_it_does() {
    let root = tempfile::tempdir().unwrap();
    let mut outbox = open(&root, OutboxLimits { max_messages: 5, ..OutboxLimits::default() });
    let stream = outbox.marks().unwrap().stream;
    let large = |number| NewMessage { body: vec![b'x'; 1000], ..message(number) };
    put(&mut outbox, 1..=1);
    outbox.put(&large(2)).unwrap();
    put(&mut outbox, 3..=3);
    outbox.put(&large(4)).unwrap();
    outbox.commit().unwrap();
    // It has the second already, by its number: that one must not come twice.
    assert_eq!(welcomed(&mut outbox, stream, 2, 512), Next::SendAfter(0));
    assert_eq!(names(&mut outbox, 0), [(stream, 1, 1), (stream, 3, 3)]);
    let marks = outbox.marks().unwrap();
    assert_eq!((marks.waiting(), marks.waiting_bytes), (2, 2 * (OVERHEAD + 10)));
    assert_eq!((marks.aside_messages, marks.aside_bytes), (1, OVERHEAD + 1004));
    let limit = max_body("text", 512);
    assert_eq!(outbox.put(&large(5)), Err(QueueError::TooLarge { length: 1000, limit }));
    outbox.put(&large(4)).expect("it is known");
    put(&mut outbox, 5..=6);
    let full = QueueError::Full { messages: 5, bytes: 4 * (OVERHEAD + 10) + OVERHEAD + 1004 };
    assert_eq!(outbox.put(&message(7)), Err(full), "what is set aside counts");
    outbox.roll_back();
    // Echoes pass over the hole.
    outbox.echoed(3).unwrap();
    outbox.commit().unwrap();
    assert_eq!(outbox.marks().unwrap().waiting(), 2);
    drop(outbox);
    let mut outbox = open(&root, OutboxLimits::default());
    assert_eq!(outbox.marks().unwrap().aside_messages, 1);
    assert_eq!(welcomed(&mut outbox, stream, 3, 512), Next::SendAfter(3));
    echo(&mut outbox, 6);
    // Now it takes it: as the newest of all.
    assert_eq!(welcomed(&mut outbox, stream, 6, 2048), Next::SendAfter(6));
    assert_eq!(names(&mut outbox, 6), [(stream, 7, 7)]);
    assert_eq!(outbox.after(6, 1, 0).unwrap()[0].body, vec![b'x'; 1000]);
    echo(&mut outbox, 7);
    let marks = outbox.marks().unwrap();
    assert_eq!((marks.waiting(), marks.waiting_bytes, marks.holes), (0, 0, 0), "{marks:?}");
    assert_eq!((marks.aside_messages, marks.aside_bytes), (0, 0));
}

#[test]
fn streams_are_random() {
    let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] =
        roots.each_ref().map(|root| open(root, OutboxLimits::default()).marks().unwrap().stream);
    assert_ne!(first, second);
}

#[test]
fn another_process_may_write_too() {
    let root = tempfile::tempdir().unwrap();
    let (mut ours, mut theirs) = (open(&root, OutboxLimits::default()), open(&root, OutboxLimits::default()));
    put(&mut ours, 1..=2);
    put(&mut theirs, 3..=3);
    put(&mut ours, 4..=4);
    assert_eq!(theirs.marks().unwrap().last, 4);
    assert_eq!(ours.after(0, 9, 9999).unwrap()[2].body, b"body 3");
}

#[test]
fn a_newer_database_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&root, OutboxLimits::default()));
    let state = StateDirectory::open(root.path()).unwrap();
    rusqlite::Connection::open(state.file("outbox.db"))
        .unwrap()
        .pragma_update(None, "user_version", 9)
        .unwrap();
    let error = Outbox::open(&state, OutboxLimits::default()).unwrap_err();
    assert!(matches!(error, QueueError::Newer { found: 9, .. }), "{error}");
}
