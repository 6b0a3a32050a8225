//! `cameras`.

use std::{
    cell::RefCell,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use protocol_core::escape::OneLine;
use serde_json::{Value, json};

use super::{Shared, error::CliError};
use crate::{
    config::{Camera, Config},
    tasks::camera::{CommandLine, Found, RPICAM, Run, Surroundings, ask, film},
};

/// For how long a camera is tried.
const TRIAL: Duration = Duration::from_secs(5);

/// How often it is looked at whether that is over.
const LOOK: Duration = Duration::from_millis(100);

/// What stands in `agent.toml` for a first camera.
const EXAMPLE: &str = "[[cameras]]\nname = \"bars\"\nkind = \"test\"";

/// `holdfast-agent cameras`.
pub(super) fn cameras(shared: &Shared, config: &Config, to_try: Option<&str>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cameras = &config.tasks.video.cameras;
    let described = match to_try {
        None => runtime.block_on(list(cameras)),
        Some(name) => {
            let camera = cameras.iter().find(|camera| camera.name == name);
            let camera = camera.ok_or_else(|| CliError::NoCamera { name: name.to_owned() })?;
            runtime.block_on(try_out(camera))?
        }
    };
    let mut output = io::stdout().lock();
    if shared.json {
        writeln!(output, "{described}")?;
        return Ok(());
    }
    let lines = if to_try.is_some() { vec![trial_line(&described)] } else { list_lines(&described) };
    lines.iter().try_for_each(|line| writeln!(output, "{}", OneLine(line)))?;
    Ok(())
}

/// The cameras of the configuration, and what else there is on this device.
async fn list(cameras: &[Camera]) -> Value {
    let surroundings = Surroundings::new();
    let mut described = Vec::new();
    for camera in cameras {
        let mut one = json!({ "name": camera.name, "kind": camera.kind().name() });
        if let Some(picture) = camera.picture() {
            one["width"] = json!(picture.width);
            one["height"] = json!(picture.height);
            one["framerate"] = json!(picture.framerate);
            one["bitrate"] = json!(picture.bitrate);
        }
        match CommandLine::of(camera, &surroundings).await {
            Ok(command) => one["command"] = json!(command.shown()),
            Err(error) => one["problem"] = json!(error.to_string()),
        }
        described.push(one);
    }
    let devices = surroundings.video_devices().into_iter();
    let devices: Vec<_> = devices.map(|found| json!({ "device": found.path, "name": found.name })).collect();
    let rpicam = match surroundings.program(&RPICAM) {
        Some(program) => ask(&[program, "--list-cameras"]).await,
        None => String::new(),
    };
    let rpicam: Vec<_> = rpicam.lines().filter(|line| !line.trim().is_empty()).collect();
    json!({ "cameras": described, "devices": devices, "rpicam": rpicam })
}

fn list_lines(described: &Value) -> Vec<String> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let all = |name: &str| described[name].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for camera in all("cameras") {
        let size = match camera["width"].as_u64() {
            Some(width) => format!(
                ", {width}x{}, {} pictures and {} bits a second",
                camera["height"], camera["framerate"], camera["bitrate"]
            ),
            None => String::new(),
        };
        lines.push(format!("{} ({}{size})", text(&camera, "name"), text(&camera, "kind")));
        lines.push(match camera["problem"].as_str() {
            Some(problem) => format!("    can't run: {problem}"),
            None => format!("    {}", text(&camera, "command")),
        });
    }
    if lines.is_empty() {
        lines.push("no cameras in agent.toml. One that needs nothing but ffmpeg:".to_owned());
        lines.extend(EXAMPLE.lines().map(|line| format!("    {line}")));
    }
    for (name, what) in
        [("devices", "video devices (kind = \"v4l2\"; not all are cameras):"), ("rpicam", "rpicam-vid says:")]
    {
        let found = all(name);
        if !found.is_empty() {
            lines.push(what.to_owned());
        }
        for device in found {
            let line = device.as_str().map(str::to_owned);
            let line =
                line.unwrap_or_else(|| format!("{}  {}", text(&device, "device"), text(&device, "name")));
            lines.push(format!("    {line}"));
        }
    }
    lines
}

/// What came of a camera that is tried.
#[derive(Default)]
struct Trial {
    first: Option<Instant>,
    pictures: u32,
    keyframes: u32,
    bytes: usize,
}

/// Runs a camera until it has given pictures for some seconds, and counts.
async fn try_out(camera: &Camera) -> Result<Value, CliError> {
    let command = CommandLine::of(camera, &Surroundings::new()).await;
    let command = command.map_err(|error| CliError::Camera(format!("{}: {error}", camera.name)))?;
    let (start, trial) = (Instant::now(), RefCell::new(Trial::default()));
    let count = |now: tokio::time::Instant, found: Found| {
        let mut trial = trial.borrow_mut();
        trial.first.get_or_insert(now.into_std());
        if let Found::Picture(picture) = found {
            trial.pictures += 1;
            trial.keyframes += u32::from(picture.is_keyframe);
            trial.bytes += picture.bytes.len();
        }
    };
    let enough = async {
        while trial.borrow().first.is_none_or(|first| first.elapsed() < TRIAL) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        Run { fault, said, .. } = film(command, TRIAL, count) => {
            let said = said.iter().map(|line| format!("\n{line}")).collect::<String>();
            return Err(CliError::Camera(format!("{}: it {fault}{said}", camera.name)));
        }
        () = enough => {}
    }
    let Trial { first, pictures, keyframes, bytes } = trial.into_inner();
    let first = first.map_or(TRIAL, |first| first - start);
    Ok(json!({
        "name": camera.name,
        "seconds": TRIAL.as_secs(),
        "pictures": pictures,
        "keyframes": keyframes,
        "bytes": bytes,
        "first_milliseconds": u64::try_from(first.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// `front: 150 pictures in 5 s, 5 of them keyframes, 1250000 bytes; the first after 320 ms`
fn trial_line(trial: &Value) -> String {
    format!(
        "{}: {} pictures in {} s, {} of them keyframes, {} bytes; the first after {} ms",
        trial["name"].as_str().unwrap_or_default(),
        trial["pictures"],
        trial["seconds"],
        trial["keyframes"],
        trial["bytes"],
        trial["first_milliseconds"],
    )
}
