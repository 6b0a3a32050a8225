//! What the probes call. A new public entry of `protocol-core` or `agent-embedded` is called here.
//!
//! Of what makes text only `escape` is here; all other `Display`s and `Debug`s are for hosts.

mod device;

use core::{fmt::Write as _, hint::black_box};

pub use device::{agent, async_panics, connection, line};

use agent_embedded::identity::Identity;
use heapless::Vec;
use protocol_core::{
    backoff::Backoff,
    classic::{self, Classic},
    code::{self, CloseReason, ConnectionKind, TaskState},
    escape::{Escaped, EscapedBytes, OneLine},
    frame::{self, Decoded, Frame},
    h264::{self, Splitter},
    invitation::Invitation,
    message::{
        self, Body, BootId, Camera, Cameras, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Gateway, Hello,
        Information, Join, Joined, Kind, Message, Offer, Order, Pin, Reading, Report, Secret, Status, Stop,
        StoreId, StreamId, TaskId, Text, Unit, VideoParameters, VideoStatus, Welcome, Window,
    },
    provisioning::{self, PrivateKey, Provisioning},
    serial::{self, Link, Retries},
    session::{Client, Role, Server, Session},
    tag::Tag,
    time::{Duration, Instant},
};

use crate::Outside;

/// All that the two offer.
pub fn everything(outside: Outside<'_>) {
    let Outside { input, output, number } = outside;
    codec(Outside { input, output, number });
    other_messages(input, output);
    texts(input);
    escape(input);
    session(Outside { input, output, number });
    server(Outside { input, output, number });
    serial(Outside { input, output, number });
    invitation(input, output);
    provisioning(input);
    identity(input);
    video(input, output, number);
    backoff(number);
    connection(Outside { input, output, number });
    classic(Outside { input, output, number });
}

/// No part at all.
pub fn nothing(_: Outside<'_>) {}

/// A control: a panic within reach.
pub fn panics(outside: Outside<'_>) {
    show(outside.input[outside.number as usize]);
}

/// Frames and messages, as a microcontroller needs them: what a client sends is written, what a server sends is read.
pub fn codec(outside: Outside<'_>) {
    let Outside { input, output, number } = outside;
    encode(&hello(number), output);
    encode(&a_message(input, number), output);
    encode(&Echo { stream: StreamId(number), number }, output);
    encode(&close(input, number), output);
    encode(&Facts { host_name: text(input), version: text(input), ssh_user: text(input) }, output);
    encode(&status(input, number), output);
    if let Ok(Decoded::Frame { frame, consumed }) = frame::decode(input, number as u16) {
        show(consumed);
        match frame.tag {
            Tag::WELCOME => show(message::decode::<Welcome<'_>>(frame.body)),
            Tag::MESSAGE => show(message::decode::<Message<'_>>(frame.body)),
            Tag::ECHO => show(message::decode::<Echo>(frame.body)),
            Tag::CLOSE => show(message::decode::<Close<'_>>(frame.body)),
            Tag::ENDPOINTS => show(message::decode::<Endpoints<'_>>(frame.body)),
            _ => {}
        }
    }
}

/// A client's session, with its frames and messages.
pub fn session(outside: Outside<'_>) {
    let Outside { input, output, number } = outside;
    let now = Instant::from_micros(number);
    let mut session = black_box(Session::<Client>::client(number as u16));
    let timeout = Duration::from_millis(number as u32);
    show(session.open(now, timeout, &hello(number), output));
    show(session.notice(now, &status(input, number), output));
    show(session.notice(now, &Facts::default(), output));
    turn(&mut session, input, output, number);
}

/// A link over a serial line.
pub fn serial(outside: Outside<'_>) {
    let Outside { input, output, number } = outside;
    let now = Instant::from_micros(number);
    let mut buffers = black_box(([0; 64], [0; 64]));
    let (receive, send) = (black_box(&mut buffers.0[..]), black_box(&mut buffers.1[..]));
    let retries = black_box(Retries::default());
    let mut link = Link::new(retries, receive, send);
    link.open(now, number as u32);
    let mut rest = input;
    while black_box(number) > 0 {
        let (used, event) = link.input(now, rest, rest.len());
        show(event);
        rest = rest.get(used..).unwrap_or_default();
        show(link.send(now, rest));
        show(link.output(now, output));
        show((link.state(), link.room(), link.timeout(), serial::output_room(rest.len())));
    }
}

/// A server's session.
fn server(outside: Outside<'_>) {
    let Outside { input, output, number } = outside;
    let now = Instant::from_micros(number);
    let mut session = black_box(Session::<Server>::server(now, Duration::from_secs(number as u32)));
    turn(&mut session, input, output, number);
    show(session.welcome(now, &welcome(input, number), output));
    show(session.notice(now, &endpoints(input), output));
    turn(&mut session, input, output, number);
}

/// What both sides of a session do.
fn turn<R: Role>(session: &mut Session<R>, input: &[u8], output: &mut [u8], number: u64) {
    let now = Instant::from_micros(number);
    let mut rest = input;
    while black_box(number) > 0 {
        match session.input(now, rest) {
            Ok((used, event)) => {
                show(event);
                rest = rest.get(used..).unwrap_or_default();
            }
            Err(error) => show(error.reason()),
        }
        show(session.echo(StreamId(number), number));
        session.ping();
        show(session.message(now, &a_message(input, number), output));
        show(session.output(now, output));
        show((session.state(), session.version(), session.in_flight(), session.timeout()));
        let wait = session.timeout().map(|due| core::time::Duration::from(due.since(now)));
        show(wait);
    }
    show(session.close(&close(input, number), output));
}

/// What a microcontroller does not need.
fn other_messages(input: &[u8], output: &mut [u8]) {
    show(Frame { tag: Tag::MESSAGE, body: input }.encode(output));
    show(message::decode::<Hello>(input));
    show(message::decode::<Facts<'_>>(input));
    show(message::decode::<Status<'_>>(input));
    show(message::decode::<Enrol<'_>>(input));
    show(message::decode::<Enrolled<'_>>(input));
    show(message::decode::<Information<'_>>(input));
    show(message::decode::<Gateway<'_>>(input));
    show(message::decode::<Offer<'_>>(input));
    show(message::decode::<Order<'_>>(input));
    show(message::decode::<Stop<'_>>(input));
    show(message::decode::<Report<'_>>(input));
    show(message::decode::<Join>(input));
    show(message::decode::<Joined>(input));
    about_tasks(input, output);
    encode(&Gateway { name: text(input) }, output);
    encode(&Information { json: core::str::from_utf8(input).unwrap_or_default() }, output);
    encode(&welcome(input, 0), output);
    encode(&endpoints(input), output);
    encode(&Enrolled { name: text(input), endpoints: endpoints(input) }, output);
    let ssh_host_keys = list(text(input));
    encode(
        &Enrol {
            oldest_version: 1,
            newest_version: 1,
            token: Secret([0; 16]),
            host_name: text(input),
            ssh_host_keys,
        },
        output,
    );
    show(message::common_version(black_box(0), black_box(0)));
}

/// What stands in data connections, and in the sessions of those that have some.
fn about_tasks(input: &[u8], output: &mut [u8]) {
    let (task, key) = (TaskId(input.len() as u64), Secret([0; 16]));
    let kind = Kind::new(core::str::from_utf8(input).unwrap_or_default()).unwrap_or(Kind::TEXT);
    encode(&Offer { kinds: list(kind), tasks: list(task) }, output);
    let role = code::Role::from(input.len() as u16);
    encode(&Order { task, kind, role, who: text(input), key, limit: 0, parameters: input }, output);
    encode(&Stop { task, detail: text(input) }, output);
    let state = TaskState::from(input.len() as u16);
    encode(&Report { task, state, detail: text(input), output: input }, output);
    encode(&Join { task, key }, output);
    encode(&Joined {}, output);
}

/// What stands on the data connection of a camera, and the pictures in its bytes.
fn video(input: &[u8], output: &mut [u8], number: u64) {
    let kind = Kind::new(core::str::from_utf8(input).unwrap_or_default()).unwrap_or(Kind::TEXT);
    let camera = Camera { name: kind, kind, width: number as u16, height: 0, framerate: 0 };
    encode(&Cameras { cameras: list(camera) }, output);
    let unit = Unit { flags: number as u8, microseconds: number, bytes: input };
    encode(&unit, output);
    show(unit.encode_head(&mut [0; Unit::OVERHEAD]));
    encode(&VideoStatus { frames: number as u32, ..VideoStatus::default() }, output);
    show(message::decode::<Cameras<'_>>(input));
    show(message::decode::<Unit<'_>>(input));
    show(message::decode::<VideoStatus>(input));
    show(VideoParameters { camera: kind }.encode(output));
    show(VideoParameters::decode(input));
    let mut splitter = black_box(Splitter::default());
    show(splitter.next(input));
    show((splitter.has_picture(), splitter.flush(input)));
    h264::nal_units(input).for_each(|unit| show(unit.first().copied().map(h264::type_of)));
}

fn texts(input: &[u8]) {
    if let Some(tag) = input.first_chunk().and_then(|bytes| Tag::new(*bytes)) {
        show((tag.bytes(), tag.is_whole_frame()));
    }
    let words = core::str::from_utf8(input).unwrap_or_default();
    show(Text::<64>::shortened(words).as_str());
    show(Kind::new(words).map(|kind| kind.as_str().len()));
    let code = u16::from(black_box(CloseReason::from(input.len() as u16)));
    show(u16::from(black_box(ConnectionKind::from(code))));
}

fn escape(input: &[u8]) {
    let words = core::str::from_utf8(input).unwrap_or_default();
    show(write!(Screen, "{}{}{}", EscapedBytes(input), Escaped(words), OneLine(words)));
}

/// Where a text is shown.
struct Screen;

impl core::fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        show(text);
        black_box(Ok(()))
    }
}

fn invitation(input: &[u8], output: &mut [u8]) {
    show(Invitation::decode(input));
    let addresses = list(text(input));
    show(Invitation { pin: Pin([0; 32]), token: Secret([0; 16]), addresses }.encode(output));
}

fn provisioning(input: &[u8]) {
    show(Provisioning::decode(input));
    let mut block = black_box([0; provisioning::LENGTH]);
    let key = PrivateKey(black_box([0; 32]));
    show(
        Provisioning { name: text(input), key, certificate: input, endpoints: endpoints(input) }
            .encode(&mut block),
    );
    show(block);
}

fn identity(input: &[u8]) {
    let mut identity = black_box(Identity::new());
    show(identity.dial(|block| block.iter_mut().zip(input).for_each(|(to, from)| *to = *from)));
    identity.welcomed();
    identity.learn(Pin(black_box([0; 32])), &endpoints(input));
    identity.store(Instant::from_micros(black_box(1)), |block| {
        show(block);
        black_box(Err::<(), ()>(()))
    });
    show(identity.provisioning());
}

fn classic(outside: Outside<'_>) {
    let Outside { input, number, .. } = outside;
    let now = Instant::from_micros(number);
    let mut session = black_box(Classic::new(now, Duration::from_micros(number)));
    let mut rest = input;
    while black_box(number) > 0 {
        if let Ok((used, event)) = session.input(now, rest) {
            show(event);
            rest = rest.get(used..).unwrap_or_default();
        }
        show(session.timeout());
        if black_box(number) > 1 {
            session.end();
        }
    }
    show(classic::Answer::read(input).map(classic::Answer::bytes));
}

fn backoff(number: u64) {
    let mut backoff = black_box(Backoff::default());
    show(backoff.next(number as u16));
    show(backoff.closed(CloseReason::from(number as u16), number as u32, number as u16));
    show(backoff.at_least(number as u32, number as u16));
    backoff.reset();
    show(backoff.ceiling());
}

/// Makes the optimiser believe that someone looks at `value`.
fn show<T>(value: T) {
    black_box(&value);
}

fn encode<B: Body>(body: &B, output: &mut [u8]) {
    show(message::encode(body, black_box(256), output));
}

fn text<const MAX: usize>(input: &[u8]) -> Text<'_, MAX> {
    core::str::from_utf8(input).ok().and_then(Text::new).unwrap_or_default()
}

/// A list of one: to collect one that may be too long would be a panic of ours.
fn list<T, const N: usize>(item: T) -> Vec<T, N> {
    let mut list = Vec::new();
    show(list.push(item));
    list
}

fn hello(number: u64) -> Hello {
    let kind = ConnectionKind::from(number as u16);
    let window = Window { messages: number as u8, bytes: number as u32 };
    let (boot, stream) = (BootId(number), StreamId(number));
    Hello { oldest_version: 1, newest_version: 1, kind, boot, stream, max_frame: number as u16, window }
}

fn welcome(input: &[u8], number: u64) -> Welcome<'_> {
    Welcome {
        version: number as u8,
        interval: number as u32,
        timeout: number as u32,
        max_frame: number as u16,
        window: Window { messages: number as u8, bytes: number as u32 },
        store: StoreId(number),
        archived: number,
        time: number,
        name: text(input),
    }
}

fn a_message(input: &[u8], number: u64) -> Message<'_> {
    Message { stream: StreamId(number), number, time: number, kind: Kind::TEXT, body: input }
}

fn close(input: &[u8], number: u64) -> Close<'_> {
    Close { reason: CloseReason::from(number as u16), retry_after: number as u32, detail: text(input) }
}

fn status(input: &[u8], number: u64) -> Status<'_> {
    let value = f64::from_bits(number);
    let mut status = Status { uptime: number as u32, readings: list(Reading { name: Kind::TEXT, value }) };
    let name = core::str::from_utf8(input).ok().and_then(Kind::new).unwrap_or(Kind::TEXT);
    show(status.readings.push(Reading { name, value }));
    status
}

fn endpoints(input: &[u8]) -> Endpoints<'_> {
    Endpoints { current: Pin([0; 32]), next: Pin([0; 32]), addresses: list(text(input)) }
}
