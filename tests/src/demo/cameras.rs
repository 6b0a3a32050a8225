//! The demo's cameras: pictures that ffmpeg draws, where it is installed.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
};

use super::{DEVICES, parts::Server, screen::dim, shown};
use crate::wait::{self, LONGEST_WAIT};

/// The name of each device's camera.
const CAMERA: &str = "view";

/// So many pictures are waited for where it is checked that they come.
const ENOUGH: usize = 10;

/// Whether there is what draws the pictures.
pub(super) fn are_possible() -> bool {
    let mut ffmpeg = Command::new("ffmpeg");
    let ffmpeg = ffmpeg.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ffmpeg.status().is_ok_and(|status| status.success())
}

/// What stands of it in a device's `agent.toml`.
pub(super) fn configuration() -> String {
    match are_possible() {
        true => format!(
            "\n[[cameras]]\nname = \"{CAMERA}\"\nkind = \"test\"\nwidth = 640\nheight = 360\nframerate = 15\nbitrate = 600000\n"
        ),
        false => String::new(),
    }
}

/// What may be tried.
pub(super) fn invite(holdfast: &str) -> io::Result<()> {
    let [device, ..] = DEVICES;
    let what = dim("# what its camera shows, into a file; --play shows it by mpv or ffplay");
    writeln!(io::stdout(), "  {holdfast} video {device} -o {device}.mp4 --for 10s   {what}")
}

/// Checks that a device's camera is seen.
pub(super) fn check(server: &Server, directory: &Path, device: &str) -> io::Result<()> {
    let failed = |what: String| io::Error::other(format!("expected pictures of {device}'s camera, {what}"));
    let is_told =
        || server.tell(&["cameras", device, "--json"]).is_ok_and(|told| told.contains(CAMERA)).then_some(());
    wait::find(LONGEST_WAIT, is_told).ok_or_else(|| failed("and it tells of none".to_owned()))?;
    let (file, log) =
        (directory.join(format!("{device}.mp4")), directory.join(format!("{device}-video.log")));
    let looking = server.begin(&["video", device, "-o", &shown(&file)], &log)?;
    let come = wait::find(LONGEST_WAIT, || {
        let bytes = fs::read(&file).unwrap_or_default();
        // Each picture is a fragment.
        (bytes.windows(4).filter(|name| name == b"moof").count() > ENOUGH).then_some(())
    });
    come.ok_or_else(|| failed(format!("found none; it was said: {}", looking.printed())))?;
    drop(looking);
    let decode =
        ["-loglevel", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"];
    let decoded = Command::new("ffprobe").args(decode).arg(&file).output()?;
    let count = String::from_utf8_lossy(&decoded.stdout).trim().parse().unwrap_or(0);
    match count >= ENOUGH {
        true => Ok(()),
        false => Err(failed(format!("could decode {count}: {}", String::from_utf8_lossy(&decoded.stderr)))),
    }
}
