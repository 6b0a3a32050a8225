//! Golden bytes: what stands on the wire in each version of the protocol.
//!
//! A test that fails here means that older peers would not understand: change the code, not the bytes.

mod common;

use common::*;
use protocol_core::{
    frame::{self, Decoded, Frame, FrameError, MAX_FRAME},
    invitation::{self, Invitation, InvitationError},
    message::{
        self, Cameras, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Gateway, Hello, Information, Join,
        Joined, Message, Offer, Order, Report, SshHostKeys, Status, Stop, Unit, VideoStatus, Welcome,
    },
    provisioning::{self, Provisioning, ProvisioningError},
    serial::{self, Link, Retries},
    tag::Tag,
    time::Instant,
};

/// Reads the one frame that `bytes` are.
fn only_frame(bytes: &[u8]) -> Frame<'_> {
    match frame::decode(bytes, MAX_FRAME) {
        Ok(Decoded::Frame { frame, consumed }) if consumed == bytes.len() => frame,
        other => panic!("expected one whole frame, found {other:?}"),
    }
}

macro_rules! golden_bytes {
    ($($name:ident: $body:ty,)*) => {$(
        #[test]
        fn $name() {
            let (value, bytes): ($body, _) = (common::$name(), golden(stringify!($name)));
            let mut buffer = [0; 1024];
            let length = message::encode(&value, MAX_FRAME, &mut buffer).unwrap();
            assert_eq!(&buffer[..length], bytes, "written otherwise: {:02x?}", &buffer[..length]);
            let body = only_frame(&bytes).body;
            assert_eq!(message::decode::<$body>(body), Ok(value.clone()));

            for end in 0..body.len() {
                assert!(message::decode::<$body>(&body[..end]).is_err(), "a part of a body is none");
            }
            assert!(message::decode::<$body>(&[body, &[0]].concat()).is_err(), "more than a body is none");
            for damaged in each_damage(body) {
                assert_ne!(message::decode::<$body>(&damaged), Ok(value.clone()), "one value is written in one way");
            }
        }
    )*};
}

golden_bytes! {
    cameras: Cameras<'_>,
    close: Close<'_>,
    echo: Echo,
    endpoints: Endpoints<'_>,
    enrol: Enrol<'_>,
    enrolled: Enrolled<'_>,
    facts: Facts<'_>,
    gateway: Gateway<'_>,
    hello: Hello,
    information: Information<'_>,
    join: Join,
    joined: Joined,
    message: Message<'_>,
    offer: Offer<'_>,
    order: Order<'_>,
    report: Report<'_>,
    ssh_host_keys: SshHostKeys<'_>,
    status: Status<'_>,
    stop: Stop<'_>,
    unit: Unit<'_>,
    video_status: VideoStatus,
    welcome: Welcome<'_>,
}

/// `bytes` with each one byte changed to each other value.
fn each_damage(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).flat_map(move |at| {
        (1..=255).map(move |difference| {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= difference;
            damaged
        })
    })
}

#[test]
fn ping_and_pong() {
    assert_eq!(only_frame(&golden("ping")), Frame { tag: Tag::PING, body: &[] });
    for (name, bytes) in golden_frames() {
        let mut buffer = vec![0; bytes.len()];
        assert_eq!(only_frame(&bytes).encode(&mut buffer), Some(bytes.len()), "{name}");
        assert_eq!(buffer, bytes);
        assert_eq!(only_frame(&bytes).encode(&mut buffer[1..]), None, "{name}");
    }
    assert_eq!(only_frame(&golden("pong")), Frame { tag: Tag::PONG, body: &[] });
}

#[test]
fn a_part_of_a_frame_needs_more() {
    for (name, bytes) in golden_frames() {
        for end in 0..bytes.len() {
            assert_eq!(
                frame::decode(&bytes[..end], MAX_FRAME),
                Ok(Decoded::Incomplete),
                "{name} cut at {end}"
            );
        }
    }
}

/// What one damaged byte can do: in the tag, give another tag or an error; in the length, an error or a
/// frame of another length; in the body, a frame with that body. It never gives the frame that was sent.
#[test]
fn a_damaged_frame_is_never_the_one_that_was_sent() {
    for (name, bytes) in golden_frames() {
        let sent = only_frame(&bytes);
        for (index, damaged) in each_damage(&bytes).enumerate() {
            let at = index / 255;
            let is_letter = damaged[at].is_ascii_uppercase();
            match frame::decode(&damaged, MAX_FRAME) {
                Err(FrameError::BadTag { .. }) => assert!(at < 4 && !is_letter, "{name}: {damaged:02x?}"),
                Err(FrameError::TooLarge { length, .. }) => {
                    assert!((4..8).contains(&at) && length > 65_527, "{name}: {damaged:02x?}");
                }
                Ok(Decoded::Incomplete) => assert!((0..8).contains(&at), "{name}: {damaged:02x?}"),
                Ok(Decoded::Frame { frame, consumed }) => {
                    assert!(consumed <= damaged.len() && frame != sent, "{name}: {damaged:02x?}");
                    let expected = if at >= 8 { &damaged[8..] } else { &bytes[8.min(bytes.len())..] };
                    assert!(expected.starts_with(frame.body), "{name}: {damaged:02x?}");
                    assert!(at < 8 || frame.tag == sent.tag, "{name}: {damaged:02x?}");
                }
            }
        }
    }
}

#[test]
fn invitation() {
    let bytes = golden("invitation");
    let mut buffer = [0; invitation::MAX_LENGTH];
    assert_eq!(common::invitation().encode(&mut buffer), Some(&bytes[..]));
    assert_eq!(Invitation::decode(&bytes), Ok(common::invitation()));
    for end in 0..bytes.len() {
        assert_eq!(Invitation::decode(&bytes[..end]), Err(InvitationError { length: end }));
    }
    for damaged in each_damage(&bytes) {
        assert_eq!(Invitation::decode(&damaged), Err(InvitationError { length: bytes.len() }));
    }
}

/// A block is a page of flash; the golden bytes are those that are not left as they were erased.
#[test]
fn provisioning() {
    let bytes = golden("provisioning");
    let mut block = [0; provisioning::LENGTH];
    common::provisioning().encode(&mut block).unwrap();
    let (written, rest) = block.split_at(bytes.len());
    assert_eq!(written, bytes, "written otherwise: {written:02x?}");
    assert!(rest.iter().all(|byte| *byte == 0xff));
    assert_eq!(Provisioning::decode(&block), Ok(common::provisioning()));
    for end in 1..bytes.len() {
        assert_eq!(Provisioning::decode(&bytes[..end]), Err(ProvisioningError::Damaged), "cut at {end}");
    }
    for damaged in each_damage(&bytes) {
        assert_eq!(Provisioning::decode(&damaged), Err(ProvisioningError::Damaged));
    }
}

#[test]
fn flash_without_a_block_has_a_reason() {
    for erased in [0x00, 0xff] {
        assert_eq!(Provisioning::decode(&[erased; provisioning::LENGTH]), Err(ProvisioningError::Missing));
    }
    assert_eq!(Provisioning::decode(&[]), Err(ProvisioningError::Missing));
    let error = Provisioning::decode(b"something else").unwrap_err();
    assert_eq!(error, ProvisioningError::Damaged);
    assert!(error.to_string().contains("write it again"));
    let key = common::provisioning().key;
    assert_eq!(format!("{key:?}"), "PrivateKey(…)");

    let mut newer = golden("provisioning");
    let end = newer.len() - 4;
    newer[4] = 2;
    let check_sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&newer[..end]);
    newer[end..].copy_from_slice(&check_sum.to_be_bytes());
    assert_eq!(Provisioning::decode(&newer), Err(ProvisioningError::Newer { version: 2 }));
}

#[test]
fn a_certificate_that_is_too_long_is_not_written() {
    let mut block = [0; provisioning::LENGTH];
    let longest = [0; provisioning::MAX_CERTIFICATE + 1];
    assert_eq!(Provisioning { certificate: &longest, ..common::provisioning() }.encode(&mut block), None);
    let fits = Provisioning { certificate: &longest[1..], ..common::provisioning() };
    fits.encode(&mut block).unwrap();
    assert_eq!(Provisioning::decode(&block), Ok(fits));
}

#[test]
fn the_packets_of_a_link() {
    let now = Instant::from_micros(0);
    let end = |nonce| {
        let mut link = Link::new(Retries::DEFAULT, [0; 64], [0; 64]);
        link.open(now, nonce);
        link
    };
    let (mut one, mut other) = (end(0x0102_0304), end(0x0506_0708));
    let written = |link: &mut Link<_>| {
        let mut buffer = [0; 128];
        let length = link.output(now, &mut buffer).unwrap();
        buffer[..length].to_vec()
    };
    let heard = |link: &mut Link<_>, name: &str| {
        let bytes = golden(name);
        let (used, event) = link.input(now, &bytes, 64);
        (used == bytes.len() - 1 || used == bytes.len(), event.map(|event| format!("{event:?}")))
    };
    let up = Some("Up".to_owned());
    assert_eq!(written(&mut one), golden("link_open"));
    assert_eq!(heard(&mut other, "link_open"), (true, None));
    assert_eq!(written(&mut other), golden("link_answer"));
    assert_eq!(heard(&mut one, "link_answer"), (true, up));
    let opened = written(&mut other);
    one.input(now, &opened, 64);
    let answer = written(&mut one);
    assert!(matches!(other.input(now, &answer, 64), (_, Some(serial::Event::Up))));
    assert_eq!(one.send(now, b"hi"), 2);
    assert_eq!(written(&mut one), golden("link_data"));
    assert_eq!(heard(&mut other, "link_data"), (true, Some("Data([104, 105])".to_owned())));
    assert_eq!(written(&mut other), golden("link_acknowledgement"));
    assert_eq!(one.room(), 0);
    assert_eq!(heard(&mut one, "link_acknowledgement"), (true, None));
    assert!(one.room() > 0);
}

/// Version 1 as it was when microcontrollers had shown that it serves them: the CRC-32 of each golden file's bytes.
const FROZEN: &[(&str, u32)] = &[
    ("close", 0x8f88_d3a6),
    ("echo", 0xdb58_e98f),
    ("endpoints", 0xe5b6_b92c),
    ("enrol", 0x315f_c3c8),
    ("enrolled", 0xc99b_e4a1),
    ("facts", 0x233d_8bd3),
    ("gateway", 0x6954_a79c),
    ("hello", 0x2e3f_73b7),
    ("information", 0x6c83_36f4),
    ("invitation", 0x1a7e_0ebc),
    ("link_acknowledgement", 0x7825_2b4c),
    ("link_answer", 0xc03a_d0a1),
    ("link_data", 0xea3b_3e23),
    ("link_open", 0x943d_47c0),
    ("message", 0x9a00_56c3),
    ("ping", 0x1340_d049),
    ("pong", 0x17cd_acfb),
    ("provisioning", 0x4482_a3e6),
    ("status", 0x33de_bb74),
    ("welcome", 0xa8e4_218c),
];

#[test]
fn version_1_is_frozen() {
    let now: Vec<_> = common::GOLDEN
        .iter()
        .take(FROZEN.len())
        .map(|(name, _)| (*name, crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&golden(name))))
        .collect();
    assert_eq!(
        now, FROZEN,
        "golden bytes are never edited: what must change becomes a message of a later version"
    );
}
