//! `[[cameras]]`: the cameras of this device, and `[tasks.video]`: who may look through them.

use std::{fmt, time::Duration};

use protocol_core::message::MAX_CAMERAS;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    AllowedRole, OutOfRange, range, seconds,
    tasks::{roles, words},
};

/// The longest name of a camera, in bytes.
const LONGEST_NAME: usize = 32;

/// The longest URL, or path of a device, in bytes.
const LONGEST_TEXT: usize = 512;

/// The most words of a command, and the most bytes of all of them.
const MOST_WORDS: usize = 64;
const LONGEST_COMMAND: usize = 2_048;

/// `[[cameras]]`, as it stands in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    name: String,
    kind: CameraKind,
    device: Option<String>,
    url: Option<Url>,
    #[serde(default, deserialize_with = "command")]
    command: Option<Vec<String>>,
    width: Option<u16>,
    height: Option<u16>,
    framerate: Option<u16>,
    bitrate: Option<u32>,
}

/// What a camera is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CameraKind {
    /// A Raspberry Pi's own camera.
    Rpicam,
    /// A camera on USB, or any other of Video4Linux.
    V4l2,
    /// A camera in the network.
    Rtsp,
    /// A program that writes H.264.
    Command,
    /// No camera: a test picture.
    Test,
}

impl CameraKind {
    /// Its name in the file, and to the server.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rpicam => "rpicam",
            Self::V4l2 => "v4l2",
            Self::Rtsp => "rtsp",
            Self::Command => "command",
            Self::Test => "test",
        }
    }
}

/// A camera of this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Camera {
    /// Its name: `[a-z0-9][a-z0-9-]{0,31}`.
    pub name: String,
    /// Where its pictures come from.
    pub source: Source,
}

/// Where a camera's pictures come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// `rpicam-vid`.
    Rpicam {
        /// The number that it has for the camera; none: its first one.
        number: Option<u8>,
        /// What is asked of it.
        picture: Picture,
    },
    /// `ffmpeg`, from a device of Video4Linux.
    V4l2 {
        /// The device.
        device: String,
        /// What is asked of it.
        picture: Picture,
    },
    /// `ffmpeg`, from a camera in the network.
    Rtsp {
        /// Where it is.
        url: Url,
    },
    /// A program that writes H.264 in the byte stream format on its standard output.
    Command {
        /// The program and its arguments. No shell looks at them.
        command: Vec<String>,
    },
    /// `ffmpeg`, which draws a test picture.
    Test {
        /// What is asked of it.
        picture: Picture,
    },
}

/// What is asked of a camera that leaves it to this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// Pictures a second.
    pub framerate: u16,
    /// Bits a second.
    pub bitrate: u32,
}

impl Camera {
    /// What it is.
    pub const fn kind(&self) -> CameraKind {
        match self.source {
            Source::Rpicam { .. } => CameraKind::Rpicam,
            Source::V4l2 { .. } => CameraKind::V4l2,
            Source::Rtsp { .. } => CameraKind::Rtsp,
            Source::Command { .. } => CameraKind::Command,
            Source::Test { .. } => CameraKind::Test,
        }
    }

    /// What is asked of it, if it does not decide by itself.
    pub const fn picture(&self) -> Option<Picture> {
        match self.source {
            Source::Rpicam { picture, .. } | Source::V4l2 { picture, .. } | Source::Test { picture } => {
                Some(picture)
            }
            Source::Rtsp { .. } | Source::Command { .. } => None,
        }
    }
}

/// The URL of a camera. It may hold a password: only [`Url::in_full`] gives that.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// All of it.
    pub fn in_full(&self) -> &str {
        &self.0
    }

    /// What of it is for nobody to see: user and password, and the path, which with some cameras holds them.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let login = authority.rsplit_once('@').map_or("", |(login, _)| login);
        let password = login.split_once(':').map_or("", |(_, password)| password);
        let path = if path.contains(['=', '?']) { path } else { "" };
        [self.0.as_str(), login, password, path].into_iter().filter(|secret| !secret.is_empty())
    }

    fn is_one(&self) -> bool {
        let rest = self.0.strip_prefix("rtsp://").or_else(|| self.0.strip_prefix("rtsps://"));
        // It is written to a file of ffmpeg's, between quotes.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\'' && byte != b'\\';
        let host = |rest: &str| {
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            !authority.rsplit('@').next().unwrap_or_default().is_empty()
        };
        self.0.len() <= LONGEST_TEXT && self.0.bytes().all(is_plain) && rest.is_some_and(host)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        write!(formatter, "{scheme}://{}/…", authority.rsplit('@').next().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// `[tasks.video]`: looking through this device's cameras.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VideoRules {
    /// Who may look; nobody if it is empty.
    #[serde(deserialize_with = "roles")]
    pub allow: Vec<AllowedRole>,
    /// How long a camera may give no picture, before it is started anew; twice as long for its first one.
    #[serde(rename = "silence_seconds", deserialize_with = "seconds")]
    pub silence: Duration,
    /// How often it is started anew, before the task has failed.
    pub restarts: u32,
    /// The cameras, which stand at the top of the file.
    #[serde(skip)]
    pub cameras: Vec<Camera>,
}

impl Default for VideoRules {
    fn default() -> Self {
        Self {
            allow: vec![AllowedRole::Viewer, AllowedRole::Operator, AllowedRole::Admin],
            silence: Duration::from_secs(5),
            restarts: 3,
            cameras: Vec::new(),
        }
    }
}

impl VideoRules {
    pub(super) fn check(&self) -> Result<(), OutOfRange> {
        let silence = self.silence.as_secs_f64();
        range("[tasks.video] silence_seconds", silence, &(0.1..=300.0), " seconds")?;
        range("[tasks.video] restarts", self.restarts, &(0..=1_000), "")
    }
}

/// The cameras that stand in the file.
pub(super) fn cameras(settings: &[CameraSettings]) -> Result<Vec<Camera>, OutOfRange> {
    range("the number of [[cameras]]", settings.len(), &(0..=MAX_CAMERAS), "")?;
    let mut cameras: Vec<Camera> = Vec::new();
    for settings in settings {
        let name = settings.name.clone();
        if !is_name(&name) {
            let expected = format!("1 to {LONGEST_NAME} of a-z, 0-9 and -, such as \"front-door\"");
            return Err(OutOfRange("[[cameras]] name", expected, format!("{name:?}")));
        }
        if cameras.iter().any(|other| other.name == name) {
            let expected = "another name for each camera".to_owned();
            return Err(OutOfRange("[[cameras]] name", expected, format!("{name:?} twice")));
        }
        cameras.push(Camera { name, source: settings.source()? });
    }
    Ok(cameras)
}

/// Reads a program and its arguments.
fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let expected =
        "command: expected a list of a program and its arguments, such as [\"my-camera\", \"--h264\"]";
    words(deserializer, expected).map(Some)
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(is_letter)
}

impl CameraSettings {
    fn source(&self) -> Result<Source, OutOfRange> {
        use CameraKind::{Command, Rpicam, Rtsp, Test, V4l2};
        self.only("device", self.device.is_some(), &[Rpicam, V4l2])?;
        self.only("url", self.url.is_some(), &[Rtsp])?;
        self.only("command", self.command.is_some(), &[Command])?;
        for (setting, is_there) in [
            ("width", self.width.is_some()),
            ("height", self.height.is_some()),
            ("framerate", self.framerate.is_some()),
            ("bitrate", self.bitrate.is_some()),
        ] {
            self.only(setting, is_there, &[Rpicam, V4l2, Test])?;
        }
        let picture = self.picture()?;
        Ok(match self.kind {
            Rpicam => Source::Rpicam { number: self.number()?, picture },
            V4l2 => Source::V4l2 { device: self.path()?, picture },
            Rtsp => Source::Rtsp { url: self.address()? },
            Command => Source::Command { command: self.words()? },
            Test => Source::Test { picture },
        })
    }

    /// A setting that stands where it means nothing was meant otherwise.
    fn only(&self, setting: &str, is_there: bool, kinds: &[CameraKind]) -> Result<(), OutOfRange> {
        if !is_there || kinds.contains(&self.kind) {
            return Ok(());
        }
        let expected = format!("no {setting} for a camera of the kind {}", self.kind.name());
        Err(OutOfRange("[[cameras]]", expected, format!("one for {:?}", self.name)))
    }

    fn picture(&self) -> Result<Picture, OutOfRange> {
        let picture = Picture {
            width: self.width.unwrap_or(1_280),
            height: self.height.unwrap_or(720),
            framerate: self.framerate.unwrap_or(30),
            bitrate: self.bitrate.unwrap_or(2_000_000),
        };
        for (setting, pixels) in
            [("[[cameras]] width", picture.width), ("[[cameras]] height", picture.height)]
        {
            range(setting, pixels, &(16..=4_096), " pixels")?;
            if pixels % 2 != 0 {
                return Err(OutOfRange(setting, "an even number of pixels".to_owned(), pixels.to_string()));
            }
        }
        range("[[cameras]] framerate", picture.framerate, &(1..=120), " pictures a second")?;
        range("[[cameras]] bitrate", picture.bitrate, &(10_000..=50_000_000), " bits a second")?;
        Ok(picture)
    }

    fn number(&self) -> Result<Option<u8>, OutOfRange> {
        let Some(device) = &self.device else { return Ok(None) };
        let expected = "the camera's number, such as \"0\" (rpicam-vid --list-cameras)".to_owned();
        let wrong = || OutOfRange("[[cameras]] device", expected, format!("{device:?}"));
        device.parse().map(Some).map_err(|_| wrong())
    }

    fn path(&self) -> Result<String, OutOfRange> {
        let device = self.device.as_deref().unwrap_or("/dev/video0");
        let is_path = device.starts_with('/') && device.len() <= LONGEST_TEXT && !device.contains('\0');
        let expected = "a device's path, such as \"/dev/video0\"".to_owned();
        let wrong = || OutOfRange("[[cameras]] device", expected, format!("{device:?}"));
        is_path.then(|| device.to_owned()).ok_or_else(wrong)
    }

    fn address(&self) -> Result<Url, OutOfRange> {
        let expected =
            "rtsp://HOST/PATH, or with USER:PASSWORD@ before the host (' and \\ as %27 and %5C)".to_owned();
        let found = self.url.as_ref().map_or_else(|| "none".to_owned(), |_| "something else".to_owned());
        let url = self.url.clone().filter(Url::is_one);
        url.ok_or(OutOfRange("[[cameras]] url", expected, found))
    }

    fn words(&self) -> Result<Vec<String>, OutOfRange> {
        let command = self.command.clone().unwrap_or_default();
        if command.first().is_none_or(String::is_empty) || command.iter().any(|word| word.contains('\0')) {
            let expected = "a program and its arguments, such as [\"my-camera\", \"--h264\"]".to_owned();
            return Err(OutOfRange("[[cameras]] command", expected, format!("{command:?}")));
        }
        range("the words of [[cameras]] command", command.len(), &(1..=MOST_WORDS), "")?;
        let bytes = command.iter().map(String::len).sum();
        range("the length of [[cameras]] command", bytes, &(1..=LONGEST_COMMAND), " bytes")?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<VideoRules, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(Some(file.path())).map(|config| config.tasks.video).map_err(|error| error.to_string())
    }

    #[test]
    fn cameras_have_defaults() {
        assert_eq!(parse("").unwrap(), VideoRules::default());
        let rules = parse(
            "[[cameras]]\nname = 'front'\nkind = 'rpicam'\n[[cameras]]\nname = 'usb'\nkind = 'v4l2'\nwidth = 640\nheight = 480\n\
             [[cameras]]\nname = 'yard'\nkind = 'rtsp'\nurl = 'rtsp://a:b@192.0.2.1/1'\n[[cameras]]\nname = 'own'\nkind = 'command'\n\
             command = ['cat', 'a.h264']\n[[cameras]]\nname = 'bars'\nkind = 'test'\n[tasks.video]\nallow = ['admin']\nsilence_seconds = 2",
        )
        .unwrap();
        let picture = Picture { width: 1_280, height: 720, framerate: 30, bitrate: 2_000_000 };
        let kinds: Vec<_> = rules.cameras.iter().map(|camera| camera.kind().name()).collect();
        assert_eq!(kinds, ["rpicam", "v4l2", "rtsp", "command", "test"]);
        assert_eq!(rules.cameras[0].source, Source::Rpicam { number: None, picture });
        let small = Picture { width: 640, height: 480, ..picture };
        assert_eq!(rules.cameras[1].source, Source::V4l2 { device: "/dev/video0".into(), picture: small });
        assert_eq!((rules.cameras[2].picture(), rules.cameras[4].picture()), (None, Some(picture)));
        assert_eq!((rules.silence, rules.restarts), (Duration::from_secs(2), 3));
    }

    #[test]
    fn mistakes_are_named() {
        let camera = |rest: &str| format!("[[cameras]]\nname = 'a'\nkind = {rest}\n");
        for (text, words) in [
            ("[cameras]\nname = 'a'\nkind = 'test'".to_owned(), "expected [[cameras]] in two brackets each"),
            ("[[cameras]]\nkind = 'test'".to_owned(), "missing field `name`"),
            (camera("'usb'"), "expected one of `rpicam`, `v4l2`, `rtsp`, `command`, `test`"),
            (camera("'test'") + &camera("'test'"), "[[cameras]] name: expected another name for each camera"),
            (
                "[[cameras]]\nname = 'A b'\nkind = 'test'".to_owned(),
                "[[cameras]] name: expected 1 to 32 of a-z",
            ),
            (
                camera("'test'\nwidth = 641"),
                "[[cameras]] width: expected an even number of pixels, found 641",
            ),
            (camera("'test'\nheight = 8000"), "[[cameras]] height: expected 16 to 4096 pixels"),
            (camera("'test'\nframerate = 0"), "[[cameras]] framerate: expected 1 to 120"),
            (camera("'test'\nbitrate = 1"), "[[cameras]] bitrate: expected 10000 to"),
            (
                camera("'test'\nurl = 'rtsp://a/'"),
                "expected no url for a camera of the kind test, found one for \"a\"",
            ),
            (camera("'rtsp'"), "[[cameras]] url: expected rtsp://HOST/PATH"),
            (camera("'rtsp'\nurl = 'rtsp://a/'\nwidth = 640"), "no width for a camera of the kind rtsp"),
            (camera("'rpicam'\ndevice = '/dev/video0'"), "expected the camera's number"),
            (camera("'v4l2'\ndevice = 'video0'"), "expected a device's path"),
            (camera("'command'\ncommand = 'my-camera'"), "command: expected a list of a program"),
            (camera("'command'"), "[[cameras]] command: expected a program and its arguments"),
            ("[tasks.video]\nsilence_seconds = 0".to_owned(), "silence_seconds: expected 0.1 to 300 seconds"),
            (
                (0..17).map(|at| format!("[[cameras]]\nname='{at}'\nkind='test'\n")).collect(),
                "the number of [[cameras]]",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = |text: &str| Url(text.to_owned());
        for bad in [
            "",
            "http://a/",
            "rtsp://",
            "rtsp:///a",
            "rtsp://u:p@/a",
            "rtsp://a/'b",
            "rtsp://a/\\b",
            "rtsp://a/ b",
        ] {
            assert!(!url(bad).is_one(), "{bad}");
            let error =
                parse(&format!("[[cameras]]\nname='a'\nkind='rtsp'\nurl=\"{}\"", bad.replace('\\', "\\\\")))
                    .unwrap_err();
            assert!(!error.contains("u:p"), "{error}");
        }
        let one = url("rtsp://admin:top:se@cret@192.0.2.1:554/live/1");
        assert!(one.is_one());
        assert_eq!(
            (one.to_string().as_str(), format!("{one:?}").as_str()),
            ("rtsp://192.0.2.1:554/…", "rtsp://192.0.2.1:554/…")
        );
        assert_eq!(one.secrets().collect::<Vec<_>>(), [one.in_full(), "admin:top:se@cret", "top:se@cret"]);
        let other = url("rtsps://cam/user=admin&password=x");
        assert!(other.is_one());
        assert_eq!(other.secrets().collect::<Vec<_>>(), [other.in_full(), "user=admin&password=x"]);
    }
}
