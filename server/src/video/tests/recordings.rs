//! Recordings, and MP4 as others read it.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use protocol_core::{
    code::Role,
    h264::{Piece, Splitter},
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    time::{sleep, timeout},
};

use super::{Fleet, LONGEST_WAIT, frame, keyframe, next};
use crate::video::parameters::tests::KEYFRAME;
use crate::{
    clock::Calendar,
    config::RecordingLimits,
    event::Who,
    lock::lock,
    store::{NewRecording, RecordingId, RecordingRow, RecordingSize, RecordingState, UnixMillis},
    video::{Parameters, RecordingError, Recordings, Unit, mp4},
};

/// How many pictures a second the camera of these tests gives.
const FRAMERATE: u64 = 30;

/// What a camera gives in three seconds, as real encoders make it: access units, and whether they are keyframes.
fn camera(profile: &str) -> Vec<(bool, Vec<u8>)> {
    let arguments = format!(
        "-loglevel error -f lavfi -i testsrc2=size=160x120:rate={FRAMERATE} -t 3 -c:v libx264 -preset ultrafast \
         -tune zerolatency -profile:v {profile} -g {FRAMERATE} -pix_fmt yuv420p -f h264 -"
    );
    let written = Command::new("ffmpeg").args(arguments.split_whitespace()).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let (mut splitter, mut rest, mut units) = (Splitter::default(), &written.stdout[..], Vec::new());
    while let Some(piece) = splitter.next(rest).or_else(|| splitter.flush(rest)) {
        let (unit, behind) = rest.split_at(piece.length());
        if let Piece::Unit { is_idr, .. } = piece {
            units.push((is_idr, unit.to_vec()));
        }
        rest = behind;
    }
    assert_eq!(units.len() as u64, 3 * FRAMERATE);
    units
}

/// What ffprobe says of a file: one line for each picture that it can decode, and what it complains of.
fn probed(file: &Path) -> (Vec<String>, String) {
    let arguments =
        "-loglevel error -select_streams v -show_entries frame=pts_time,key_frame,width,height -of csv=p=0";
    let found = Command::new("ffprobe").args(arguments.split_whitespace()).arg(file).output().unwrap();
    // What an encoder says of itself is shown with its picture, on a line of its own.
    let is_picture = |line: &&str| line.starts_with("0,") || line.starts_with("1,");
    let text = String::from_utf8(found.stdout).unwrap();
    let pictures = text.lines().filter(is_picture).map(ToOwned::to_owned).collect();
    (pictures, String::from_utf8_lossy(&found.stderr).into_owned())
}

/// The pictures of a file that is whole.
fn pictures(file: &Path) -> Vec<String> {
    let (pictures, complaints) = probed(file);
    assert_eq!(complaints, "", "nothing is to be complained of");
    pictures
}

#[test]
fn a_live_stream_is_played_by_others() {
    for profile in ["baseline", "high"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("live.mp4");
        let mut live = mp4::Fragmenter::new(FRAMERATE as u16);
        let mut bytes = Vec::new();
        for (number, (is_idr, unit)) in camera(profile).into_iter().enumerate() {
            let parameters = is_idr.then(|| Arc::new(Parameters::find(&unit).unwrap()));
            if let Some(parameters) = parameters.as_ref().filter(|_| bytes.is_empty()) {
                bytes = mp4::head(parameters);
            }
            let time = number as u64 * 1_000_000 / FRAMERATE;
            bytes.extend_from_slice(&live.fragment(&Unit::new(parameters, time, &unit)));
        }
        std::fs::write(&path, &bytes).unwrap();
        let all = pictures(&path);
        assert_eq!(all.len() as u64, 3 * FRAMERATE, "{profile}");
        assert!(all[0].contains("160,120") && all[0].starts_with("1,0.000000"), "{profile}: {}", all[0]);
        let strictly = Command::new("ffmpeg")
            .args(["-loglevel", "warning", "-xerror", "-i"])
            .arg(&path)
            .args(["-f", "null", "-"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(strictly.status.success(), "{}", String::from_utf8_lossy(&strictly.stderr));
        assert_eq!(String::from_utf8_lossy(&strictly.stderr), "");
    }
}

impl Fleet {
    fn recordings(&self, limits: RecordingLimits) -> Arc<Recordings> {
        let directory = self.directory.path().join("recordings");
        Recordings::new(Arc::clone(&self.video), self.store.clone(), directory, limits)
    }

    /// A recording of another camera, in this file.
    fn gate(&self, file: &str) -> NewRecording {
        NewRecording {
            device: self.device.id,
            camera: "gate".to_owned(),
            file: file.to_owned(),
            role: Role::Viewer,
            who: "bea".into(),
            width: 64,
            height: 48,
        }
    }

    /// Begins one; the device sends its first picture.
    async fn record(
        &self,
        recordings: &Arc<Recordings>,
        first: &[u8],
    ) -> (Result<RecordingId, RecordingError>, DuplexStream) {
        let device = async {
            let mut device = self.stream().await;
            device.write_all(&frame(1, 0, first)).await.unwrap();
            device
        };
        let begun = recordings.start(self.request("ada", Role::Operator), None, &self.shutdown);
        timeout(LONGEST_WAIT, async { tokio::join!(begun, device) }).await.unwrap()
    }

    /// The recording, once it is so.
    async fn recording(&self, id: RecordingId, is_so: impl Fn(&RecordingRow) -> bool) -> RecordingRow {
        let look = async {
            loop {
                let row = self.store.recording(id).await.unwrap().unwrap();
                if is_so(&row) {
                    return row;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST_WAIT, look).await.expect("it is so at last")
    }

    /// Waits until a recording has taken so many pictures of the camera's stream.
    async fn taken(&self, frames: u64) {
        let all = async {
            while !lock(&self.video.viewers).values().any(|viewer| viewer.frames() == frames) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST_WAIT, all).await.expect("the pictures are taken");
    }
}

/// Little is asked of the disk of whoever runs the tests.
fn limits() -> RecordingLimits {
    RecordingLimits { min_free_bytes: 0, ..RecordingLimits::default() }
}

#[tokio::test]
async fn a_recording_can_be_played_while_it_is_made_and_after_it() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let units = camera("baseline");
    let (id, mut device) = fleet.record(&recordings, &units[0].1).await;
    let id = id.unwrap();
    let begun = fleet.recording(id, |_| true).await;
    assert_eq!((begun.state.as_str(), begun.who.as_str(), begun.width), ("recording", "ada", 160));
    assert_eq!(recordings.running(fleet.device.id, "door"), Some(id.0));
    let again = recordings.start(fleet.request("bea", Role::Operator), None, &fleet.shutdown).await;
    assert!(matches!(again, Err(RecordingError::Running(running)) if running == id));
    assert_eq!(
        again.unwrap_err().to_string(),
        format!("this camera is being recorded already, as recording {id}")
    );
    for (number, (is_idr, unit)) in units.iter().enumerate().skip(1) {
        // The last second is late by one.
        let time = number as u64 * 1_000_000 / FRAMERATE + if number >= 60 { 1_000_000 } else { 0 };
        // More than a second at once may be too much for a disk, and then some of it is left out.
        if *is_idr {
            fleet.taken(number as u64).await;
        }
        device.write_all(&frame(u8::from(*is_idr), time, unit)).await.unwrap();
    }
    let path = recordings.path(&begun);
    let whole = async {
        // While a part is being written, half of it may be there.
        while probed(&path).0.len() < 60 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONGEST_WAIT, whole).await.expect("two groups are in the file");
    fleet.taken(units.len() as u64).await;
    recordings.stop(id, "stopped by ada").unwrap();
    let row = fleet.recording(id, |row| row.ended.is_some()).await;
    assert_eq!((row.state.as_str(), row.reason.as_deref()), ("done", Some("stopped by ada")));
    assert_eq!(row.size.bytes, std::fs::metadata(&path).unwrap().len());
    let all = pictures(&path);
    assert_eq!((all.len(), row.size.frames), (units.len(), units.len() as u64));
    assert!((3_900..4_100).contains(&row.size.milliseconds), "{:?}: what is late is late in it", row.size);
    assert!(all[0].starts_with("1,0.0"), "{}", all[0]);
    assert!(recordings.delete(&row, Some("ada".into()), "somebody wished it").await.unwrap());
    assert!(!path.exists() && fleet.store.recording(id).await.unwrap().is_none());
    let kinds: Vec<_> = fleet.events("recording-").await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["recording-started", "recording-ended", "recording-deleted"]);
    assert!(fleet.video.viewers().is_empty() && fleet.events("viewing-").await.is_empty());
}

#[tokio::test]
async fn of_a_file_that_grows_only_what_is_whole_is_read() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let (id, mut device) = fleet.record(&recordings, KEYFRAME).await;
    let row = fleet.recording(id.unwrap(), |_| true).await;
    let head = mp4::head(&Parameters::find(KEYFRAME).unwrap()).len() as u64;
    assert_eq!(recordings.open(&row).unwrap().1, head, "its group has not ended");
    // As if half a fragment were written.
    let path = recordings.path(&row);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(head + 20).unwrap();
    assert_eq!(recordings.open(&row).unwrap().1, head);
    device.write_all(&frame(1, 20, KEYFRAME)).await.unwrap();
    let grown = async {
        while recordings.open(&row).unwrap().1 == head {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONGEST_WAIT, grown).await.expect("the group is in the file");
    recordings.stop(row.id, "enough").unwrap();
    let row = fleet.recording(row.id, |row| row.ended.is_some()).await;
    assert_eq!(recordings.open(&row).unwrap().1, row.size.bytes);
}

#[tokio::test]
async fn a_full_disk_ends_it_in_words() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(RecordingLimits { min_free_bytes: u64::MAX, ..limits() });
    let refused = recordings.start(fleet.request("ada", Role::Operator), None, &fleet.shutdown).await;
    let Err(RecordingError::NoSpace(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("free on the disk"), "{words}");
}

/// What nobody knows of is never deleted.
#[tokio::test]
async fn no_file_is_left_without_a_recording() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let device = async {
        let mut device = fleet.stream().await;
        fleet.store.close().await;
        device.write_all(&frame(1, 0, KEYFRAME)).await.unwrap();
        device
    };
    let begun = recordings.start(fleet.request("ada", Role::Operator), None, &fleet.shutdown);
    let (begun, _device) = timeout(LONGEST_WAIT, async { tokio::join!(begun, device) }).await.unwrap();
    assert!(matches!(begun, Err(RecordingError::Store(_))), "{begun:?}");
    assert_eq!(std::fs::read_dir(fleet.directory.path().join("recordings")).unwrap().count(), 0);
}

/// One that is being made has its part of what all may have.
#[tokio::test]
async fn all_together_have_no_more_than_they_may() {
    let fleet = Fleet::new().await;
    let mut recordings = fleet.recordings(RecordingLimits { max_bytes: 3_000, ..limits() });
    Arc::get_mut(&mut recordings).unwrap().note = Duration::ZERO;
    // Another one has nearly all of it.
    let other = fleet.store.begin_recording(fleet.gate("gate.mp4")).await.unwrap();
    let size = RecordingSize { bytes: 2_900, ..RecordingSize::default() };
    fleet.store.note_recording(other, size).await.unwrap();
    let (id, mut device) = fleet.record(&recordings, KEYFRAME).await;
    for time in 1..3 {
        device.write_all(&frame(1, time, KEYFRAME)).await.unwrap();
    }
    let row = fleet.recording(id.unwrap(), |row| row.ended.is_some()).await;
    assert_eq!(row.state, "failed");
    assert!(row.size.bytes < 3_000, "{}", row.size.bytes);
    assert!(row.reason.unwrap().contains("max-bytes"));
}

#[tokio::test]
async fn whoever_begins_one_that_begins_already_is_told() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let second = tokio::select! {
        biased;
        _ = recordings.start(fleet.request("ada", Role::Operator), None, &fleet.shutdown) => panic!("there is no picture"),
        second = recordings.start(fleet.request("bea", Role::Operator), None, &fleet.shutdown) => second,
    };
    assert!(matches!(second, Err(RecordingError::Beginning)), "it has no number yet: {second:?}");
}

#[tokio::test]
async fn who_has_other_rights_now_records_no_longer() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let mut request = fleet.request("ada", Role::Operator);
    let ada = fleet.operator("ada").await;
    request.requester.operator = Some(ada);
    let device = async {
        let mut device = fleet.stream().await;
        device.write_all(&frame(1, 0, KEYFRAME)).await.unwrap();
        device
    };
    let begun = recordings.start(request, None, &fleet.shutdown);
    let (id, _device) = timeout(LONGEST_WAIT, async { tokio::join!(begun, device) }).await.unwrap();
    recordings.stop_of_operator(ada, "the rights of ada were taken away");
    let row = fleet.recording(id.unwrap(), |row| row.ended.is_some()).await;
    assert_eq!(row.reason.as_deref(), Some("the rights of ada were taken away"));
}

#[tokio::test]
async fn who_reads_a_recording_is_written_down() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let (id, _device) = fleet.record(&recordings, KEYFRAME).await;
    let row = fleet.recording(id.unwrap(), |_| true).await;
    let who = |name: &str| Who { name: name.to_owned(), address: None };
    for name in ["ada", "bea", "ada"] {
        recordings.note_read(&row, who(name)).await.unwrap();
    }
    let told = fleet.events("recording-read").await;
    let names: Vec<_> = told.iter().map(|(_, who)| who.as_deref().unwrap()).collect();
    assert_eq!(names, ["ada", "bea"], "once for each, though a player asks for many parts");
}

#[tokio::test]
async fn what_is_too_much_or_too_old_is_deleted() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(RecordingLimits { max_bytes: 3_000, ..limits() });
    let unit = keyframe(0);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (id, device) = fleet.record(&recordings, &unit.message()[crate::video::HEAD..]).await;
        ids.push(id.unwrap());
        recordings.stop(ids[ids.len() - 1], "enough").unwrap();
        fleet.recording(ids[ids.len() - 1], |row| row.ended.is_some()).await;
        drop(device);
        // The next one has a stream of its own.
        let gone = async {
            while !lock(&fleet.video.streams).is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONGEST_WAIT, gone).await.expect("the stream ends");
    }
    let bytes = fleet.store.recorded_bytes().await.unwrap();
    assert!(bytes > 0 && bytes <= 3_000, "{bytes}");
    let small = fleet.recordings(RecordingLimits { max_bytes: bytes - 1, ..limits() });
    small.keep().await.unwrap();
    assert!(fleet.store.recording(ids[0]).await.unwrap().is_none(), "the oldest goes first");
    assert!(fleet.store.recording(ids[1]).await.unwrap().is_some());
    let mut short = fleet.recordings(RecordingLimits { keep: Duration::ZERO, ..limits() });
    sleep(Duration::from_millis(5)).await;
    // The server's clock was set forward by an hour since it began.
    let before = Calendar::from(UnixMillis::now().plus(-3_600_000));
    let calendar = std::mem::replace(&mut Arc::get_mut(&mut short).unwrap().calendar, before);
    short.keep().await.unwrap();
    assert!(fleet.store.recording(ids[1]).await.unwrap().is_some(), "nothing is old by that");
    Arc::get_mut(&mut short).unwrap().calendar = calendar;
    short.keep().await.unwrap();
    assert!(fleet.store.recording(ids[1]).await.unwrap().is_none());
    let left = std::fs::read_dir(fleet.directory.path().join("recordings")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_recording_goes_on_when_its_camera_comes_back() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let first = keyframe(0);
    let unit = &first.message()[crate::video::HEAD..];
    let (id, mut device) = fleet.record(&recordings, unit).await;
    let id = id.unwrap();
    device.write_all(&frame(1, 500_000, unit)).await.unwrap();
    drop(device);
    let mut again = fleet.stream().await;
    let path = recordings.path(&fleet.recording(id, |_| true).await);
    let two = std::fs::metadata(&path).unwrap().len();
    again.write_all(&frame(1, 7, unit)).await.unwrap();
    // Whoever comes later than a keyframe begins with it, and has none of those before.
    fleet.taken(1).await;
    again.write_all(&frame(1, 500_007, unit)).await.unwrap();
    let grown = async {
        while std::fs::metadata(&path).unwrap().len() <= two {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(LONGEST_WAIT, grown).await.is_err() {
        panic!("what comes then is in it: {:?}", fleet.store.recording(id).await);
    }
    recordings.stop(id, "enough").unwrap();
    let row = fleet.recording(id, |row| row.ended.is_some()).await;
    assert_eq!((row.state.as_str(), row.size.frames), ("done", 4));
    assert!(row.size.milliseconds > 2_000, "the time between is in it: {:?}", row.size);
}

#[tokio::test]
async fn what_the_last_server_left_has_ended() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let unit = keyframe(0);
    let (id, _device) = fleet.record(&recordings, &unit.message()[crate::video::HEAD..]).await;
    let id = id.unwrap();
    fleet.recordings(limits()).resume().await.unwrap();
    let row = fleet.recording(id, |row| row.ended.is_some()).await;
    assert_eq!((row.state.as_str(), row.reason.as_deref()), ("failed", Some("the server has ended")));
    assert!(row.size.bytes > 0);
}

/// A server that is killed leaves files as they are then.
#[tokio::test]
async fn what_is_not_whole_is_cut_off_and_what_nobody_knows_of_is_found() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(limits());
    let directory = fleet.directory.path().join("recordings");
    std::fs::create_dir(&directory).unwrap();
    let head = mp4::head(&Parameters::find(KEYFRAME).unwrap());
    let sample = mp4::Sample { duration: 3_000, is_keyframe: true, bytes: keyframe(0).sample() };
    let fragment = mp4::fragment(1, 0, &[sample]);
    let whole = [&head[..], &fragment].concat();
    let half = [&whole[..], &fragment[..fragment.len() - 1]].concat();
    for (name, contents) in [
        ("half.mp4", &half),
        ("unknown.mp4", &whole),
        ("empty.mp4", &head),
        ("emptier.mp4", &head[..head.len() - 1].to_vec()),
        ("notes.txt", &b"somebody's".to_vec()),
    ] {
        std::fs::write(directory.join(name), contents).unwrap();
    }
    let id = fleet.store.begin_recording(fleet.gate("half.mp4")).await.unwrap();
    recordings.resume().await.unwrap();
    let row = fleet.store.recording(id).await.unwrap().unwrap();
    let size = RecordingSize { milliseconds: 33, frames: 1, bytes: whole.len() as u64 };
    assert_eq!((row.state.as_str(), row.size), ("failed", size), "and not what was written down last");
    assert_eq!(std::fs::read(directory.join("half.mp4")).unwrap(), whole);
    let mut left: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["half.mp4", "notes.txt", "unknown.mp4"], "pictures are deleted by nobody");
}

#[tokio::test]
async fn a_file_that_cant_be_deleted_keeps_nothing_else() {
    let fleet = Fleet::new().await;
    let recordings = fleet.recordings(RecordingLimits { max_bytes: 10_000, ..limits() });
    let directory = fleet.directory.path().join("recordings");
    // It can't be deleted as a file is.
    std::fs::create_dir_all(directory.join("stuck.mp4")).unwrap();
    std::fs::write(directory.join("next.mp4"), b"").unwrap();
    let mut ids = Vec::new();
    for file in ["stuck.mp4", "next.mp4"] {
        let id = fleet.store.begin_recording(fleet.gate(file)).await.unwrap();
        let size = RecordingSize { bytes: 10_001, ..RecordingSize::default() };
        fleet.store.end_recording(id, RecordingState::Done, "enough".to_owned(), size).await.unwrap();
        ids.push(id);
    }
    let (id, _device) = fleet.record(&recordings, KEYFRAME).await;
    assert!(id.is_ok(), "{id:?}");
    assert!(fleet.store.recording(ids[0]).await.unwrap().is_some());
    assert!(fleet.store.recording(ids[1]).await.unwrap().is_none());
    assert!(!directory.join("next.mp4").exists());
}

/// A viewer of MP4 and one of pictures share what is sent to them.
#[tokio::test]
async fn a_picture_is_made_into_mp4_once() {
    let fleet = Fleet::new().await;
    let (viewing, mut device) = tokio::join!(fleet.watch("ada", Role::Viewer), fleet.stream());
    let (mut first, mut second) = (viewing.unwrap(), fleet.watch("bea", Role::Viewer).await.unwrap());
    device.write_all(&frame(1, 10, &keyframe(0).message()[crate::video::HEAD..])).await.unwrap();
    let one = timeout(LONGEST_WAIT, first.next()).await.unwrap().unwrap();
    let other = timeout(LONGEST_WAIT, second.next()).await.unwrap().unwrap();
    assert_eq!(one.sample().as_ptr(), other.sample().as_ptr());
    assert_eq!(one.message().as_ptr(), other.message().as_ptr());
    device.write_all(&frame(0, 20, b"\0\0\x01\x41picture")).await.unwrap();
    assert_eq!(next(&mut first).await, 20);
}
