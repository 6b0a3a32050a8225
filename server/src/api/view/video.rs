//! Live video in the answers of the API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A camera of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CameraView {
    /// Its name on the device.
    pub name: String,
    /// What it is: `rpicam`, `v4l2`, `rtsp`, `command`, `test`.
    pub kind: String,
    /// The width of its pictures in pixels, as configured; without it the camera decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Their height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// How many there are in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<u16>,
    /// How many look at it now.
    pub viewers: usize,
    /// The number of the recording that is being made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<i64>,
}

/// Somebody who looks at a camera.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ViewerView {
    /// Its number, while the server runs.
    pub id: i64,
    /// The device.
    pub device: String,
    /// Its camera.
    pub camera: String,
    /// Who looks.
    pub who: String,
    /// From where, if not from the server's machine: for admins, and for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How: `units` or `mp4`.
    pub way: String,
    /// Since when.
    pub since: Time,
    /// Pictures that were sent.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pictures that were left out, as the viewer was too slow.
    pub dropped: u64,
}

/// What the server says in text on a WebSocket of pictures. The pictures themselves are its binary messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum UnitsMessage {
    /// Before the first picture, and before the first that is decoded in another way.
    Stream {
        /// The decoder, as browsers know it (RFC 6381).
        codec: String,
        /// The width of the pictures, in pixels.
        width: u16,
        /// Their height.
        height: u16,
        /// How many there should be in a second; 0 if that is not known.
        framerate: u16,
    },
    /// Each second.
    Status {
        /// Pictures that this viewer was sent.
        frames: u64,
        /// Pictures that were left out, as this viewer was too slow.
        dropped: u64,
        /// Pictures that the device did not send, as its own connection was too slow.
        device_dropped: u64,
        /// How often the device has started the camera anew.
        restarts: u64,
        /// How many pictures a second the camera gives, as its device tells it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_frames_per_second: Option<u64>,
        /// And how many bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_bits_per_second: Option<u64>,
        /// How long the device took to answer the last ping, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_round_trip_ms: Option<f64>,
    },
    /// The answer to a ping.
    Pong {
        /// The number in the ping.
        at: f64,
    },
    /// No more pictures come; then the connection is closed.
    End {
        /// A stable name: `camera-ended`, `camera-failed`, `denied`, `too-many-viewers`, `stopped`, `rights-ended`,
        /// `stopping`.
        code: String,
        /// The same for people.
        message: String,
    },
}

/// What a viewer may say there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ViewerMessage {
    /// Asks for an answer: so it is measured how long that takes.
    Ping {
        /// Comes back as it is.
        at: f64,
    },
}

/// Asks for a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingRequest {
    /// For how long at most, in seconds; as long as the configuration allows if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// What was recorded of a camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordingView {
    /// Its number: later recordings have greater ones.
    pub id: i64,
    /// The device.
    pub device: String,
    /// Its camera.
    pub camera: String,
    /// The name of its file.
    pub file: String,
    /// `recording`, `done`, or `failed`: it has ended otherwise than wanted, and what there is can be played.
    pub state: String,
    /// Who had it made.
    pub who: String,
    /// From where, if not from the server's machine: for admins, and for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When it began.
    pub started: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The width of its pictures, in pixels.
    pub width: u16,
    /// Their height.
    pub height: u16,
    /// How long it is, in seconds.
    pub seconds: f64,
    /// How many pictures it has.
    pub frames: u64,
    /// How many bytes its file has.
    pub bytes: u64,
}
