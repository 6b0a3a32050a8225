//! `cameras`, `video`, `viewers`.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use clap::Args;
use tokio::{
    io::{AsyncWriteExt, Stdout, stdout},
    process::{Child, Command},
    time::timeout,
};

use super::{
    api_client::{ApiClient, encoded},
    devices::path,
    error::CliError,
    output::{Cell, Output, Table, clock, or_dash, size},
};
use crate::{
    api::view::{CameraView, Page, UnitsMessage, ViewerView},
    span,
    video::LastWords,
};

/// Players that take a stream on standard input without holding it back, best first, and how they are told so.
const PLAYERS: [(&str, &[&str]); 2] = [
    ("mpv", &["--profile=low-latency", "--untimed", "--really-quiet", "-"]),
    ("ffplay", &["-loglevel", "error", "-fflags", "nobuffer", "-flags", "low_delay", "-framedrop", "-"]),
];

/// How long a player may go on behind the time that was asked for.
const LAST_PICTURES: Duration = Duration::from_secs(5);

/// The arguments of `video`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub(super) struct Video {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The camera's name [default: the only one]
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Write MP4 to this file; `-` writes it to standard output
    #[arg(short, long, value_name = "FILE|-", group = "where")]
    output: Option<PathBuf>,
    /// Show it in a window, by mpv or ffplay
    #[arg(long, group = "where")]
    play: bool,
    /// End after so long [default: Ctrl-C ends it]
    #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
    span: Option<Duration>,
}

/// Who looks at cameras, or which of them is to be thrown out.
#[derive(Args, Clone, Debug)]
pub(super) struct Viewers {
    /// Throw out the viewer of this number: they can't look at this camera again for five minutes
    #[arg(long, value_name = "ID")]
    stop: Option<i64>,
}

/// `holdfast viewers`.
pub(super) async fn viewers(
    api: &ApiClient,
    arguments: &Viewers,
    output: &mut Output,
) -> Result<(), CliError> {
    if let Some(id) = arguments.stop {
        let path = format!("/api/v1/viewers/{id}/stop");
        let viewer: ViewerView = api.tell(&path).await?;
        if output.json {
            return Ok(output.json_line(&viewer)?);
        }
        let (who, camera) = (Cell::plain(&viewer.who), Cell::plain(&viewer.camera));
        let device = Cell::plain(&viewer.device);
        return Ok(output.line(&format!("{who} no longer looks at {device}, camera {camera}."))?);
    }
    let Page { items, .. } = api.get::<Page<ViewerView>>("/api/v1/viewers").await?;
    if output.json {
        return Ok(output.json_lines(&items)?);
    }
    if items.is_empty() {
        eprintln!("Nobody looks at a camera.");
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "DEVICE", "CAMERA", "WHO", "FROM", "SINCE", "PICTURES", "SIZE", "DROPPED"]);
    for viewer in items {
        table.row([
            Cell::plain(viewer.id),
            Cell::plain(&viewer.device),
            Cell::plain(&viewer.camera),
            Cell::plain(&viewer.who),
            Cell::plain(or_dash(viewer.address)),
            Cell::plain(clock(viewer.since)),
            Cell::plain(viewer.frames),
            Cell::plain(size(viewer.bytes)),
            Cell::plain(viewer.dropped),
        ]);
    }
    Ok(output.table(&table)?)
}

/// `holdfast cameras DEVICE`.
pub(super) async fn cameras(api: &ApiClient, device: &str, output: &mut Output) -> Result<(), CliError> {
    let Page { items, .. } = api.get::<Page<CameraView>>(&path(device, "/cameras")).await?;
    if output.json {
        return Ok(output.json_lines(&items)?);
    }
    if items.is_empty() {
        let device = Cell::plain(device);
        eprintln!("{device} tells of no camera: it is offline, or its agent.toml names none ([[cameras]]).");
        return Ok(());
    }
    let mut table = Table::new(&["CAMERA", "KIND", "SIZE", "PER SECOND", "VIEWERS", "RECORDING"]);
    for camera in items {
        let size = camera.width.zip(camera.height).map(|(width, height)| format!("{width}x{height}"));
        table.row([
            Cell::plain(&camera.name),
            Cell::plain(&camera.kind),
            Cell::plain(or_dash(size)),
            Cell::plain(or_dash(camera.framerate)),
            Cell::plain(camera.viewers),
            Cell::plain(or_dash(camera.recording)),
        ]);
    }
    Ok(output.table(&table)?)
}

/// The path of what is about one camera of a device: the one of this name, or the only one.
pub(super) async fn camera_path(
    api: &ApiClient,
    device: &str,
    camera: Option<&str>,
    rest: &str,
) -> Result<String, CliError> {
    let name = match camera {
        Some(name) => name.to_owned(),
        None => only_camera(api, device).await?,
    };
    Ok(path(device, &format!("/cameras/{}{rest}", encoded(&name))))
}

async fn only_camera(api: &ApiClient, device: &str) -> Result<String, CliError> {
    let Page { items, .. } = api.get::<Page<CameraView>>(&path(device, "/cameras")).await?;
    let names: Vec<_> = items.into_iter().map(|camera| camera.name).collect();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CliError::failed(format!(
            "{device} tells of no camera: it is offline, or its agent.toml names none ([[cameras]])"
        ))),
        names => Err(CliError::Usage(format!("expected --camera with one of {}", names.join(", ")))),
    }
}

/// `holdfast video DEVICE -o FILE|--play`.
pub(super) async fn video(api: &ApiClient, arguments: &Video) -> Result<(), CliError> {
    let path = camera_path(api, &arguments.device, arguments.camera.as_deref(), "/live.mp4").await?;
    // What is there is written over when there is something to be written.
    let (mut target, mut words) = (None, LastWords::default());
    let written = api.download(&path, async |bytes| {
        words.read(bytes);
        let target = match &mut target {
            Some(target) => target,
            None => target.insert(Target::open(arguments)?),
        };
        Ok(target.write(bytes).await?)
    });
    let done = match arguments.span {
        // The time begins with the question: what a camera needs to begin counts, too. And it ends whatever a player takes.
        Some(span) => timeout(span, written).await.unwrap_or(Ok(())),
        None => written.await,
    };
    match done {
        // Whoever looked has closed the window.
        Err(CliError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
        done => done?,
    }
    let nothing = target.is_none();
    if let Some(target) = target {
        target.close(arguments.span.is_some()).await?;
    }
    match (words.found().map(serde_json::from_slice), arguments.span) {
        (Some(Ok(UnitsMessage::End { message, .. })), _) => Err(CliError::failed(message)),
        (_, Some(span)) if nothing => Err(CliError::failed(format!(
            "the camera showed no picture in {}; a longer --for tells why, if it can't",
            span::shortened(span)
        ))),
        _ => Ok(()),
    }
}

/// Where the pictures go.
enum Target {
    File(File),
    Output(Stdout),
    Player(Child),
}

impl Target {
    fn open(arguments: &Video) -> Result<Self, CliError> {
        match &arguments.output {
            Some(path) if path.as_os_str() == "-" => Ok(Self::Output(stdout())),
            Some(path) => File::create(path)
                .map(Self::File)
                .map_err(|error| CliError::failed(format!("can't write {}: {error}", path.display()))),
            None => Self::play(),
        }
    }

    fn play() -> Result<Self, CliError> {
        for (player, arguments) in PLAYERS {
            match Command::new(player).args(arguments).stdin(Stdio::piped()).spawn() {
                Ok(child) => return Ok(Self::Player(child)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(CliError::failed(format!("{player} can't be run: {error}"))),
            }
        }
        Err(CliError::failed("neither mpv nor ffplay is installed; -o writes a file"))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(bytes),
            Self::Output(output) => {
                output.write_all(bytes).await?;
                output.flush().await
            }
            Self::Player(child) => match &mut child.stdin {
                Some(input) => input.write_all(bytes).await,
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    /// A player shows what it has got, and ends. Where it was said when that is to be, it has little time for it.
    async fn close(self, is_limited: bool) -> Result<(), CliError> {
        let Self::Player(mut child) = self else { return Ok(()) };
        drop(child.stdin.take());
        if !is_limited {
            child.wait().await?;
        } else if timeout(LAST_PICTURES, child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok(())
    }
}
