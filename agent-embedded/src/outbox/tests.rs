use super::*;

fn queue(bodies: &[&[u8]]) -> Outbox<3, 300> {
    let mut outbox = Outbox::new(StreamId(1));
    for body in bodies {
        outbox.push(0, Kind::TEXT, body).unwrap();
    }
    outbox
}

fn numbers(outbox: &Outbox<3, 300>) -> std::vec::Vec<(u64, u64)> {
    (0..)
        .map_while(|position| outbox.get(position))
        .map(|message| (message.stream.0, message.number))
        .collect()
}

#[test]
fn a_full_queue_says_so_and_has_room_after_an_echo() {
    let mut outbox = queue(&[b"one", b"two", b"three"]);
    assert_eq!(outbox.push(0, Kind::TEXT, b"four"), Err(Refused::Full));
    outbox.echoed(Echo { stream: StreamId(1), number: 1 });
    assert_eq!(outbox.push(0, Kind::TEXT, b"four"), Ok(()));
    assert_eq!(numbers(&outbox), [(1, 2), (1, 3), (1, 4)], "a refused message uses up no number");
}

#[test]
fn what_can_not_pass_is_refused_when_it_is_pushed() {
    let mut outbox = queue(&[]);
    assert_eq!(outbox.push(0, Kind::TEXT, &[0; 301]), Err(Refused::TooLong { length: 301, limit: 300 }));
    assert_eq!(outbox.push(0, Kind::TEXT, &[0; 300]), Ok(()), "no server has said what it takes");
    outbox.bound(1);
    let most = 256 - Message::OVERHEAD - "text".len();
    let body = [0; 256];
    let refused = Err(Refused::TooLarge { length: 257, limit: 256 });
    assert_eq!(outbox.push(0, Kind::TEXT, &body[..=most]), refused);
    assert_eq!(outbox.push(0, Kind::TEXT, &body[..most]), Ok(()));
    outbox.bound(1_024);
    assert_eq!(outbox.push(0, Kind::TEXT, &[0; 300]), Ok(()));
}

#[test]
fn a_new_stream_numbers_what_waits_from_one() {
    let mut outbox = queue(&[b"one", b"two", b"three"]);
    outbox.echoed(Echo { stream: StreamId(1), number: 1 });
    outbox.begin_stream(StreamId(9));
    assert_eq!(numbers(&outbox), [(9, 1), (9, 2)]);
    outbox.echoed(Echo { stream: StreamId(1), number: 3 });
    assert_eq!(outbox.len(), 2, "an echo of the older stream says nothing of this one");
    outbox.push(0, Kind::TEXT, b"four").unwrap();
    outbox.echoed(Echo { stream: StreamId(9), number: 3 });
    assert!(outbox.is_empty());
}

#[test]
fn a_message_that_is_dropped_leaves_its_number_out() {
    let mut outbox = queue(&[b"one", b"two"]);
    outbox.drop_oldest();
    assert_eq!(numbers(&outbox), [(1, 2)]);
}
