//! What of live video is measured, and what is aimed at.

use crate::compare::{Aim, Quantity, Sheet};

/// A part of the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) sheet: Sheet,
    pub(super) measure: Measure,
    /// Ours first.
    pub(super) ways: &'static [Way],
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    /// What the relay costs the server.
    Relay,
    /// How old pictures are when they are seen in a browser.
    Latency,
}

/// A way from a camera to whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Ours: each picture by itself, by a WebSocket.
    Units,
    /// Ours: MP4 that does not end.
    Mp4,
    /// Ours in the console, by WebCodecs.
    Codecs,
    /// Ours in the console, by Media Source Extensions.
    Mse,
    /// ffmpeg's fragmented MP4, relayed in the plainest way; in the browser by Media Source Extensions.
    Plain,
    /// No relay and no browser: what encoding alone takes.
    Encoder,
}

impl Way {
    /// Its name in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Units => "holdfast, WebSocket",
            Self::Mp4 => "holdfast, live.mp4",
            Self::Codecs => "holdfast, WebCodecs",
            Self::Mse => "holdfast, MSE",
            Self::Plain => "ffmpeg's fMP4, plain relay",
            Self::Encoder => "the encoder alone",
        }
    }
}

const COST: &[Quantity] = &[
    Quantity("cpu-1", "1 viewer, the server's CPU, % of a core", 2),
    Quantity("cpu-10", "10 viewers", 2),
    Quantity("cpu-50", "50 viewers", 2),
    Quantity("cpu-200", "200 viewers", 2),
    Quantity("memory", "the server's memory for each viewer, KB", 1),
    Quantity("rate", "sent to each viewer, Mbit/s", 2),
];

const CHEAP: &[Aim] = &[Aim::AtMost("cpu-50", 6.0)];

const AGES: &[Quantity] = &[
    Quantity("median", "from drawn to seen, median, ms", 1),
    Quantity("most", "nine of ten below, ms", 1),
    Quantity("first", "the first picture, camera on, median, ms", 1),
    Quantity("rate", "pictures seen each second", 1),
];

/// Everything of live video that is measured.
pub(crate) const ROWS: &[Row] = &[
    Row {
        sheet: Sheet {
            name: "video-units",
            title: "a camera of 1 Mbit/s relayed over TLS by WebSockets",
            quantities: COST,
            aims: CHEAP,
        },
        measure: Measure::Relay,
        ways: &[Way::Units, Way::Plain],
    },
    Row {
        sheet: Sheet { name: "video-mp4", title: "the same as MP4", quantities: COST, aims: CHEAP },
        measure: Measure::Relay,
        ways: &[Way::Mp4, Way::Plain],
    },
    Row {
        sheet: Sheet {
            name: "video-codecs",
            title: "a picture's way into Chromium, over TLS, shown by WebCodecs",
            quantities: AGES,
            aims: &[Aim::AtMost("median", 40.0), Aim::AtMost("first", 100.0)],
        },
        measure: Measure::Latency,
        ways: &[Way::Codecs, Way::Plain, Way::Encoder],
    },
    Row {
        sheet: Sheet {
            name: "video-mse",
            title: "the same, shown by Media Source Extensions",
            quantities: AGES,
            aims: &[Aim::AtMost("median", 70.0), Aim::AtMost("first", 100.0)],
        },
        measure: Measure::Latency,
        ways: &[Way::Mse, Way::Plain, Way::Encoder],
    },
];
