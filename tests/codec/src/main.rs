//! Runs one case of the codec so often as is said: `cargo xtask codec` counts the instructions.

#![forbid(unsafe_code)]

use std::{env, hint::black_box, process::ExitCode};

use mqttrs::{Packet, Pid, Publish, QosPid};
use protocol_core::{
    frame::{self, Decoded, Frame},
    message::{self, Kind, Message, StreamId},
    tag::Tag,
};

const MAX_FRAME: u16 = 16_384;

/// The body of every message here.
const BODY: &[u8; 16] = b"sixteen bytes ok";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (name, count) = (arguments.next(), arguments.next().and_then(|count| count.parse().ok()));
    let (Some(name), Some(count)) = (name, count) else {
        eprintln!("usage: codec CASE COUNT");
        return ExitCode::from(2);
    };
    match name.as_str() {
        "nothing-read" => nothing_read(count),
        "nothing-written" => nothing_written(count),
        "frame-read" => frame_read(count),
        "frame-written" => frame_written(count),
        "message-read" => message_read(count),
        "message-written" => message_written(count),
        "mqttrs-read" => mqttrs_read(count),
        "mqttrs-written" => mqttrs_written(count),
        _ => {
            eprintln!("error: there is no case {name:?}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn a_message() -> Message<'static> {
    Message {
        stream: StreamId(0x1112_1314_1516_1718),
        number: 301,
        time: 1_795_305_600_123,
        kind: Kind::TEXT,
        body: BODY,
    }
}

fn encoded() -> Vec<u8> {
    let mut buffer = vec![0; 128];
    let length = message::encode(&a_message(), MAX_FRAME, &mut buffer).unwrap_or(0);
    buffer.truncate(length);
    buffer
}

/// The loop of all that reads, without what it is for.
#[inline(never)]
fn nothing_read(count: u64) {
    let bytes = encoded();
    for _ in 0..count {
        black_box(black_box(&bytes[..]));
    }
}

/// The loop of all that writes, without what it is for.
#[inline(never)]
fn nothing_written(count: u64) {
    let mut buffer = [0; 128];
    let value = a_message();
    for _ in 0..count {
        black_box(black_box(&value));
        black_box(black_box(&mut buffer[..]));
    }
}

#[inline(never)]
fn frame_read(count: u64) {
    let bytes = encoded();
    for _ in 0..count {
        black_box(&frame::decode(black_box(&bytes), MAX_FRAME));
    }
}

#[inline(never)]
fn frame_written(count: u64) {
    let mut buffer = [0; 128];
    let body = encoded();
    let frame = Frame { tag: Tag::MESSAGE, body: &body[8..] };
    for _ in 0..count {
        let frame = black_box(&frame);
        black_box(frame.encode(black_box(&mut buffer[..])));
    }
}

#[inline(never)]
fn message_read(count: u64) {
    let bytes = encoded();
    for _ in 0..count {
        if let Ok(Decoded::Frame { frame, .. }) = frame::decode(black_box(&bytes), MAX_FRAME)
            && frame.tag == Tag::MESSAGE
        {
            black_box(&message::decode::<Message<'_>>(frame.body));
        }
    }
}

#[inline(never)]
fn message_written(count: u64) {
    let mut buffer = [0; 128];
    let value = a_message();
    for _ in 0..count {
        let value = black_box(&value);
        black_box(&message::encode(value, MAX_FRAME, black_box(&mut buffer[..])));
    }
}

fn a_publish() -> Packet<'static> {
    let qospid = QosPid::AtLeastOnce(Pid::try_from(301).unwrap_or_default());
    Packet::Publish(Publish { dup: false, qospid, retain: false, topic_name: "text", payload: BODY })
}

#[inline(never)]
fn mqttrs_read(count: u64) {
    let mut buffer = [0; 128];
    let length = mqttrs::encode_slice(&a_publish(), &mut buffer).unwrap_or(0);
    for _ in 0..count {
        black_box(&mqttrs::decode_slice(black_box(&buffer[..length])));
    }
}

#[inline(never)]
fn mqttrs_written(count: u64) {
    let mut buffer = [0; 128];
    let value = a_publish();
    for _ in 0..count {
        black_box(&mqttrs::encode_slice(black_box(&value), black_box(&mut buffer[..])));
    }
}
