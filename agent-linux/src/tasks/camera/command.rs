//! The command line of each kind of camera.

use std::{io, path::Path};

use protocol_core::escape::OneLine;

use super::{Surroundings, found::ask};
use crate::{
    config::{Camera, Picture, Source, Url},
    tasks::in_memory::InMemory,
};

/// The program of a Raspberry Pi's camera, by its name and its older one.
pub(crate) const RPICAM: [&str; 2] = ["rpicam-vid", "libcamera-vid"];

/// The program for all others.
const FFMPEG: &str = "ffmpeg";

/// What ffmpeg needs for a camera in the network, and nothing else.
const PROTOCOLS: &str = "file,rtsp,rtsps,rtp,tcp,udp,tls,crypto";

/// A camera's program and its arguments.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) words: Vec<String>,
    /// What must not stand on it: others can read command lines.
    hidden: Option<Hidden>,
}

#[derive(Debug)]
struct Hidden {
    /// The program reads it by its name, as long as it runs.
    file: InMemory,
    url: Url,
}

/// Why a camera can't be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCommand {
    #[error("rpicam-vid is not installed; install it: sudo apt install rpicam-apps-lite")]
    NoRpicam,
    #[error("ffmpeg is not installed; install it: sudo apt install ffmpeg")]
    NoFfmpeg,
    #[error("{device}: there is no such device; holdfast-agent cameras lists what there is")]
    NoDevice { device: String },
    #[error("ffmpeg can't be told where the camera is: {0}")]
    Hidden(#[from] io::Error),
}

impl CommandLine {
    /// The command line for a camera, as this device has it now.
    ///
    /// # Errors
    /// [`NoCommand`].
    pub(crate) async fn of(camera: &Camera, surroundings: &Surroundings) -> Result<Self, NoCommand> {
        let ffmpeg = || surroundings.program(&[FFMPEG]).ok_or(NoCommand::NoFfmpeg);
        let words = match &camera.source {
            Source::Rpicam { number, picture } => {
                let program = surroundings.program(&RPICAM).ok_or(NoCommand::NoRpicam)?;
                let is_pi_5 = surroundings.is_pi_5();
                // Only there it makes a difference what it knows, and to ask takes time.
                let help = if is_pi_5 { ask(&[program, "--help"]).await } else { String::new() };
                rpicam(program, *number, *picture, is_pi_5, &help)
            }
            Source::V4l2 { device, picture } => {
                ffmpeg()?;
                if !Path::new(device).exists() {
                    return Err(NoCommand::NoDevice { device: device.clone() });
                }
                let formats =
                    ask(&[FFMPEG, "-hide_banner", "-f", "v4l2", "-list_formats", "all", "-i", device]).await;
                v4l2(device, *picture, Format::best(&formats), surroundings.has_pi_encoder())
            }
            Source::Rtsp { url } => {
                ffmpeg()?;
                let file = InMemory::new("camera", list(url).as_bytes())?;
                let words = rtsp(&file.path());
                return Ok(Self { words, hidden: Some(Hidden { file, url: url.clone() }) });
            }
            Source::Command { command } => command.clone(),
            Source::Test { picture } => {
                ffmpeg()?;
                test(*picture)
            }
        };
        Ok(Self { words, hidden: None })
    }

    /// It on one line, as people may see it.
    pub(crate) fn shown(&self) -> String {
        let path = self.hidden.as_ref().map(|hidden| hidden.file.path());
        let show = |word: &String| match &self.hidden {
            Some(hidden) if Some(word) == path.as_ref() => hidden.url.to_string(),
            _ if word.is_empty() || word.contains([' ', '\'', '"', '$', '\\']) => format!("{word:?}"),
            _ => OneLine(word).to_string(),
        };
        self.words.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// What nobody is to read in what the program says.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let url = self.hidden.as_ref().map(|hidden| &hidden.url);
        url.into_iter().flat_map(Url::secrets).map(str::to_owned).collect()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn rpicam(program: &str, number: Option<u8>, picture: Picture, is_pi_5: bool, help: &str) -> Vec<String> {
    let Picture { width, height, framerate, bitrate } = picture;
    let mut line = words(&format!(
        "{program} -n -t 0 --codec h264 --inline --flush --profile baseline -g {framerate} \
         --width {width} --height {height} --framerate {framerate} -b {bitrate}"
    ));
    if let Some(number) = number {
        line.extend(["--camera".to_owned(), number.to_string()]);
    }
    if is_pi_5 {
        // It encodes by libav. Not all versions know both.
        for (option, value) in [("--low-latency", None), ("--libav-format", Some("h264"))] {
            if help.contains(option) {
                line.extend([Some(option), value].into_iter().flatten().map(str::to_owned));
            }
        }
    }
    line.extend(words("-o -"));
    line
}

/// What a camera of Video4Linux gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    H264,
    Mjpeg,
    /// Anything that is not compressed: ffmpeg chooses.
    Raw,
}

impl Format {
    /// The best of those that ffmpeg has listed: `[…] Compressed:       mjpeg :          Motion-JPEG : 1280x720 …`
    fn best(listed: &str) -> Self {
        let has = |format: &str| {
            let mut lines = listed.lines().filter_map(|line| line.split_once("Compressed:"));
            lines.any(|(_, line)| line.split(':').next().is_some_and(|name| name.trim() == format))
        };
        match () {
            () if has("h264") => Self::H264,
            () if has("mjpeg") => Self::Mjpeg,
            () => Self::Raw,
        }
    }
}

/// How all of ffmpeg's lines begin and end.
const QUIET: &str = "ffmpeg -hide_banner -loglevel warning -nostats -nostdin";
const OUTPUT: &str = "-an -f h264 -flush_packets 1 -";

/// Has a processor encode, with nothing kept back.
fn encoder(Picture { framerate, bitrate, .. }: Picture) -> String {
    format!(
        "-pix_fmt yuv420p -c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline \
         -g {framerate} -b:v {bitrate} -maxrate {bitrate} -bufsize {bitrate}"
    )
}

fn v4l2(device: &str, picture: Picture, format: Format, has_pi_encoder: bool) -> Vec<String> {
    let Picture { width, height, framerate, bitrate } = picture;
    let (input, output) = match format {
        Format::H264 => ("-input_format h264", "-c:v copy".to_owned()),
        _ => {
            let output = match has_pi_encoder {
                true => format!("-c:v h264_v4l2m2m -b:v {bitrate} -g {framerate} -pix_fmt yuv420p"),
                false => encoder(picture),
            };
            (if format == Format::Mjpeg { "-input_format mjpeg" } else { "" }, output)
        }
    };
    let mut line = words(&format!(
        "{QUIET} -fflags nobuffer -f v4l2 {input} -framerate {framerate} -video_size {width}x{height} -i"
    ));
    line.push(device.to_owned());
    line.extend(words(&format!("{output} {OUTPUT}")));
    line
}

/// A list of one camera, as ffmpeg reads it from a file: in it stands what must not stand on a command line.
fn list(url: &Url) -> String {
    let url = url.in_full();
    let options = [("rtsp_transport", "tcp"), ("analyzeduration", "100000"), ("fflags", "nobuffer")];
    let options: String = options.iter().map(|(name, value)| format!("option {name} {value}\n")).collect();
    format!("ffconcat version 1.0\nfile '{url}'\n{options}")
}

fn rtsp(list: &str) -> Vec<String> {
    // Some cameras tell their parameter sets once, before the first picture.
    words(&format!(
        "{QUIET} -fflags nobuffer -analyzeduration 100000 -f concat -safe 0 -protocol_whitelist {PROTOCOLS} \
         -i {list} -c:v copy -bsf:v dump_extra=freq=keyframe {OUTPUT}"
    ))
}

fn test(picture: Picture) -> Vec<String> {
    let Picture { width, height, framerate, .. } = picture;
    let encoder = encoder(picture);
    words(&format!(
        "{QUIET} -re -f lavfi -i testsrc2=size={width}x{height}:rate={framerate} {encoder} -threads 1 {OUTPUT}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Picture = Picture { width: 640, height: 480, framerate: 15, bitrate: 1_000_000 };

    #[test]
    fn a_pi_up_to_the_4_encodes_by_itself() {
        assert_eq!(
            rpicam("rpicam-vid", None, PICTURE, false, "--low-latency --libav-format").join(" "),
            "rpicam-vid -n -t 0 --codec h264 --inline --flush --profile baseline -g 15 --width 640 --height 480 \
             --framerate 15 -b 1000000 -o -"
        );
        let line = rpicam("libcamera-vid", Some(1), PICTURE, false, "").join(" ");
        assert!(line.starts_with("libcamera-vid ") && line.ends_with("--camera 1 -o -"), "{line}");
    }

    #[test]
    fn a_pi_5_is_asked_for_what_its_program_knows() {
        let end = |help| {
            let line = rpicam("rpicam-vid", None, PICTURE, true, help).join(" ");
            line.split_once("-b 1000000 ").unwrap().1.to_owned()
        };
        assert_eq!(
            end("  --low-latency [=arg(=1)]\n  --libav-format arg\n"),
            "--low-latency --libav-format h264 -o -"
        );
        assert_eq!(end("  --libav-format arg\n"), "--libav-format h264 -o -");
        assert_eq!(end(""), "-o -");
    }

    #[test]
    fn a_usb_camera_gives_the_best_that_it_has() {
        let listed = |lines: &[&str]| {
            lines.iter().map(|line| format!("[video4linux2,v4l2 @ 0x55] {line}\n")).collect::<String>()
        };
        let raw = "Raw       :     yuyv422 :           YUYV 4:2:2 : 640x480 1280x720";
        let mjpeg = "Compressed:       mjpeg :          Motion-JPEG : 640x480 1280x720";
        let h264 = "Compressed:        h264 :                H.264 : 640x480 1280x720";
        for (lines, best) in [
            (&[raw, mjpeg, h264][..], Format::H264),
            (&[raw, mjpeg], Format::Mjpeg),
            (&[raw], Format::Raw),
            (&["/dev/video0: No such file or directory"], Format::Raw),
        ] {
            assert_eq!(Format::best(&listed(lines)), best);
        }
        let line = |format, has_pi_encoder| v4l2("/dev/my camera", PICTURE, format, has_pi_encoder).join("|");
        assert!(line(Format::H264, true).contains(
            "|-f|v4l2|-input_format|h264|-framerate|15|-video_size|640x480|-i|/dev/my camera|-c:v|copy|-an|-f|h264|"
        ));
        assert!(line(Format::Mjpeg, true).contains("|-input_format|mjpeg|"));
        assert!(
            line(Format::Mjpeg, true).contains("|-c:v|h264_v4l2m2m|-b:v|1000000|-g|15|-pix_fmt|yuv420p|")
        );
        let raw = line(Format::Raw, false);
        assert!(raw.contains("|-c:v|libx264|-preset|ultrafast|") && !raw.contains("input_format"), "{raw}");
    }

    #[test]
    fn a_password_stands_on_no_command_line() {
        let url: Url = serde_json::from_str("\"rtsp://admin:secret@192.0.2.1/live\"").unwrap();
        let list = list(&url);
        assert!(
            list.contains("file 'rtsp://admin:secret@192.0.2.1/live'\noption rtsp_transport tcp\n"),
            "{list}"
        );
        let file = InMemory::new("camera", list.as_bytes()).unwrap();
        let (words, path) = (rtsp(&file.path()), file.path());
        assert!(words.contains(&path));
        let line = CommandLine { words, hidden: Some(Hidden { file, url }) };
        assert!(line.shown().contains(" -i rtsp://192.0.2.1/… -c:v copy "), "{}", line.shown());
        assert!(!line.words.join(" ").contains("secret") && !line.shown().contains(&path));
        assert!(line.secrets().contains(&"secret".to_owned()));
    }
}
