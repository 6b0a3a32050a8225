//! What holds for every frame and every message, not only for the golden ones.

mod common;

use std::fmt::Debug;

use common::{golden_frames, kind, text};
use proptest::{collection::vec, prelude::*};
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    escape::EscapedBytes,
    frame::{self, Decoded, MAX_FRAME},
    invitation::{self, Invitation},
    message::{
        self, Body, BootId, Camera, Cameras, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Gateway, Hello,
        Message, Pin, Reading, Secret, SshHostKeys, Status, StoreId, StreamId, Unit, VideoStatus, Welcome,
        Window,
    },
    provisioning::{self, PrivateKey, Provisioning},
    tag::Tag,
};
use serde::Deserialize;

/// Room for the largest frame.
const ROOM: usize = MAX_FRAME as usize;

fn encoded<B: Body>(value: &B) -> Vec<u8> {
    let mut buffer = vec![0; ROOM];
    let length = message::encode(value, MAX_FRAME, &mut buffer).expect("it fits the largest frame");
    buffer.truncate(length);
    buffer
}

/// What is written is read again, is no longer than is said, and fits exactly the room that it takes.
fn comes_back<'a, B>(value: &B, bytes: &'a [u8]) -> Result<(), TestCaseError>
where
    B: Body + Debug,
    B: PartialEq,
    B: Deserialize<'a>,
{
    let Ok(Decoded::Frame { frame, consumed }) = frame::decode(bytes, MAX_FRAME) else {
        return Err(TestCaseError::fail("not a frame"));
    };
    prop_assert_eq!((frame.tag, consumed), (B::TAG, bytes.len()));
    prop_assert!(frame.body.len() <= B::MAX_LENGTH, "{} bytes", frame.body.len());
    prop_assert_eq!(&message::decode::<B>(frame.body)?, value);
    let mut buffer = vec![0; bytes.len()];
    prop_assert_eq!(message::encode(value, MAX_FRAME, &mut buffer), Ok(bytes.len()));
    prop_assert!(message::encode(value, MAX_FRAME, &mut buffer[1..]).is_err());
    prop_assert!(message::encode(value, bytes.len() as u16 - 1, &mut buffer).is_err());
    Ok(())
}

/// A text of at most `max` bytes.
fn a_text(max: usize) -> impl Strategy<Value = String> {
    "\\PC{0,130}".prop_map(move |mut text| {
        let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    })
}

fn a_kind() -> impl Strategy<Value = String> {
    "[a-z0-9._-]{1,32}"
}

/// A number of any size: as many small ones as large ones, for they differ in their length on the wire.
fn a_number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn a_window() -> impl Strategy<Value = Window> {
    (any::<u8>(), a_number()).prop_map(|(messages, bytes)| Window { messages, bytes: bytes as u32 })
}

fn pin() -> impl Strategy<Value = Pin> {
    any::<[u8; 32]>().prop_map(Pin)
}

proptest! {
    #[test]
    fn hello(
        versions in any::<(u8, u8)>(), code in any::<u16>(), ids in any::<(u64, u64)>(), max_frame in any::<u16>(),
        window in a_window(),
    ) {
        let value = Hello {
            oldest_version: versions.0, newest_version: versions.1, kind: ConnectionKind::from(code), boot: BootId(ids.0),
            stream: StreamId(ids.1), max_frame, window,
        };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn welcome(
        version in any::<u8>(), numbers in (a_number(), a_number(), a_number(), a_number()), max_frame in any::<u16>(),
        window in a_window(), store in any::<u64>(), name in a_text(63),
    ) {
        let value = Welcome {
            version, interval: numbers.0 as u32, timeout: numbers.1 as u32, max_frame, window, store: StoreId(store),
            archived: numbers.2, time: numbers.3, name: text(&name),
        };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn messages(
        stream in any::<u64>(), numbers in (a_number(), a_number()), name in a_kind(), body in vec(any::<u8>(), 0..400),
    ) {
        let value = Message {
            stream: StreamId(stream), number: numbers.0, time: numbers.1, kind: kind(&name), body: &body,
        };
        comes_back(&value, &encoded(&value))?;
    }

    /// Numbers of eight bytes keep all their bits, those too that would be no number as an `f64`.
    #[test]
    fn all_bits_stay(bits in any::<u64>(), is_odd in any::<bool>()) {
        for bits in [bits, bits | 0x7ff0_0000_0000_0000, 0x7ff0_0000_0000_0001, u64::from(is_odd), u64::MAX] {
            let value = Echo { stream: StreamId(bits), number: 1 };
            let bytes = encoded(&value);
            prop_assert_eq!(&bytes[8..16], bits.to_le_bytes());
            comes_back(&value, &bytes)?;
        }
    }

    #[test]
    fn echo(stream in any::<u64>(), number in a_number()) {
        let value = Echo { stream: StreamId(stream), number };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn close(code in any::<u16>(), retry_after in a_number(), detail in a_text(128)) {
        let retry_after = retry_after as u32;
        let value = Close { reason: CloseReason::from(code), retry_after, detail: text(&detail) };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn facts(host_name in a_text(64), version in a_text(32), ssh_user in a_text(32)) {
        let value = Facts { host_name: text(&host_name), version: text(&version), ssh_user: text(&ssh_user) };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn cameras(cameras in vec((a_kind(), a_kind(), any::<(u16, u16, u16)>()), 0..=16)) {
        let cameras = cameras.iter().map(|(name, of, size)| {
            let (width, height, framerate) = *size;
            Camera { name: kind(name), kind: kind(of), width, height, framerate }
        });
        let value = Cameras { cameras: cameras.collect() };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn units(flags in any::<u8>(), microseconds in a_number(), bytes in vec(any::<u8>(), 0..400)) {
        let value = Unit { flags, microseconds, bytes: &bytes };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn video_status(numbers in (a_number(), a_number(), a_number(), a_number())) {
        let (frames, bytes) = (numbers.0 as u32, numbers.1 as u32);
        let value = VideoStatus { frames, bytes, dropped: numbers.2 as u32, restarts: numbers.3 as u32 };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn status(uptime in any::<u32>(), readings in vec((a_kind(), prop::num::f64::ANY), 0..=16)) {
        let is_a_number = |reading: &&(String, f64)| !reading.1.is_nan();
        let readings = readings.iter().filter(is_a_number);
        let readings = readings.map(|(name, value)| Reading { name: kind(name), value: *value }).collect();
        let value = Status { uptime, readings };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn endpoints_and_enrolled(current in pin(), next in pin(), addresses in vec(a_text(128), 0..=4), name in a_text(63)) {
        let addresses = addresses.iter().map(|address| text(address)).collect();
        let endpoints = Endpoints { current, next, addresses };
        comes_back(&endpoints, &encoded(&endpoints))?;
        let value = Enrolled { name: text(&name), endpoints };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn enrol(versions in any::<(u8, u8)>(), token in any::<[u8; 16]>(), name in a_text(64),
        keys in vec(a_text(1024), 0..=4)) {
        let ssh_host_keys = keys.iter().map(|key| text(key)).collect();
        let value = Enrol { oldest_version: versions.0, newest_version: versions.1, token: Secret(token), host_name: text(&name), ssh_host_keys };
        comes_back(&value, &encoded(&value))?;
        let value = SshHostKeys { keys: value.ssh_host_keys };
        comes_back(&value, &encoded(&value))?;
    }

    #[test]
    fn invitations(pin in pin(), token in any::<[u8; 16]>(), addresses in vec(a_text(128), 0..=4)) {
        let addresses = addresses.iter().map(|address| text(address)).collect();
        let value = Invitation { pin, token: Secret(token), addresses };
        let mut buffer = [0; invitation::MAX_LENGTH];
        let bytes = value.encode(&mut buffer).expect("the longest length is enough");
        prop_assert_eq!(Invitation::decode(bytes)?, value);
    }

    #[test]
    fn provisioning_blocks(
        name in a_text(63), key in any::<[u8; 32]>(), certificate in vec(any::<u8>(), 0..=provisioning::MAX_CERTIFICATE),
        current in pin(), next in pin(), addresses in vec(a_text(128), 0..=4),
    ) {
        let addresses = addresses.iter().map(|address| text(address)).collect();
        let endpoints = Endpoints { current, next, addresses };
        let value = Provisioning { name: text(&name), key: PrivateKey(key), certificate: &certificate, endpoints };
        let mut block = [0; provisioning::LENGTH];
        prop_assert!(value.encode(&mut block).is_some());
        prop_assert_eq!(Provisioning::decode(&block)?, value);
    }

    /// However the bytes are split, the frames are the same.
    #[test]
    fn any_split_gives_the_same_frames(
        frames in vec((a_tag(), vec(any::<u8>(), 0..40)), 0..12), cuts in vec(0..400_usize, 0..30),
    ) {
        let mut bytes = vec![];
        let mut sent = vec![];
        for (tag, body) in frames {
            let body = if tag.is_whole_frame() { vec![] } else { body };
            bytes.extend(tag.bytes());
            if !tag.is_whole_frame() {
                bytes.extend((body.len() as u32).to_be_bytes());
            }
            bytes.extend(&body);
            sent.push((tag, body));
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();

        let (mut waiting, mut from, mut read) = (vec![], 0, vec![]);
        for cut in cuts {
            waiting.extend(&bytes[from..cut]);
            from = cut;
            while let Decoded::Frame { frame, consumed } = frame::decode(&waiting, MAX_FRAME)? {
                read.push((frame.tag, frame.body.to_vec()));
                waiting.drain(..consumed);
            }
        }
        prop_assert_eq!(read, sent);
        prop_assert!(waiting.is_empty());
    }

    /// More bytes behind never change what was read, and a limit is kept before its frame is there.
    #[test]
    fn what_was_read_stays(
        bytes in prop_oneof![vec(any::<u8>(), 0..40), a_damaged_frame()], more in vec(any::<u8>(), 0..40),
        limit in any::<u16>(),
    ) {
        let longer = [&bytes[..], &more].concat();
        match frame::decode(&bytes, limit) {
            Ok(Decoded::Incomplete) => prop_assert!(bytes.len() < ROOM),
            Ok(Decoded::Frame { frame, consumed }) => {
                prop_assert!(consumed <= bytes.len() && frame.body.len() <= consumed);
                prop_assert!(frame.tag.is_whole_frame() || consumed <= usize::from(limit));
                prop_assert_eq!(&bytes[consumed - frame.body.len()..consumed], frame.body);
                prop_assert_eq!(frame::decode(&longer, limit), Ok(Decoded::Frame { frame, consumed }));
            }
            Err(_) => prop_assert!(frame::decode(&longer, limit).is_err()),
        }
    }

    /// Any bytes are a body or an error, and a body that is read says no more than its bytes.
    #[test]
    fn any_bytes_are_a_body_or_an_error(bytes in prop_oneof![vec(any::<u8>(), 0..200), a_damaged_frame()]) {
        for body in [&bytes[..], bytes.get(8..).unwrap_or_default()] {
            body_or_error::<Hello>(body)?;
            body_or_error::<Welcome<'_>>(body)?;
            body_or_error::<Message<'_>>(body)?;
            body_or_error::<Echo>(body)?;
            body_or_error::<Close<'_>>(body)?;
            body_or_error::<Facts<'_>>(body)?;
            body_or_error::<Status<'_>>(body)?;
            body_or_error::<Endpoints<'_>>(body)?;
            body_or_error::<Enrol<'_>>(body)?;
            body_or_error::<Enrolled<'_>>(body)?;
            body_or_error::<Gateway<'_>>(body)?;
            body_or_error::<Cameras<'_>>(body)?;
            body_or_error::<Unit<'_>>(body)?;
            body_or_error::<VideoStatus>(body)?;
            prop_assert!(Invitation::decode(body).is_err());
        }
    }

    /// What is shown moves no terminal, and no two things look the same: all can be read back.
    #[test]
    fn what_is_escaped_can_be_read_back(
        bytes in prop_oneof![
            vec(any::<u8>(), 0..40), any::<String>().prop_map(String::into_bytes), "[\\\\nrtux{}0-9a-f\n\u{202e}]{0,20}".prop_map(String::into_bytes)
        ],
    ) {
        let shown = EscapedBytes(&bytes).to_string();
        prop_assert!(!shown.contains(|letter: char| letter.is_control() || letter == '\u{202e}'), "{}", shown);
        prop_assert_eq!(read_back(&shown), bytes, "{}", shown);
    }
}

/// The bytes that an escaped text stands for.
fn read_back(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let (length, meant) = match escape.split_at(1) {
            ("x", digits) => (2, u8::from_str_radix(&digits[..2], 16).map(|byte| vec![byte]).unwrap()),
            ("u", digits) => {
                let (number, _) = digits[1..].split_once('}').unwrap();
                let letter = u32::from_str_radix(number, 16).ok().and_then(char::from_u32).unwrap();
                (number.len() + 2, letter.to_string().into_bytes())
            }
            ("n", _) => (0, vec![b'\n']),
            ("r", _) => (0, vec![b'\r']),
            ("t", _) => (0, vec![b'\t']),
            (same, _) => (0, same.as_bytes().to_vec()),
        };
        bytes.extend(meant);
        rest = &escape[1 + length..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}

fn body_or_error<'a, B: Body + Deserialize<'a>>(body: &'a [u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = message::decode::<B>(body) {
        // A number may come with more digits than it needs, and is written with as few as it needs.
        let again = encoded(&value).len() - frame::HEADER_LENGTH;
        prop_assert!(again <= body.len() && again <= B::MAX_LENGTH);
    }
    Ok(())
}

fn a_tag() -> impl Strategy<Value = Tag> {
    let known = prop::sample::select(vec![Tag::PING, Tag::PONG, Tag::MESSAGE, Tag::ECHO]);
    prop_oneof![known, "[A-Z]{4}".prop_filter_map("a tag", |tag| Tag::new(tag.as_bytes().try_into().ok()?))]
}

/// A golden frame, cut, with some bytes changed.
fn a_damaged_frame() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<_> = golden_frames().map(|(_, bytes)| bytes).collect();
    let damage = vec((0..200_usize, any::<u8>()), 0..4);
    (prop::sample::select(frames), damage, 0..200_usize).prop_map(|(mut bytes, damage, end)| {
        for (at, byte) in damage {
            bytes.get_mut(at).into_iter().for_each(|slot| *slot = byte);
        }
        bytes.truncate(end);
        bytes
    })
}

/// The longest value of each message takes exactly the bytes that are said.
#[test]
fn the_longest_are_as_long_as_is_said() {
    const NAME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let window = Window { messages: u8::MAX, bytes: u32::MAX };
    let long = "a".repeat(1024);
    let body_length = |bytes: Vec<u8>| bytes.len() - frame::HEADER_LENGTH;
    let hello =
        Hello { kind: ConnectionKind::Other(u16::MAX), max_frame: u16::MAX, window, ..common::hello() };
    assert_eq!(body_length(encoded(&hello)), Hello::MAX_LENGTH);
    let welcome = Welcome {
        interval: u32::MAX,
        timeout: u32::MAX,
        max_frame: u16::MAX,
        window,
        archived: u64::MAX,
        name: text(&long[..63]),
        ..common::welcome()
    };
    assert_eq!(body_length(encoded(&welcome)), Welcome::MAX_LENGTH);
    let body = vec![0; Message::MAX_LENGTH - 8 - 8 - 8 - 33 - 3];
    let message = Message { number: u64::MAX, kind: kind(NAME), body: &body, ..common::message() };
    assert_eq!(body_length(encoded(&message)), Message::MAX_LENGTH);
    assert_eq!(body_length(encoded(&Echo { number: u64::MAX, ..common::echo() })), Echo::MAX_LENGTH);
    let reason = CloseReason::Other(u16::MAX);
    let close = Close { reason, retry_after: u32::MAX, detail: text(&long[..128]) };
    assert_eq!(body_length(encoded(&close)), Close::MAX_LENGTH);
    let (host_name, short) = (text(&long[..64]), text(&long[..32]));
    let facts = Facts { host_name, version: short, ssh_user: short };
    assert_eq!(body_length(encoded(&facts)), Facts::MAX_LENGTH);
    let readings = [Reading { name: kind(NAME), value: 0.5 }; message::MAX_READINGS].into_iter().collect();
    assert_eq!(body_length(encoded(&Status { uptime: u32::MAX, readings })), Status::MAX_LENGTH);
    let addresses = [text(&long[..128]); message::MAX_ADDRESSES].into_iter().collect();
    let endpoints = Endpoints { addresses, ..common::endpoints() };
    assert_eq!(body_length(encoded(&endpoints)), Endpoints::MAX_LENGTH);
    let ssh_host_keys = [text(&long); message::MAX_SSH_HOST_KEYS].into_iter().collect();
    let keys = SshHostKeys { keys: [text(&long); message::MAX_SSH_HOST_KEYS].into_iter().collect() };
    assert_eq!(body_length(encoded(&keys)), SshHostKeys::MAX_LENGTH);
    assert_eq!(
        body_length(encoded(&Enrol { host_name, ssh_host_keys, ..common::enrol() })),
        Enrol::MAX_LENGTH
    );
    let enrolled = Enrolled { name: text(&long[..63]), endpoints };
    assert_eq!(body_length(encoded(&enrolled)), Enrolled::MAX_LENGTH);
    assert_eq!(body_length(encoded(&Gateway { name: text(&long[..63]) })), Gateway::MAX_LENGTH);
}
