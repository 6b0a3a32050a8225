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
    let limit = max_body("text");
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
    let old = outbox.marks().unwrap();
    outbox.echoed(3).unwrap();
    let new = outbox.change_stream().unwrap();
    outbox.commit().unwrap();
    assert_ne!(new.stream, old.stream);
    let found = outbox.after(0, 9, 9999).unwrap();
    let names: Vec<_> =
        found.iter().map(|message| (message.stream, message.number, message.position)).collect();
    assert_eq!(names, [(new.stream, 1, 4), (new.stream, 2, 5)]);
    assert_eq!(outbox.put(&message(2)), Ok(2), "a repeated message is known in any stream");
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
