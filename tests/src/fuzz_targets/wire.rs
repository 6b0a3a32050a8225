//! Frames, bodies, invitations and provisioning blocks from any bytes.

use super::Script;
use protocol_core::{
    frame::{self, Decoded, FrameError, HEADER_LENGTH, MAX_FRAME},
    invitation::{Invitation, MAX_LENGTH},
    message::{
        self, Body, Cameras, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Gateway, Hello, Information,
        Join, Joined, MAX_TASK_OUTPUT, Message, Offer, Order, Report, Status, Stop, Unit, VideoStatus,
        Welcome,
    },
    provisioning::{self, Provisioning, ProvisioningError},
};

/// A stream of frames: read at once or byte by byte, it is the same frames, and the same error at its end.
pub(super) fn frame(input: &[u8]) {
    let mut script = Script(input);
    let limit = u16::from_be_bytes([script.byte(), script.byte()]);
    let bytes = script.0;

    let mut at_once = Vec::new();
    let mut from = 0;
    let end = loop {
        match frame::decode(&bytes[from..], limit) {
            Ok(Decoded::Frame { frame, consumed }) => {
                assert!(consumed <= bytes.len() - from && frame.body.len() <= consumed);
                let mut buffer = vec![0; consumed];
                assert_eq!(frame.encode(&mut buffer), Some(consumed));
                assert_eq!(buffer, bytes[from..from + consumed], "written as it was read");
                at_once.push(frame);
                from += consumed;
            }
            Ok(Decoded::Incomplete) => {
                assert!(bytes.len() - from < usize::from(limit).max(HEADER_LENGTH), "a whole frame waits");
                break None;
            }
            Err(error) => break Some(error),
        }
    };

    let (mut from, mut count) = (0, 0);
    for to in 0..=bytes.len() {
        match frame::decode(&bytes[from..to], limit) {
            Ok(Decoded::Frame { frame, consumed }) => {
                assert_eq!((Some(&frame), consumed), (at_once.get(count), to - from));
                (from, count) = (to, count + 1);
            }
            Ok(Decoded::Incomplete) => {}
            Err(error) => {
                let end = end.expect("an error of a part is an error of the whole");
                let kind = |error| matches!(error, FrameError::BadTag { .. });
                assert_eq!(kind(error), kind(end));
                assert_eq!(count, at_once.len());
                return;
            }
        }
    }
    assert!(end.is_none() && count == at_once.len());
}

/// What is read is written again, in as many bytes at most, and read the same.
macro_rules! read {
    ($body:ty, $bytes:expr) => {
        if let Ok(value) = message::decode::<$body>($bytes) {
            let written = write(&value);
            assert!(written.len() <= $bytes.len().min(<$body>::MAX_LENGTH), "longer than what was read");
            let again = message::decode::<$body>(&written).expect("what was written is read");
            // Compared as bytes: a reading may be no number, which equals nothing.
            assert_eq!(write(&again), written);
        }
    };
}

/// The body that the first byte names.
pub(super) fn message(input: &[u8]) {
    let Some((which, body)) = input.split_first() else { return };
    match which % 21 {
        0 => read!(Hello, body),
        1 => read!(Welcome<'_>, body),
        2 => read!(Message<'_>, body),
        3 => read!(Echo, body),
        4 => read!(Close<'_>, body),
        5 => read!(Facts<'_>, body),
        6 => read!(Status<'_>, body),
        7 => read!(Endpoints<'_>, body),
        8 => read!(Enrol<'_>, body),
        9 => read!(Enrolled<'_>, body),
        10 => read!(Information<'_>, body),
        11 => read!(Gateway<'_>, body),
        12 => read!(Offer<'_>, body),
        13 => read!(Order<'_>, body),
        14 => read!(Stop<'_>, body),
        // The one body that is bounded by whoever takes it, not by its shape.
        15 => read_report(body),
        16 => read!(Join, body),
        17 => read!(Joined, body),
        18 => read!(Cameras<'_>, body),
        19 => read!(Unit<'_>, body),
        _ => read!(VideoStatus, body),
    }
}

fn read_report(body: &[u8]) {
    let is_short = |report: &Report<'_>| report.output.len() <= MAX_TASK_OUTPUT;
    if message::decode::<Report<'_>>(body).is_ok_and(|report| is_short(&report)) {
        read!(Report<'_>, body);
    }
}

fn write<B: Body>(value: &B) -> Vec<u8> {
    let mut buffer = vec![0; usize::from(MAX_FRAME)];
    let length =
        message::encode(value, MAX_FRAME, &mut buffer).expect("what was read fits the largest frame");
    buffer[HEADER_LENGTH..length].to_vec()
}

/// An invitation: what is read is written again, and read the same.
pub(super) fn invitation(input: &[u8]) {
    let Ok(invitation) = Invitation::decode(input) else { return };
    let mut buffer = [0; MAX_LENGTH];
    let written = invitation.encode(&mut buffer).expect("what was read fits");
    assert!(written.len() <= input.len());
    assert_eq!(Invitation::decode(written), Ok(invitation));
}

/// A provisioning block: what is read is written again, and read the same; what is not read has one clear reason.
pub(super) fn provisioning(input: &[u8]) {
    match Provisioning::decode(input) {
        Ok(value) => {
            let mut block = [0; provisioning::LENGTH];
            value.encode(&mut block).expect("what was read fits");
            assert_eq!(Provisioning::decode(&block), Ok(value));
        }
        Err(ProvisioningError::Missing) => {
            assert!(input.iter().take(provisioning::LENGTH).all(|byte| [0, 0xff].contains(byte)))
        }
        Err(ProvisioningError::Newer { version }) => assert!(version > provisioning::VERSION),
        Err(ProvisioningError::Damaged) => {}
    }
}
