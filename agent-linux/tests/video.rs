//! Cameras: what comes of them on the data connection, and that nothing is left of them.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use protocol_core::{
    code::TaskState,
    h264::{nal_type, nal_units, type_of},
    message::{Unit, VideoStatus},
};
use rustix::process::Signal;
use support::{
    Device, LONGEST_WAIT, Peer, TestServer,
    tasks::{Data, Process, order, until_gone},
    until,
    video::{Shown, show},
};

const KEYFRAME: u8 = Unit::KEYFRAME;
const AFTER_GAP: u8 = Unit::KEYFRAME | Unit::GAP;

/// A test picture, small and slow enough for a busy machine.
const BARS: &str = "[[cameras]]\nname = 'bars'\nkind = 'test'\nwidth = 160\nheight = 120\nframerate = 10\nbitrate = 200000\n";

/// A device whose agent runs with these cameras, connected.
fn connected(configure: impl FnOnce(&Device) -> String) -> (TestServer, Device, Peer) {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure(&configure(&device));
    device.run();
    let (mut peer, kinds) = server.open_by(3);
    assert!(kinds.contains(&"video".to_owned()), "{kinds:?}");
    peer.cameras();
    (server, device, peer)
}

/// Has a camera shown.
fn shown(camera: &str, server: &TestServer, peer: &mut Peer) -> Data {
    peer.notice(&show(7, camera));
    let (mut data, task) = server.accept_data();
    assert_eq!(task, 7);
    data.joined();
    peer.reported(7, TaskState::Running);
    data
}

/// A NAL unit with its start code.
fn nal(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1, 0x60 | kind], payload].concat()
}

/// A picture that decoding can begin with, as far as anybody looks who does not decode.
fn keyframe() -> Vec<u8> {
    [nal(nal_type::SPS, &[66, 1]), nal(nal_type::PPS, &[2, 1]), nal(nal_type::IDR, &[0x88; 100])].concat()
}

/// A camera that is a script of the shell: it finds a keyframe in `$KEYFRAME`.
fn by_script(device: &Device, script: &str) -> String {
    let picture = device.file("keyframe.h264", &keyframe());
    let script = device.install("my-camera", &format!("KEYFRAME={}\n{script}", picture.display()));
    format!("[[cameras]]\nname = 'own'\nkind = 'command'\ncommand = ['{}', '--now']\n", script.display())
}

/// One that gives ten pictures a second.
const STEADY: &str = "while cat $KEYFRAME; do sleep 0.1; done";

fn kinds(bytes: &[u8]) -> Vec<u8> {
    nal_units(bytes).map(|unit| type_of(unit[0])).collect()
}

fn is_camera(process: &Process) -> bool {
    process.command.contains("ffmpeg ") || process.command.contains("my-camera --now")
}

/// The camera's own process: not its guard, nor what becomes it.
fn camera(device: &Device) -> Process {
    let is_own = |process: &Process| is_camera(process) && !process.command.starts_with("holdfast-agent");
    until("the camera", || device.descendants().iter().any(is_own));
    device.descendants().into_iter().find(is_own).unwrap()
}

#[test]
fn cameras_are_told_to_who_understands_and_may_look() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure(&format!(
        "{BARS}[[cameras]]\nname = 'yard'\nkind = 'rtsp'\nurl = 'rtsp://u:p@192.0.2.1/'\n"
    ));
    device.run();
    let (mut peer, kinds) = server.open_by(3);
    assert_eq!(kinds, ["ssh", "reboot", "video"]);
    let told =
        |name: &str, kind: &str, size: (u16, u16, u16)| (name.into(), kind.into(), size.0, size.1, size.2);
    assert_eq!(peer.cameras(), [told("bars", "test", (160, 120, 10)), told("yard", "rtsp", (0, 0, 0))]);
    peer.notice(&show(1, "attic"));
    let report = peer.report();
    assert_eq!(report.state, TaskState::Refused);
    assert_eq!(report.detail, "this device has no camera \"attic\" in its agent.toml, but bars, yard");
    peer.notice(&order(2, "video"));
    assert!(peer.report().detail.contains("parameters of video"));
    drop(peer);
    let (mut peer, _) = server.open_by(2);
    peer.no_cameras();
    device.terminate();

    device.configure(&format!("{BARS}[tasks.video]\nallow = []\n"));
    device.run();
    let (mut peer, kinds) = server.open_by(3);
    assert_eq!(kinds, ["ssh", "reboot"]);
    peer.no_cameras();
    peer.notice(&show(3, "bars"));
    assert!(peer.report().detail.contains("[tasks.video] allow = []"));
    device.terminate();

    device.configure("");
    device.run();
    let (mut peer, kinds) = server.open_by(3);
    assert_eq!(kinds, ["ssh", "reboot"]);
    peer.notice(&show(4, "bars"));
    assert!(peer.report().detail.contains("no [[cameras]] in its agent.toml"));
}

#[test]
fn a_test_picture_comes_as_units_with_keyframes_and_a_status_each_second() {
    let (server, device, mut peer) = connected(|_| BARS.to_owned());
    let mut data = shown("bars", &server, &mut peer);
    let units = data.units(25);
    let mut last_keyframe = 0;
    for (at, (flags, microseconds, bytes)) in units.iter().enumerate() {
        let kinds: Vec<_> = kinds(bytes).into_iter().filter(|kind| *kind != nal_type::SEI).collect();
        match *flags {
            KEYFRAME => assert_eq!(at % 10, last_keyframe % 10, "unit {at}"),
            // On a machine that stands still for a while something is left out.
            AFTER_GAP => {}
            _ => assert!(at - last_keyframe < 10, "unit {at}"),
        }
        match *flags {
            0 => assert_eq!(kinds, [1], "unit {at}"),
            _ => {
                assert_eq!(kinds, [7, 8, 5], "unit {at}");
                last_keyframe = at;
            }
        }
        assert!(at == 0 || *microseconds >= units[at - 1].1);
    }
    assert_eq!(units[0].0, KEYFRAME);
    let is_told = |shown: &Shown| matches!(shown, Shown::Status(status) if status.frames > 0);
    let all = data.shown_until(is_told);
    let Some(Shown::Status(status)) = all.last() else { panic!("no status") };
    assert!(status.bytes > 100 && status.restarts == 0, "{status:?}");
    assert!(device.must(&["status"]).contains("video for ada: running since"));
    let processes = device.descendants();
    assert!(processes.iter().any(is_camera));
    peer.stop(7);
    assert_eq!(peer.reported(7, TaskState::Done).detail, "stopped: as the test wants");
    until_gone(&processes);
}

#[test]
fn a_picture_does_not_wait_for_the_next_one() {
    // One picture, and then nothing.
    let (server, _device, mut peer) = connected(|device| by_script(device, "cat $KEYFRAME; exec sleep 1000"));
    let mut data = shown("own", &server, &mut peer);
    assert_eq!(data.units(1)[0].2, keyframe());
}

#[test]
fn it_ends_when_nobody_looks_any_longer() {
    let (server, device, mut peer) = connected(|device| by_script(device, STEADY));
    let mut data = shown("own", &server, &mut peer);
    data.units(3);
    let processes = device.descendants();
    data.finish();
    assert_eq!(peer.reported(7, TaskState::Done).detail, "nobody looks any longer");
    until_gone(&processes);
}

#[test]
fn a_pis_camera_is_run_with_its_arguments() {
    let arguments = "-n -t 0 --codec h264 --inline --flush --profile baseline -g 15 --width 640 --height 480 --framerate 15 \
                     -b 500000 --camera 1 -o -";
    let (server, device, mut peer) = connected(|device| {
        let picture = device.file("keyframe.h264", &keyframe());
        let script = format!(
            "case \"$*\" in\n--help) echo '--low-latency --libav-format';;\n--list-cameras) echo '0 : imx708 [4608x2592]';;\n\
             '{arguments}') while cat {}; do sleep 0.1; done;;\n*) echo \"wrong: $*\" >&2; exit 3;;\nesac",
            picture.display()
        );
        device.install("rpicam-vid", &script);
        "[[cameras]]\nname = 'front'\nkind = 'rpicam'\ndevice = '1'\nwidth = 640\nheight = 480\nframerate = 15\nbitrate = 500000\n\
         [tasks.video]\nrestarts = 0\n"
            .to_owned()
    });
    let mut data = shown("front", &server, &mut peer);
    assert_eq!(data.units(3)[2].2, keyframe());
    let shown = device.must(&["cameras"]);
    assert!(shown.contains("front (rpicam, 640x480, 15 pictures and 500000 bits a second)\n"), "{shown}");
    assert!(shown.contains(&format!("    rpicam-vid {arguments}\n")), "{shown}");
    assert!(shown.contains("    0 : imx708 [4608x2592]\n"), "{shown}");
    // Its older name.
    fs::rename(device.programs().join("rpicam-vid"), device.programs().join("libcamera-vid")).unwrap();
    assert!(device.must(&["cameras"]).contains("    libcamera-vid -n -t 0 "));
    fs::remove_file(device.programs().join("libcamera-vid")).unwrap();
    let list: serde_json::Value = serde_json::from_str(&device.must(&["cameras", "--json"])).unwrap();
    assert!(
        list["cameras"][0]["problem"].as_str().unwrap().contains("sudo apt install rpicam-apps-lite"),
        "{list}"
    );
}

#[test]
fn nothing_is_left_whoever_is_killed() {
    let (server, mut device, mut peer) = connected(|_| BARS.to_owned());
    let mut data = shown("bars", &server, &mut peer);
    data.units(1);

    // The camera: it is started anew, and the picture comes back by itself.
    let killed = camera(&device);
    killed.signal(Signal::KILL);
    let is_told =
        |shown: &Shown| matches!(shown, Shown::Status(VideoStatus { restarts, .. }) if *restarts == 1);
    let before = data.shown_until(is_told);
    // The server may be told of it before the first picture comes, or behind it.
    if !before.iter().any(|shown| shown.flags() == Some(AFTER_GAP)) {
        data.shown_until(|shown| shown.flags() == Some(AFTER_GAP));
    }
    until_gone(&[killed]);

    // The task.
    let processes = device.descendants();
    device.task_process().signal(Signal::KILL);
    assert_eq!(peer.reported(7, TaskState::Failed).detail, "its process ended without a word: SIGKILL");
    until_gone(&processes);

    // The task, and whoever watches the camera, at once.
    peer.notice(&show(8, "bars"));
    let (mut data, _) = server.accept_data();
    data.joined();
    data.units(1);
    let processes = device.descendants();
    assert!(processes.iter().any(is_camera));
    let watchers = processes.iter().filter(|process| process.command.starts_with("holdfast-agent"));
    watchers.clone().for_each(|process| process.stop());
    watchers.for_each(|process| process.signal(Signal::KILL));
    until_gone(&processes);

    // The agent.
    peer.reported(8, TaskState::Failed);
    peer.notice(&show(9, "bars"));
    let (mut data, _) = server.accept_data();
    data.joined();
    data.units(1);
    let processes = device.descendants();
    assert!(processes.iter().any(is_camera));
    device.kill();
    until_gone(&processes);
}

#[test]
fn a_camera_that_falls_silent_is_started_anew_and_then_reported() {
    let (server, device, mut peer) = connected(|device| {
        // Both pictures come at once: how fast a machine is has nothing to do with what follows.
        let two = device.file("two.h264", &[keyframe(), keyframe()].concat());
        let two = two.display();
        let script = format!("cat {two}; printf 'no more \\033[31mlight\\n' >&2; sleep 1000 & sleep 1000");
        by_script(device, &script) + "[tasks.video]\nsilence_seconds = 3.5\nrestarts = 1\n"
    });
    let mut data = shown("own", &server, &mut peer);
    let (mut flags, mut status) = (Vec::new(), VideoStatus::default());
    while let Some(shown) = data.shown() {
        match shown {
            Shown::Unit { flags: of_unit, .. } => flags.push(of_unit),
            Shown::Status(now) => {
                status.frames += now.frames;
                status.restarts += now.restarts;
            }
        }
    }
    assert_eq!(flags, [KEYFRAME, KEYFRAME, AFTER_GAP, KEYFRAME]);
    assert_eq!((status.frames, status.restarts), (4, 1));
    let report = peer.reported(7, TaskState::Failed);
    assert_eq!(
        report.detail,
        "the camera \"own\" gave no picture for 3.5 s (started anew 1 times); it said: no more \\u{1b}[31mlight"
    );
    let output = String::from_utf8(report.output).unwrap();
    assert!(
        output.ends_with("own: no more \\u{1b}[31mlight\nown: it gave no picture for 3.5 s\n"),
        "{output}"
    );
    // What the program had started went with it.
    until("no process", || device.descendants().is_empty());
}

#[test]
fn a_camera_that_can_not_run_says_why() {
    let (server, device, mut peer) = connected(|device| {
        let broken = by_script(device, "echo 'no camera is connected' >&2; exit 3");
        format!(
            "{broken}[[cameras]]\nname = 'gone'\nkind = 'command'\ncommand = ['/no/such/program']\n\
             [[cameras]]\nname = 'usb'\nkind = 'v4l2'\ndevice = '/dev/video77'\n[tasks.video]\nrestarts = 0\n"
        )
    });
    for (task, camera, words) in [
        (1, "own", "the camera \"own\" ended with exit code 3; it said: no camera is connected"),
        (
            2,
            "gone",
            "the camera \"gone\" ended with exit code 127; it said: holdfast-agent: the command \"/no/such/program\" can't be run: No such file",
        ),
        (
            3,
            "usb",
            "the camera \"usb\": /dev/video77: there is no such device; holdfast-agent cameras lists what there is",
        ),
    ] {
        peer.notice(&show(task, camera));
        let report = peer.reported(task, TaskState::Failed);
        assert!(report.detail.starts_with(words), "{report:?}");
        // It may have been on its way to the server.
        server.accept_tcp(Duration::from_millis(200));
    }
    let trial = device.does(&["cameras", "--try", "own"]);
    assert_eq!(trial.status.code(), Some(1));
    let said = String::from_utf8(trial.stderr).unwrap();
    assert!(said.contains("own: it ended with exit code 3\nno camera is connected\n"), "{said}");
    let none = device.does(&["cameras", "--try", "attic"]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("there is no camera \"attic\""));
}

#[test]
fn a_slow_connection_gets_what_is_new() {
    // Some 15 Mbit a second: far more than is read of it, also on a machine that is slow.
    let (server, _device, mut peer) = connected(|device| {
        let large = [keyframe(), vec![0x55; 40_000]].concat();
        let small = [nal(nal_type::SLICE, &[0x9a]), vec![0x55; 40_000]].concat();
        let (large, small) = (device.file("large", &large), device.file("small", &small));
        let (large, small) = (large.display(), small.display());
        let script = format!(
            "while cat {large}; do for at in 1 2 3; do sleep 0.06; cat {small} {small} {small}; done; sleep 0.06; done"
        );
        by_script(device, &script)
    });
    let mut data = shown("own", &server, &mut peer);
    let (start, mut units, mut dropped, mut newest, mut gaps) = (Instant::now(), 0, 0, 0, 0);
    while dropped <= 50 || gaps <= 2 {
        assert!(start.elapsed() < LONGEST_WAIT, "{dropped} dropped, {units} shown, {gaps} gaps");
        match data.shown().unwrap() {
            Shown::Unit { flags, microseconds, bytes } => {
                // 200 kB a second.
                sleep(Duration::from_secs(1).mul_f64(bytes.len() as f64 / 200_000.0));
                units += 1;
                // A gap is followed by a keyframe.
                assert!(flags & Unit::GAP == 0 || flags == AFTER_GAP);
                gaps += usize::from(flags == AFTER_GAP);
                newest = microseconds;
            }
            Shown::Status(status) => dropped += status.dropped,
        }
    }
    // What comes is not later and later.
    let late = start.elapsed().saturating_sub(Duration::from_micros(newest));
    assert!(late < Duration::from_secs(10), "{late:?} late");
}

/// An RTSP server with a camera behind a password (Debian's `gir1.2-gst-rtsp-server-1.0`).
struct RtspServer(Child);

impl RtspServer {
    const SCRIPT: &str = include_str!("support/rtsp_server.py");

    /// Starts it. Gives its port.
    fn start(password: &str) -> (Self, u16) {
        let mut server = Command::new("/usr/bin/python3");
        let mut server = server
            .args(["-c", Self::SCRIPT, "admin", password])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("a port; cargo xtask setup installs what the server needs");
        (Self(server), port)
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_camera_in_the_network_is_shown_and_its_password_is_not() {
    let (rtsp, port) = RtspServer::start("s3cret");
    let (server, device, mut peer) = connected(|_| {
        let camera = |name: &str, password: &str| {
            format!(
                "[[cameras]]\nname = '{name}'\nkind = 'rtsp'\nurl = 'rtsp://admin:{password}@127.0.0.1:{port}/live'\n"
            )
        };
        camera("yard", "s3cret")
            + &camera("wrong", "gue55")
            + "[tasks.video]\nrestarts = 0\nsilence_seconds = 20\n"
    });
    let mut data = shown("yard", &server, &mut peer);
    let units = data.units(20);
    assert_eq!(units[0].0, KEYFRAME);
    assert!(kinds(&units[0].2).contains(&nal_type::SPS));
    for process in device.descendants() {
        // One that has just ended has none.
        let environment = fs::read(format!("/proc/{}/environ", process.id)).unwrap_or_default();
        let shown = [process.command.clone(), String::from_utf8_lossy(&environment).into_owned()];
        assert!(!shown.concat().contains("s3cret"), "{shown:?}");
    }
    let processes = device.descendants();
    peer.stop(7);
    peer.reported(7, TaskState::Done);
    until_gone(&processes);
    assert!(device.must(&["cameras"]).contains(&format!(" -i rtsp://127.0.0.1:{port}/… ")));

    peer.notice(&show(8, "wrong"));
    let (data, _) = server.accept_data();
    let report = peer.reported(8, TaskState::Failed);
    assert!(report.detail.contains("401 Unauthorized"), "{report:?}");
    let all = format!(
        "{report:?}{}{}{}",
        String::from_utf8_lossy(&report.output),
        device.log(),
        device.must(&["cameras"])
    );
    assert!(!all.contains("s3cret") && !all.contains("gue55"), "{all}");
    data.wait_for_end();
    drop(rtsp);
}

#[test]
fn a_camera_can_be_tried() {
    let device = Device::new();
    device.configure(BARS);
    let trial: serde_json::Value =
        serde_json::from_str(&device.must(&["cameras", "--try", "bars", "--json"])).unwrap();
    assert!(
        trial["pictures"].as_u64().unwrap() >= 10 && trial["keyframes"].as_u64().unwrap() >= 1,
        "{trial}"
    );
    device.configure("");
    let empty = device.must(&["cameras"]);
    assert!(empty.contains("no cameras in agent.toml") && empty.contains("    kind = \"test\"\n"), "{empty}");
}
