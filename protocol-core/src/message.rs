//! Messages: one tag is one postcard structure, frozen (`docs/protocol.md`, Messages).
//!
//! Only this module knows postcard. A structure here never gains, loses or changes a field, nor does
//! any capacity in it change: change means a new tag, sent only where the version agreed on allows it.

mod parameters;
mod text;
mod video;

use core::fmt;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use parameters::{HostKey, MAX_HOST_KEYS, OpenSshParameters, VideoParameters};
pub use text::{Kind, Text};
pub use video::{Camera, Cameras, MAX_CAMERAS, Unit, VIDEO_MAX_FRAME, VideoStatus};

use crate::{
    code::{CloseReason, ConnectionKind, Role, TaskState},
    frame::{self, HEADER_LENGTH, MAX_FRAME},
    tag::Tag,
};

/// The newest version of the protocol that this crate speaks.
pub const VERSION: u8 = 3;

/// The version from which on peers speak of tasks.
pub const TASKS_VERSION: u8 = 2;

/// The version from which on devices tell of their cameras.
pub const CAMERAS_VERSION: u8 = 3;

/// The oldest version of the protocol that this crate speaks.
pub const OLDEST_VERSION: u8 = 1;

/// The newest version that a peer which speaks `oldest` to `newest` shares with this crate, if any.
pub fn common_version(oldest: u8, newest: u8) -> Option<u8> {
    let version = newest.min(VERSION);
    (version >= oldest.max(OLDEST_VERSION)).then_some(version)
}

/// A body that travels under a tag of its own.
pub trait Body: Serialize {
    /// The tag that the body travels under.
    const TAG: Tag;

    /// The longest body, in bytes: what a buffer for its frame needs beside the header.
    const MAX_LENGTH: usize = LONGEST_BODY;
}

/// The longest body that fits a frame, in bytes.
const LONGEST_BODY: usize = (MAX_FRAME as usize).saturating_sub(HEADER_LENGTH);

/// A body that the session passes on without a part in it: not numbered, not echoed, and lost with the connection.
pub trait Notice: Body {}

impl Notice for Facts<'_> {}
impl Notice for Status<'_> {}
impl Notice for Endpoints<'_> {}
impl Notice for Information<'_> {}
impl Notice for SshHostKeys<'_> {}
impl Notice for Offer<'_> {}
impl Notice for Order<'_> {}
impl Notice for Stop<'_> {}
impl Notice for Report<'_> {}
impl Notice for Cameras<'_> {}

/// Writes a whole frame: header and body. Gives its length in bytes.
///
/// # Errors
/// [`EncodeError`] if the frame does not fit `buffer`, or is larger than the peer's `max_frame`, in bytes.
#[inline]
pub fn encode<B: Body>(body: &B, max_frame: u16, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let room = buffer.len();
    let Some((header, rest)) = buffer.split_first_chunk_mut::<HEADER_LENGTH>() else {
        return Err(EncodeError::NoRoom { tag: B::TAG, room });
    };
    let Ok(written) = postcard::to_slice(body, rest) else {
        return Err(EncodeError::NoRoom { tag: B::TAG, room });
    };
    let length = written.len();
    let whole = length.saturating_add(HEADER_LENGTH);
    if whole > usize::from(max_frame) {
        return Err(EncodeError::TooLarge { tag: B::TAG, limit: max_frame });
    }
    frame::encode_header(B::TAG, length as u32, header);
    Ok(whole)
}

/// Reads a body. Bytes that are left over are an error: a body is read as a whole or not at all.
///
/// # Errors
/// [`DecodeError`] if the bytes are not exactly one such body.
#[inline]
pub fn decode<'a, B: Body + Deserialize<'a>>(body: &'a [u8]) -> Result<B, DecodeError> {
    match postcard::take_from_bytes::<B>(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(DecodeError { tag: B::TAG, length: body.len() }),
    }
}

/// Why a body can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame does not fit the caller's buffer.
    #[error("a {tag} frame does not fit the {room} bytes of room given; give more")]
    NoRoom {
        /// The frame's tag.
        tag: Tag,
        /// The buffer's size, in bytes.
        room: usize,
    },
    /// The frame is larger than the peer takes.
    #[error("a {tag} frame is larger than the {limit} bytes that the peer takes; send less at once")]
    TooLarge {
        /// The frame's tag.
        tag: Tag,
        /// The largest frame that the peer takes, header included, in bytes.
        limit: u16,
    },
}

/// A body that is not what its tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one whole {tag} body, found {length} bytes that are not one; the peer's version is broken")]
pub struct DecodeError {
    /// The frame's tag.
    pub tag: Tag,
    /// The body's length, in bytes.
    pub length: usize,
}

macro_rules! random_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(#[serde(with = "crate::fixed")] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:016x}", self.0)
            }
        }
    };
}

random_id! {
    /// A random number drawn at each start of a client: two holders of one identity differ in it.
    BootId
}

random_id! {
    /// A random number made together with a queue of messages: its numbers count from 1 within it.
    StreamId
}

random_id! {
    /// A random number made together with the server's database.
    StoreId
}

random_id! {
    /// A random number made together with a task.
    TaskId
}

/// How much a peer may send before it is echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Messages, at most [`MAX_IN_FLIGHT`](crate::window::MAX_IN_FLIGHT); 0 takes none at all.
    pub messages: u8,
    /// Bytes of whole frames.
    pub bytes: u32,
}

/// `HELO`, client to server: opens the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version that the client speaks.
    pub oldest_version: u8,
    /// The newest version that the client speaks.
    pub newest_version: u8,
    /// What the connection is for.
    pub kind: ConnectionKind,
    /// Which start of the client this is.
    pub boot: BootId,
    /// The stream that the welcome's `archived` is about: that of the newest message that was echoed, or the one in
    /// use if none was.
    pub stream: StreamId,
    /// The largest frame that the client takes, header included, in bytes; 256 at least.
    #[serde(with = "crate::narrow")]
    pub max_frame: u16,
    /// How much the server may send before it is echoed.
    pub window: Window,
}

/// `WELC`, server to client: the session is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// The version that both speak from here on.
    pub version: u8,
    /// The client sends `PING` when it has sent or heard nothing for so long, in milliseconds; 0 for never.
    pub interval: u32,
    /// Each side gives the other up when an answer takes longer, in milliseconds; above 0, unless `interval` is 0.
    pub timeout: u32,
    /// The largest frame that the server takes, header included, in bytes; 256 at least.
    #[serde(with = "crate::narrow")]
    pub max_frame: u16,
    /// How much the client may send before it is echoed.
    pub window: Window,
    /// The server's database.
    pub store: StoreId,
    /// The highest number that the database holds of the hello's stream, 0 for none.
    #[serde(with = "crate::fixed")]
    pub archived: u64,
    /// The server's clock, in milliseconds since 1970.
    #[serde(with = "crate::fixed")]
    pub time: u64,
    /// The name that the server knows the client by.
    #[serde(borrow)]
    pub name: Text<'a, 63>,
}

/// `MESG`, either way: a message, known by stream and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// The queue that the message came from.
    pub stream: StreamId,
    /// Its place in the queue, from 1 up.
    #[serde(with = "crate::fixed")]
    pub number: u64,
    /// The sender's clock when the message was made, in milliseconds since 1970; 0 if it had none.
    #[serde(with = "crate::fixed")]
    pub time: u64,
    /// What the body is.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// The body, as the kind says.
    #[serde(with = "serde_bytes")]
    pub body: &'a [u8],
}

/// `ECHO`, either way: this message, and all of its stream sent before it on this connection, are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The messages' stream.
    pub stream: StreamId,
    /// The highest number that is on disk.
    #[serde(with = "crate::fixed")]
    pub number: u64,
}

/// `CLOS`, either way: the sender ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close<'a> {
    /// Why.
    pub reason: CloseReason,
    /// How long the peer should wait before it comes back, in seconds; 0 leaves that to the peer.
    pub retry_after: u32,
    /// The reason in words, for people.
    #[serde(borrow)]
    pub detail: Text<'a, 128>,
}

/// `FACT`, client to server: what a device says of itself. Never to be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts<'a> {
    /// The device's host name.
    #[serde(borrow)]
    pub host_name: Text<'a, 64>,
    /// The version of the agent or firmware.
    #[serde(borrow)]
    pub version: Text<'a, 32>,
    /// The user that operators log in as by SSH; empty for none.
    #[serde(borrow)]
    pub ssh_user: Text<'a, 32>,
}

/// The most readings in one status.
pub const MAX_READINGS: usize = 16;

/// `STAT`, client to server: how a device is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status<'a> {
    /// Seconds since the device's start.
    pub uptime: u32,
    /// Readings by name.
    #[serde(borrow)]
    pub readings: Vec<Reading<'a>, MAX_READINGS>,
}

/// One reading of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading<'a> {
    /// What is read, with its unit at the end: `cpu-temperature-celsius`.
    #[serde(borrow)]
    pub name: Kind<'a>,
    /// The value read.
    pub value: f64,
}

/// The SHA-256 of a public key's `SubjectPublicKeyInfo`, in DER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pin(#[serde(with = "crate::raw")] pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What somebody must show to be given something. It is shown nowhere else, and comparing tells by no time how much is right.
#[derive(Clone, Copy, Eq, Serialize, Deserialize)]
pub struct Secret(#[serde(with = "crate::raw")] pub [u8; 16]);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The most addresses that a device keeps of its server.
pub const MAX_ADDRESSES: usize = 4;

/// `ENDP`, server to client: where, and by which keys, the server is found from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints<'a> {
    /// The key in use.
    pub current: Pin,
    /// The key that comes after it.
    pub next: Pin,
    /// Addresses to try, `host:port`, best first.
    #[serde(borrow)]
    pub addresses: Vec<Text<'a, 128>, MAX_ADDRESSES>,
}

/// The most SSH host keys that a device registers.
pub const MAX_SSH_HOST_KEYS: usize = 4;

/// `ENRL`, client to server on an enrolment connection: asks to register the key of its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol<'a> {
    /// The oldest version that the client speaks.
    pub oldest_version: u8,
    /// The newest version that the client speaks.
    pub newest_version: u8,
    /// The token of the enrolment line.
    pub token: Secret,
    /// The device's host name: its name is made from it where the token gives none.
    #[serde(borrow)]
    pub host_name: Text<'a, 64>,
    /// The device's SSH host keys, each a line as in `ssh_host_*_key.pub`.
    #[serde(borrow)]
    pub ssh_host_keys: Vec<Text<'a, 1024>, MAX_SSH_HOST_KEYS>,
}

/// `HKEY`, client to server: the host keys of the device's SSH server. They are registered where none are yet, and change
/// nothing where some are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHostKeys<'a> {
    /// Each a line as in `ssh_host_*_key.pub`.
    #[serde(borrow)]
    pub keys: Vec<Text<'a, 1024>, MAX_SSH_HOST_KEYS>,
}

/// `ENOK`, server to client on an enrolment connection: the key is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled<'a> {
    /// The device's name.
    #[serde(borrow)]
    pub name: Text<'a, 63>,
    /// Where, and by which keys, the server is found.
    #[serde(borrow)]
    pub endpoints: Endpoints<'a>,
}

/// The largest frame on an enrolment connection, header included, in bytes.
pub const ENROLMENT_MAX_FRAME: u16 = 5 * 1024;

const _: () = assert!(
    HEADER_LENGTH + Enrol::MAX_LENGTH <= ENROLMENT_MAX_FRAME as usize,
    "the longest that is said on an enrolment connection fits"
);

/// `GATE`, gateway to server, the first frame on a connection of its own: all that follows is the wired device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway<'a> {
    /// The name of the device that is wired to the gateway.
    #[serde(borrow)]
    pub name: Text<'a, 63>,
}

/// `INFO`, between a local program and its agent: asked with an empty text, answered with JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Information<'a> {
    /// Empty, or a JSON object, which may grow.
    pub json: &'a str,
}

/// The most kinds of tasks that a device takes.
pub const MAX_TASK_KINDS: usize = 16;

/// The most tasks that a device tells of when it connects, and so the most that it has.
pub const MAX_TASKS: usize = 128;

/// `OFFR`, client to server, behind the welcome: which tasks the device takes, and which it has now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer<'a> {
    /// The kinds of tasks that the device's own configuration allows.
    #[serde(borrow)]
    pub kinds: Vec<Kind<'a>, MAX_TASK_KINDS>,
    /// The tasks that it has, or whose end the server may not have heard of: those that are missing here are lost.
    pub tasks: Vec<TaskId, MAX_TASKS>,
}

/// `TASK`, server to client: the device is to run this. Only of a kind that it has [offered](Offer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order<'a> {
    /// The task.
    pub task: TaskId,
    /// What it is.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// What the one who asks for it may do. The device's configuration says whose word is enough.
    pub role: Role,
    /// Who asks for it, for the device's log.
    #[serde(borrow)]
    pub who: Text<'a, 64>,
    /// What shows on its data connection that it is this task's: good for one connection.
    pub key: Secret,
    /// For how long it may run, in seconds; 0 for as long as it likes.
    pub limit: u32,
    /// What the kind says.
    #[serde(with = "serde_bytes")]
    pub parameters: &'a [u8],
}

/// `STOP`, server to client: the device is to stop this task. One that it does not have is none of its business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop<'a> {
    /// The task.
    pub task: TaskId,
    /// Why, for the device's log.
    #[serde(borrow)]
    pub detail: Text<'a, 128>,
}

/// The most that a report tells of what a task wrote, in bytes.
pub const MAX_TASK_OUTPUT: usize = 8 * 1024;

/// `REPT`, client to server: how a task stands now. The last one says how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<'a> {
    /// The task.
    pub task: TaskId,
    /// How it stands.
    pub state: TaskState,
    /// Why, in words.
    #[serde(borrow)]
    pub detail: Text<'a, 256>,
    /// The end of what it wrote, at most [`MAX_TASK_OUTPUT`] bytes: never to be trusted.
    #[serde(with = "serde_bytes")]
    pub output: &'a [u8],
}

/// `JOIN`, client to server, the first frame on a data connection: what follows is the task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The task.
    pub task: TaskId,
    /// The key of its [order](Order).
    pub key: Secret,
}

/// `JOOK`, server to client, the first frame on a data connection: what follows is for the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {}

macro_rules! bodies {
    ($($body:ty => $tag:ident, $length:expr;)*) => {
        $(impl Body for $body {
            const TAG: Tag = Tag::$tag;
            #[allow(clippy::arithmetic_side_effects, reason = "the compiler checks constants")]
            const MAX_LENGTH: usize = $length;
        })*
    };
}

// How many bytes things take at most: a number is written seven bits to a byte, its length before a text.
const U16: usize = 3;
const U32: usize = 5;
const FIXED: usize = 8;
const WINDOW: usize = 1 + U32;
const KIND: usize = text(Kind::MAX);
const fn text(max: usize) -> usize {
    max.saturating_add(if max < 0x80 { 1 } else { 2 })
}

impl Message<'_> {
    /// What its frame holds at most beside kind and body, in bytes: header, stream, number, time, two lengths.
    #[allow(clippy::arithmetic_side_effects, reason = "the compiler checks constants")]
    pub const OVERHEAD: usize = HEADER_LENGTH + FIXED + FIXED + FIXED + 1 + U16;
}

bodies! {
    Hello => HELLO, 1 + 1 + U16 + FIXED + FIXED + U16 + WINDOW;
    Welcome<'_> => WELCOME, 1 + U32 + U32 + U16 + WINDOW + FIXED + FIXED + FIXED + text(63);
    Message<'_> => MESSAGE, LONGEST_BODY;
    Echo => ECHO, FIXED + FIXED;
    Close<'_> => CLOSE, U16 + U32 + text(128);
    Facts<'_> => FACTS, text(64) + text(32) + text(32);
    Status<'_> => STATUS, U32 + 1 + MAX_READINGS * (KIND + FIXED);
    Endpoints<'_> => ENDPOINTS, 32 + 32 + 1 + MAX_ADDRESSES * text(128);
    Enrol<'_> => ENROL, 1 + 1 + 16 + text(64) + 1 + MAX_SSH_HOST_KEYS * text(1024);
    SshHostKeys<'_> => SSH_HOST_KEYS, 1 + MAX_SSH_HOST_KEYS * text(1024);
    Enrolled<'_> => ENROLLED, text(63) + Endpoints::MAX_LENGTH;
    Gateway<'_> => GATEWAY, text(63);
    Information<'_> => INFORMATION, LONGEST_BODY;
    Offer<'_> => OFFER, 1 + MAX_TASK_KINDS * KIND + 1 + MAX_TASKS * FIXED;
    Order<'_> => ORDER, LONGEST_BODY;
    Stop<'_> => STOP, FIXED + text(128);
    Report<'_> => REPORT, FIXED + U16 + text(256) + U16 + MAX_TASK_OUTPUT;
    Join => JOIN, FIXED + 16;
    Joined => JOINED, 0;
    Cameras<'_> => CAMERAS, 1 + MAX_CAMERAS * (KIND + KIND + U16 + U16 + U16);
    Unit<'_> => UNIT, VIDEO_MAX_FRAME as usize - HEADER_LENGTH;
    VideoStatus => VIDEO_STATUS, U32 + U32 + U32 + U32;
}
