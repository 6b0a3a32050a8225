//! Live video from end to end: a real agent with a test camera, the server, and those who look by the command line.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};

use holdfast_tests::{
    agent::Agent,
    binaries,
    process::Process,
    server::Server,
    wait::{self, LONGEST_WAIT},
};
use serde_json::{Value, json};

const DEVICE: &str = "porch";

/// A camera that needs none.
const CAMERA: &str = "[[cameras]]\nname = \"door\"\nkind = \"test\"\nwidth = 320\nheight = 240\nframerate = 30\nbitrate = 500000\n";

fn scene(server: Server) -> io::Result<(Server, Agent)> {
    let mut agent = Agent::enrolled(&server, DEVICE)?;
    agent.configure(CAMERA)?;
    agent.run()?;
    server.wait_online(DEVICE, true);
    wait::until(
        "the device tells of its camera",
        || server.api().list(&format!("/devices/{DEVICE}/cameras")).unwrap_or_default(),
        |cameras| cameras.len() == 1,
    );
    Ok((server, agent))
}

/// How many pictures of a file can be decoded.
fn pictures(file: &Path) -> usize {
    let arguments =
        "-loglevel error -count_frames -show_entries stream=nb_read_frames,width,height -of csv=p=0";
    let found = Command::new("ffprobe").args(arguments.split_whitespace()).arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&found.stdout);
    let fields: Vec<_> = text.trim().split(',').collect();
    assert_eq!(
        fields.get(..2),
        Some(&["320", "240"][..]),
        "{text}{}",
        String::from_utf8_lossy(&found.stderr)
    );
    fields.get(2).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn open_tasks(server: &Server) -> Vec<Value> {
    server.api().list("/tasks?open=true").expect("the server tells")
}

/// Somebody who looks by the command line, into this file.
fn film(server: &Server, file: &Path) -> io::Result<Process> {
    let (data, file_name) = (server.data().display().to_string(), file.display().to_string());
    let words = ["video", DEVICE, "--camera", "door", "-o", &file_name, "--data", &data];
    Process::start(&binaries::holdfast(), words, &file.with_extension("log"))
}

fn viewers(server: &Server) -> Vec<Value> {
    server.api().list("/viewers").expect("viewers")
}

#[test]
fn a_camera_is_seen_and_is_off_again() -> io::Result<()> {
    let (server, _agent) = scene(Server::start()?)?;
    let directory = tempfile::tempdir()?;
    let listed = server.tell(&["cameras", DEVICE]);
    assert!(listed.contains("door") && listed.contains("320x240"), "{listed}");
    let kept = directory.path().join("kept.mp4");
    fs::write(&kept, "what there was")?;
    let refused = server.command(&["video", DEVICE, "--camera", "gate", "-o", &kept.display().to_string()]);
    assert_eq!(refused.status.code(), Some(4), "there is no such camera");
    assert_eq!(fs::read_to_string(&kept)?, "what there was");
    assert_eq!(open_tasks(&server), Vec::<Value>::new(), "nobody looks, and the camera is off");
    let file = directory.path().join("door.mp4");
    let mut look = film(&server, &file)?;
    let sent = wait::until(
        "pictures come",
        || viewers(&server),
        |all| all.first().is_some_and(|viewer| viewer["frames"].as_u64() > Some(30)),
    );
    let sent = sent[0]["bytes"].as_u64().unwrap_or_default();
    wait::until(
        "they are in the file",
        || fs::metadata(&file).map_or(0, |found| found.len()),
        |len| *len >= sent,
    );
    look.terminate(LONGEST_WAIT);
    let count = pictures(&file);
    assert!(count >= 25, "{count} pictures");
    wait::until("the camera is off", || open_tasks(&server), Vec::is_empty);
    let kinds: Vec<_> = server.api().list("/events").expect("events");
    for kind in ["viewing-started", "viewing-ended"] {
        let event = kinds.iter().find(|event| event["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
        assert_eq!(
            (&event["device"], &event["detail"]["camera"]),
            (&DEVICE.into(), &"door".into()),
            "{event}"
        );
    }
    Ok(())
}

/// Somebody who looks by a player: by this script of the shell, in this directory.
fn play(server: &Server, directory: &Path, script: &str, more: &[&str]) -> io::Result<Process> {
    let player = directory.join("mpv");
    fs::write(&player, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&player, fs::Permissions::from_mode(0o755))?;
    let path = format!("PATH={}:{}", directory.display(), env::var("PATH").unwrap_or_default());
    let (program, data) = (binaries::holdfast().display().to_string(), server.data().display().to_string());
    let words = [&path, &program, "video", DEVICE, "--play", "--data", &data];
    Process::start(Path::new("env"), words.iter().chain(more), &directory.join("play.log"))
}

#[test]
fn a_camera_is_shown_by_a_player() -> io::Result<()> {
    let (server, _agent) = scene(Server::start()?)?;
    let directory = tempfile::tempdir()?;
    let (file, words) = (directory.path().join("shown.mp4"), directory.path().join("words"));
    let script = format!("echo \"$*\" >{}; exec cat >{}", words.display(), file.display());
    let mut look = play(&server, directory.path(), &script, &[])?;
    let sent = wait::until(
        "pictures come",
        || viewers(&server),
        |all| all.first().is_some_and(|viewer| viewer["frames"].as_u64() > Some(30)),
    );
    let sent = sent[0]["bytes"].as_u64().unwrap_or_default();
    let shown = || fs::metadata(&file).map_or(0, |found| found.len());
    wait::until("the player has them", shown, |len| *len >= sent);
    look.terminate(LONGEST_WAIT);
    wait::until("the camera is off", || open_tasks(&server), Vec::is_empty);
    let count = pictures(&file);
    assert!(count >= 25, "{count} pictures");
    assert!(fs::read_to_string(&words)?.contains("--profile=low-latency"));
    Ok(())
}

/// What a player does not take is no reason to look for longer than was said.
#[test]
fn a_player_that_takes_nothing_is_ended_in_time() -> io::Result<()> {
    let (server, _agent) = scene(Server::start()?)?;
    let directory = tempfile::tempdir()?;
    let id = directory.path().join("id");
    let script = format!("echo $$ >{}; exec sleep 1000", id.display());
    let mut look = play(&server, directory.path(), &script, &["--for", "10s"])?;
    assert_eq!(look.wait(2 * LONGEST_WAIT).code(), Some(0), "{}", look.printed());
    // Where a machine is so slow that there was no picture yet, there is no player.
    if let Ok(player) = fs::read_to_string(&id) {
        assert!(!Path::new("/proc").join(player.trim()).exists(), "the player is gone");
    }
    wait::until("the camera is off", || open_tasks(&server), Vec::is_empty);
    Ok(())
}

#[test]
fn two_look_at_one_stream_and_one_is_thrown_out() -> io::Result<()> {
    let (server, _agent) = scene(Server::start()?)?;
    let directory = tempfile::tempdir()?;
    let look = |name: &str| film(&server, &directory.path().join(name));
    let viewers = || viewers(&server);
    let _first = look("first.mp4")?;
    wait::until("the first looks", viewers, |all| all.len() == 1);
    let mut second = look("second.mp4")?;
    let all = wait::until("both look", viewers, |all| {
        all.len() == 2 && all.iter().all(|viewer| viewer["frames"].as_u64() > Some(10))
    });
    assert_eq!(open_tasks(&server).len(), 1, "one stream is for both");
    let newest = all.iter().filter_map(|viewer| viewer["id"].as_i64()).max().unwrap_or_default();
    let listed = server.tell(&["viewers"]);
    assert!(listed.contains(DEVICE) && listed.contains("door"), "{listed}");
    let said = server.tell(&["viewers", "--stop", &newest.to_string()]);
    assert!(said.contains(&format!("no longer looks at {DEVICE}, camera door")), "{said}");
    wait::until("one looks", viewers, |all| all.len() == 1);
    let status = second.wait(LONGEST_WAIT);
    assert_eq!(status.code(), Some(1), "what was cut is none that has ended as it was to");
    assert!(second.printed().contains("thrown out by"), "{}", second.printed());
    let frames = |all: &Vec<Value>| all.first().and_then(|viewer| viewer["frames"].as_u64()).unwrap_or(0);
    let before = frames(&viewers());
    wait::until("the other goes on", viewers, |all| frames(all) > before + 10);
    Ok(())
}

/// A stream of pictures that a program has asked for by this token, once some of them have come.
fn ask(server: &Server, token: &str, path: &str, headers: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server.http())?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    let path = format!("/api/v1/devices/{DEVICE}/cameras/door/{path}");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
    )?;
    stream.read_exact(&mut [0; 20_000])?;
    Ok(stream)
}

#[test]
fn what_somebody_looks_at_ends_with_their_rights() -> io::Result<()> {
    let (server, _agent) = scene(Server::with_http("")?)?;
    let api = server.api();
    api.post("/operators", &json!({"name": "anna", "role": "viewer"}))?;
    let made = api.post("/operators/anna/tokens", &json!({"name": "screen"}))?;
    let token = made["token"].as_str().unwrap_or_default();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut ways =
        [ask(&server, token, "live.mp4", "Connection: close\r\n")?, ask(&server, token, "units", upgrade)?];
    assert_eq!(api.list("/viewers")?.len(), 2);
    api.post("/operators/anna/tokens/screen/revoke", &json!({}))?;
    for stream in &mut ways {
        stream.read_to_end(&mut Vec::new())?;
    }
    wait::until("nobody looks", || viewers(&server), Vec::is_empty);
    let ended = || {
        let events = server.api().list("/events").expect("events");
        events.into_iter().filter(|event| event["kind"] == "viewing-ended").collect::<Vec<_>>()
    };
    for event in wait::until("both ends are written down", ended, |ended| ended.len() == 2) {
        assert_eq!(event["who"], "anna/screen", "{event}");
        assert_eq!(event["detail"]["reason"], "the viewer's rights have ended", "{event}");
    }
    wait::until("the camera is off", || open_tasks(&server), Vec::is_empty);
    Ok(())
}

#[test]
fn what_others_look_at_goes_on_without_whoever_looked_first() -> io::Result<()> {
    let (server, _agent) = scene(Server::with_http("")?)?;
    let (api, directory) = (server.api(), tempfile::tempdir()?);
    api.post("/operators", &json!({"name": "anna", "role": "viewer"}))?;
    let made = api.post("/operators/anna/tokens", &json!({"name": "screen"}))?;
    let token = made["token"].as_str().unwrap_or_default();
    let mut first = ask(&server, token, "live.mp4", "Connection: close\r\n")?;
    let _second = film(&server, &directory.path().join("second.mp4"))?;
    wait::until("both look", || viewers(&server), |all| all.len() == 2);
    let before = open_tasks(&server);
    let is_annas = |task: &Value| task["who"].as_str().is_some_and(|who| who.starts_with("anna"));
    assert!(before.len() == 1 && is_annas(&before[0]), "{before:?}");
    api.post("/operators/anna/revoke", &json!({}))?;
    first.read_to_end(&mut Vec::new())?;
    let left = wait::until("one looks", || viewers(&server), |all| all.len() == 1);
    let frames = |all: &[Value]| all.first().and_then(|viewer| viewer["frames"].as_u64()).unwrap_or(0);
    wait::until("they go on", || viewers(&server), |all| frames(all) > frames(&left) + 10);
    let after = wait::until(
        "it is theirs",
        || open_tasks(&server),
        |tasks| tasks.first().is_none_or(|task| !is_annas(task)),
    );
    assert_eq!(
        after.first().map(|task| &task["id"]),
        Some(&before[0]["id"]),
        "the camera has not begun anew"
    );
    Ok(())
}

#[test]
fn a_recording_is_fetched_and_deleted() -> io::Result<()> {
    let (server, _agent) = scene(Server::configured("[recordings]\nmin-free-bytes = 0\n", None)?)?;
    let directory = tempfile::tempdir()?;
    let begun = server.tell(&["recording", "start", DEVICE, "--for", "1m", "--json"]);
    let begun: Value = serde_json::from_str(&begun)?;
    let id = begun["id"].to_string();
    std::thread::sleep(Duration::from_secs(3));
    server.tell(&["recording", "stop", &id]);
    let listed = || server.api().list("/recordings").expect("recordings");
    let rows = wait::until("it has ended", listed, |rows| rows[0]["state"] == "done");
    assert!(rows[0]["seconds"].as_f64() > Some(1.0), "{rows:?}");
    let file = directory.path().join("door.mp4");
    server.tell(&["recording", "fetch", &id, "-o", &file.display().to_string()]);
    assert_eq!(Some(pictures(&file) as u64), rows[0]["frames"].as_u64());
    assert_eq!(fs::metadata(&file)?.len(), rows[0]["bytes"].as_u64().unwrap_or(0));
    server.tell(&["recording", "delete", &id]);
    assert!(listed().is_empty());
    assert_eq!(fs::read_dir(server.data().join("recordings"))?.count(), 0);
    Ok(())
}
