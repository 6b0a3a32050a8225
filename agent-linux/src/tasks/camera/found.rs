//! What this device has of cameras, and of programs for them.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::tasks::{process::own_program, program::EXEC_PROGRAM};

/// Where the kernel names its video devices.
const VIDEO_DEVICES: &str = "/sys/class/video4linux";

/// How long a program may take to say what it can.
const ANSWER: Duration = Duration::from_secs(5);

/// The most that is read of what a program says, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Where this device's cameras and programs are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    video_devices: PathBuf,
    path: OsString,
}

/// A video device, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VideoDevice {
    /// `/dev/video0`
    pub(crate) path: String,
    /// The name of what is behind it.
    pub(crate) name: String,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn new() -> Self {
        Self { video_devices: VIDEO_DEVICES.into(), path: env::var_os("PATH").unwrap_or_default() }
    }

    #[cfg(test)]
    pub(super) fn at(video_devices: &Path, path: &Path) -> Self {
        Self { video_devices: video_devices.into(), path: path.into() }
    }

    /// The first of these programs that is installed.
    pub(crate) fn program(&self, names: &[&'static str]) -> Option<&'static str> {
        let is_there = |name: &str| env::split_paths(&self.path).any(|folder| is_program(&folder.join(name)));
        names.iter().copied().find(|name| is_there(name))
    }

    /// The video devices, by their numbers. Not all of them are cameras.
    pub(crate) fn video_devices(&self) -> Vec<VideoDevice> {
        let entries = fs::read_dir(&self.video_devices).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let file = entry.file_name().into_string().ok().filter(|name| name.starts_with("video"))?;
                let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
                Some(VideoDevice { path: format!("/dev/{file}"), name: name.trim_end().to_owned() })
            })
            .collect();
        found.sort_by_key(|device| (device.path.len(), device.path.clone()));
        found
    }

    /// A Raspberry Pi 5, which has no encoder of its own.
    pub(crate) fn is_pi_5(&self) -> bool {
        self.video_devices().iter().any(|device| device.name.starts_with("pispbe"))
    }

    /// The encoder of a Raspberry Pi up to the 4.
    pub(crate) fn has_pi_encoder(&self) -> bool {
        self.video_devices().iter().any(|device| device.name.starts_with("bcm2835-codec-encode"))
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// What a program says of itself, on both of its outputs. It does not outlive this process.
pub(crate) async fn ask(command: &[&str]) -> String {
    let started = own_program(EXEC_PROGRAM)
        .arg(std::process::id().to_string())
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut program) = started else { return String::new() };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let hear = async {
        if let (Some(output), Some(errors)) = (program.stdout.take(), program.stderr.take()) {
            let mut output = output.take(LONGEST_ANSWER);
            let mut errors = errors.take(LONGEST_ANSWER);
            let _ = tokio::join!(output.read_to_end(&mut said), errors.read_to_end(&mut complained));
        }
        let _ = program.wait().await;
    };
    let _ = timeout(ANSWER, hear).await;
    said.append(&mut complained);
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Surroundings with these video devices and programs.
    pub(crate) fn with(devices: &[(&str, &str)], programs: &[&str]) -> (tempfile::TempDir, Surroundings) {
        let folder = tempfile::tempdir().unwrap();
        let (video, path) = (folder.path().join("video4linux"), folder.path().join("bin"));
        for (device, name) in devices {
            fs::create_dir_all(video.join(device)).unwrap();
            fs::write(video.join(device).join("name"), format!("{name}\n")).unwrap();
        }
        fs::create_dir_all(&path).unwrap();
        for program in programs {
            fs::write(path.join(program), "#!/bin/sh\n").unwrap();
            fs::set_permissions(path.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let surroundings = Surroundings::at(&video, &path);
        (folder, surroundings)
    }

    #[test]
    fn boards_are_known_by_their_video_devices() {
        let pi_5 = with(
            &[("video20", "pispbe-input"), ("video3", "rp1-cfe-csi2_ch0"), ("v4l-subdev0", "imx708")],
            &[],
        )
        .1;
        let pi_4 = with(&[("video0", "unicam-image"), ("video11", "bcm2835-codec-encode")], &[]);
        assert!(!pi_5.is_pi_5(), "its folder is gone");
        assert!(pi_4.1.has_pi_encoder() && !pi_4.1.is_pi_5());
        let pi_5 = with(
            &[("video20", "pispbe-input"), ("video3", "rp1-cfe-csi2_ch0"), ("v4l-subdev0", "imx708")],
            &[],
        );
        assert!(pi_5.1.is_pi_5() && !pi_5.1.has_pi_encoder());
        let paths: Vec<_> = pi_5.1.video_devices().into_iter().map(|device| device.path).collect();
        assert_eq!(paths, ["/dev/video3", "/dev/video20"]);
    }

    #[test]
    fn programs_are_found_where_they_can_be_run() {
        let (folder, surroundings) = with(&[], &["libcamera-vid"]);
        assert_eq!(surroundings.program(&["rpicam-vid", "libcamera-vid"]), Some("libcamera-vid"));
        fs::set_permissions(folder.path().join("bin/libcamera-vid"), fs::Permissions::from_mode(0o644))
            .unwrap();
        assert_eq!(surroundings.program(&["rpicam-vid", "libcamera-vid"]), None);
    }
}
