use protocol_core::{
    code::CloseReason,
    message::{self, Body, Close, Endpoints, Kind, Message, Pin, StoreId, StreamId, Text, Welcome, Window},
    time::{Duration, Instant},
};

use super::{
    line::{Logged, longest_wait, retries},
    overheard::{Heard, Overheard},
    port::{Port, PortError},
    unread::Unread,
};

fn frame<B: Body>(body: &B) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let length = message::encode(body, 4096, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn welcome() -> Vec<u8> {
    frame(&Welcome {
        version: 1,
        interval: 30_000,
        timeout: 10_000,
        max_frame: 16_384,
        window: Window { messages: 8, bytes: 65_536 },
        store: StoreId(1),
        archived: 0,
        time: 0,
        name: Text::new("barometer").unwrap(),
    })
}

fn close() -> (Vec<u8>, Heard) {
    let (reason, retry_after, detail) = (CloseReason::Revoked, 30, "this device was revoked");
    let bytes = frame(&Close { reason, retry_after, detail: Text::new(detail).unwrap() });
    (bytes, Heard::Closed { reason, retry_after, detail: detail.to_owned() })
}

/// A frame that nobody is shown, with the bytes of others in its body.
fn message() -> Vec<u8> {
    let body = [b"CLOS\0\0\0\x01\x05".as_slice(), &[0xff; 1000]].concat();
    frame(&Message { stream: StreamId(1), number: 1, time: 0, kind: Kind::TEXT, body: &body })
}

#[test]
fn what_passes_is_overheard_however_it_is_cut() {
    let (close, closed) = close();
    let endpoints = Endpoints { current: Pin([1; 32]), next: Pin([2; 32]), addresses: Default::default() };
    let bytes = [b"PONG".as_slice(), &welcome(), &frame(&endpoints), b"PING", &message(), &close].concat();
    for size in [1, 2, 3, 7, 8, 9, 58, 256, bytes.len()] {
        let mut overheard = Overheard::default();
        let heard: Vec<_> = bytes.chunks(size).filter_map(|part| overheard.hear(part)).collect();
        let expected = [Heard::Welcome, closed.clone()];
        // Of two in one piece the last is what counts.
        assert!(expected.ends_with(&heard) && !heard.is_empty(), "in pieces of {size}: {heard:?}");
        assert_eq!(heard.len(), if size == bytes.len() { 1 } else { 2 });
    }
}

#[test]
fn what_is_no_frame_is_not_listened_to() {
    let (close, _) = close();
    for nonsense in [b"ping".as_slice(), b"\0\0\0\0", b"CLOS\xff\xff\xff\xff", b"WELC\0\0\x01\0"] {
        let mut overheard = Overheard::default();
        assert_eq!(overheard.hear(nonsense), None);
        assert_eq!(overheard.hear(&close), None, "{nonsense:?}");
    }
    // One whose body is none is passed over: the next is heard.
    let mut overheard = Overheard::default();
    assert_eq!(overheard.hear(b"CLOS\0\0\0\x02\xff\xff"), None);
    assert!(overheard.hear(&close).is_some());
}

#[test]
fn a_slow_line_is_given_time() {
    let resend = |baud| retries(baud).resend;
    assert_eq!(resend(115_200), Duration::from_millis(100));
    assert!((Duration::from_millis(600)..Duration::from_millis(700)).contains(&resend(9_600)));
    assert!(resend(4_000_000) >= Duration::from_millis(50));
    assert!(resend(1_200) < Duration::from_secs(6));
}

#[test]
fn a_device_is_expected_when_it_asks_again() {
    let wait = |reason, retry_after| longest_wait(reason, retry_after).as_secs();
    assert_eq!(wait(CloseReason::UnknownKey, 30), 39);
    assert_eq!(wait(CloseReason::Revoked, 0), 363);
    // It says nothing of when: the device draws a wait of its own.
    assert_eq!(wait(CloseReason::Silent, 0), 63);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_port_is_told_from_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Port::open(&directory.path().join("ttyUSB0"), 115_200).unwrap_err();
    assert!(matches!(missing, PortError::Open { .. }), "{missing}");
    assert!(missing.to_string().contains("is it plugged in"), "{missing}");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = Port::open(&file, 115_200).unwrap_err();
    assert!(matches!(file, PortError::NoPort { .. }), "{file}");
}

#[test]
fn reasons_that_take_turns_are_logged_once() {
    let mut logged = Logged::default();
    let new = (0..100).filter(|number| logged.is_new(["no wire", "no speed"][number % 2])).count();
    assert_eq!(new, 2);
    // It does not grow with what a server may have for reasons.
    (0..1_000).for_each(|number| assert!(logged.is_new(&format!("for reason {number}"))));
    assert!(logged.is_new("no wire"));
}

/// When bytes come that no link comes up by, in milliseconds, and what they are taken for then.
#[test]
fn noise_is_told_from_the_rest_of_an_older_session() {
    let memory = std::time::Duration::from_secs(64);
    let at = |millis| Instant::from_micros(millis * 1_000);
    let heard = |moments: &[u64]| {
        let mut unread = Unread::new(memory);
        moments.iter().for_each(|millis| unread.came(at(*millis)));
        unread
    };
    // The rest of a session, and a device that has just begun.
    let mut rest = heard(&[1_000, 1_010, 1_090, 3_200, 3_210]);
    assert!(rest.is_any(at(3_300)) && !rest.is_noise(at(3_300)));
    // A device at another speed, which tries for 2 s and is silent for a minute then.
    let attempt: Vec<_> = (10..30).map(|tenth| tenth * 100).collect();
    let mut noise = heard(&attempt);
    assert!(noise.is_noise(at(60_000)));
    assert!(!noise.is_noise(at(70_000)) && !noise.is_any(at(70_000)), "it is not remembered for ever");
    // Now and then.
    let mut noise = heard(&[1_000, 8_000, 15_000]);
    assert!(noise.is_noise(at(20_000)));
    noise.forget();
    assert!(!noise.is_any(at(20_000)));
    assert!(!heard(&[]).is_any(at(1)));
}
