//! What the tests of the wire share: the golden bytes, and the values that they stand for.

#![allow(dead_code, reason = "each test file uses a part")]

use protocol_core::{
    code::{CloseReason, ConnectionKind, Role, TaskState},
    invitation::Invitation,
    message::{
        BootId, Camera, Cameras, Close, Echo, Endpoints, Enrol, Enrolled, Facts, Gateway, Hello, Information,
        Join, Joined, Kind, Message, Offer, Order, Pin, Reading, Report, Secret, SshHostKeys, Status, Stop,
        StoreId, StreamId, TaskId, Text, Unit, VideoStatus, Welcome, Window,
    },
    provisioning::{PrivateKey, Provisioning},
};

/// The golden bytes, by name: of version 1, and behind it what versions 2 and 3 add.
pub(crate) const GOLDEN: [(&str, &str); 30] = [
    ("close", include_str!("../golden/v1/close.hex")),
    ("echo", include_str!("../golden/v1/echo.hex")),
    ("endpoints", include_str!("../golden/v1/endpoints.hex")),
    ("enrol", include_str!("../golden/v1/enrol.hex")),
    ("enrolled", include_str!("../golden/v1/enrolled.hex")),
    ("facts", include_str!("../golden/v1/facts.hex")),
    ("gateway", include_str!("../golden/v1/gateway.hex")),
    ("hello", include_str!("../golden/v1/hello.hex")),
    ("information", include_str!("../golden/v1/information.hex")),
    ("invitation", include_str!("../golden/v1/invitation.hex")),
    ("link_acknowledgement", include_str!("../golden/v1/link_acknowledgement.hex")),
    ("link_answer", include_str!("../golden/v1/link_answer.hex")),
    ("link_data", include_str!("../golden/v1/link_data.hex")),
    ("link_open", include_str!("../golden/v1/link_open.hex")),
    ("message", include_str!("../golden/v1/message.hex")),
    ("ping", include_str!("../golden/v1/ping.hex")),
    ("pong", include_str!("../golden/v1/pong.hex")),
    ("provisioning", include_str!("../golden/v1/provisioning.hex")),
    ("status", include_str!("../golden/v1/status.hex")),
    ("welcome", include_str!("../golden/v1/welcome.hex")),
    ("join", include_str!("../golden/v2/join.hex")),
    ("joined", include_str!("../golden/v2/joined.hex")),
    ("offer", include_str!("../golden/v2/offer.hex")),
    ("order", include_str!("../golden/v2/order.hex")),
    ("report", include_str!("../golden/v2/report.hex")),
    ("ssh_host_keys", include_str!("../golden/v2/ssh_host_keys.hex")),
    ("stop", include_str!("../golden/v2/stop.hex")),
    ("cameras", include_str!("../golden/v3/cameras.hex")),
    ("unit", include_str!("../golden/v3/unit.hex")),
    ("video_status", include_str!("../golden/v3/video_status.hex")),
];

/// The bytes of the golden file `name`.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let (_, text) = GOLDEN.iter().find(|(known, _)| *known == name).expect("the name of a golden file");
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}

/// The golden files that are frames: all but the invitation, the provisioning block and the packets of a link.
pub(crate) fn golden_frames() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    GOLDEN
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !["invitation", "provisioning"].contains(name) && !name.starts_with("link_"))
        .map(|name| (name, golden(name)))
}

pub(crate) const STREAM: StreamId = StreamId(0x1112_1314_1516_1718);
pub(crate) const TIME: u64 = 1_795_305_600_123;

pub(crate) fn text<const MAX: usize>(text: &str) -> Text<'_, MAX> {
    Text::new(text).expect("a text that fits")
}

pub(crate) fn kind(kind: &str) -> Kind<'_> {
    Kind::new(kind).expect("a kind")
}

pub(crate) fn hello() -> Hello {
    Hello {
        oldest_version: 1,
        newest_version: 1,
        kind: ConnectionKind::Control,
        boot: BootId(0x0102_0304_0506_0708),
        stream: STREAM,
        max_frame: 16_384,
        window: Window { messages: 16, bytes: 65_536 },
    }
}

pub(crate) fn welcome() -> Welcome<'static> {
    Welcome {
        version: 1,
        interval: 30_000,
        timeout: 10_000,
        max_frame: 16_384,
        window: Window { messages: 24, bytes: 65_536 },
        store: StoreId(0x2122_2324_2526_2728),
        archived: 300,
        time: TIME,
        name: text("kiosk-1"),
    }
}

pub(crate) fn message() -> Message<'static> {
    let body = "Grüße, 16 bytes".as_bytes();
    Message { stream: STREAM, number: 301, time: TIME, kind: Kind::TEXT, body }
}

pub(crate) fn echo() -> Echo {
    Echo { stream: STREAM, number: 301 }
}

pub(crate) fn close() -> Close<'static> {
    Close { reason: CloseReason::Draining, retry_after: 5, detail: text("the server restarts") }
}

pub(crate) fn facts() -> Facts<'static> {
    Facts { host_name: text("kiosk-1"), version: text("0.1.0"), ssh_user: text("pi") }
}

pub(crate) fn status() -> Status<'static> {
    let readings = [
        Reading { name: kind("cpu-temperature-celsius"), value: 48.5 },
        Reading { name: kind("disk-free-bytes"), value: 12_345_678_900.0 },
    ];
    Status { uptime: 86_400, readings: readings.into_iter().collect() }
}

pub(crate) fn endpoints() -> Endpoints<'static> {
    let addresses = ["fleet.example:55223", "192.0.2.7:55223"];
    Endpoints { current: pin(0x80), next: pin(0xc0), addresses: addresses.into_iter().map(text).collect() }
}

pub(crate) fn enrol() -> Enrol<'static> {
    let key = text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f");
    let ssh_host_keys = [key].into_iter().collect();
    Enrol { oldest_version: 1, newest_version: 1, token: token(), host_name: text("kiosk-1"), ssh_host_keys }
}

pub(crate) fn enrolled() -> Enrolled<'static> {
    Enrolled { name: text("kiosk-1"), endpoints: endpoints() }
}

pub(crate) fn gateway() -> Gateway<'static> {
    Gateway { name: text("barometer") }
}

pub(crate) fn information() -> Information<'static> {
    Information { json: r#"{"connected":true}"# }
}

const TASK: TaskId = TaskId(0x3132_3334_3536_3738);

const KEY: Secret =
    Secret([0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f]);

pub(crate) fn ssh_host_keys() -> SshHostKeys<'static> {
    SshHostKeys { keys: enrol().ssh_host_keys }
}

pub(crate) fn offer() -> Offer<'static> {
    let kinds = ["ssh", "reboot"].into_iter().map(kind).collect();
    Offer { kinds, tasks: [TASK].into_iter().collect() }
}

pub(crate) fn order() -> Order<'static> {
    Order {
        task: TASK,
        kind: kind("ssh"),
        role: Role::Operator,
        who: text("ada"),
        key: KEY,
        limit: 1_200,
        parameters: b"{}",
    }
}

pub(crate) fn stop() -> Stop<'static> {
    Stop { task: TASK, detail: text("ada hung up.") }
}

pub(crate) fn report() -> Report<'static> {
    let (state, detail) = (TaskState::Failed, text("exit status 1"));
    Report { task: TASK, state, detail, output: b"no.\n" }
}

pub(crate) fn join() -> Join {
    Join { task: TASK, key: KEY }
}

pub(crate) fn joined() -> Joined {
    Joined {}
}

pub(crate) fn cameras() -> Cameras<'static> {
    let door = Camera { name: kind("door"), kind: kind("rpicam"), width: 1_280, height: 720, framerate: 30 };
    let yard = Camera { name: kind("yard-2"), kind: kind("rtsp"), width: 0, height: 0, framerate: 0 };
    Cameras { cameras: [door, yard].into_iter().collect() }
}

pub(crate) fn unit() -> Unit<'static> {
    let bytes = &[0, 0, 0, 1, 0x65, 0x88, 0x84, 0, 0x33, 0xff];
    Unit { flags: Unit::KEYFRAME, microseconds: 0x4142_4344_4546_4748, bytes }
}

pub(crate) fn video_status() -> VideoStatus {
    VideoStatus { frames: 30, bytes: 250_000, dropped: 2, restarts: 1 }
}

pub(crate) fn invitation() -> Invitation<'static> {
    let addresses = [text("fleet.example:55223")].into_iter().collect();
    Invitation { pin: pin(0x80), token: token(), addresses }
}

pub(crate) fn provisioning() -> Provisioning<'static> {
    let key = PrivateKey(std::array::from_fn(|at| at as u8));
    Provisioning {
        name: text("kiosk-1"),
        key,
        certificate: &[0x30, 0x03, 0x02, 0x01, 0x05],
        endpoints: endpoints(),
    }
}

/// 32 bytes that count up from `first`.
fn pin(first: u8) -> Pin {
    Pin(std::array::from_fn(|at| first + at as u8))
}

fn token() -> Secret {
    Secret(std::array::from_fn(|at| 0x30 + at as u8))
}
