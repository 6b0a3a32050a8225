//! `recordings`, `recording`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{
    api_client::{ApiClient, with_query},
    error::CliError,
    output::{Cell, Output, Style, Table, clock, or_dash, size},
    video::camera_path,
};
use crate::{
    api::view::{RecordingRequest, RecordingView},
    span,
};

const PATH: &str = "/api/v1/recordings";

/// Which recordings to show.
#[derive(Args, Clone, Debug)]
pub(super) struct Selection {
    /// Only of this device
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
}

/// What is to be done with a recording.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Verb {
    /// Record what a camera shows, in a file of the server's
    #[command(after_help = "\
Examples:
  holdfast recording start greenhouse
  holdfast recording start greenhouse --camera door --for 10m")]
    Start(Start),
    /// End a recording
    #[command(after_help = "Example:\n  holdfast recording stop 17")]
    Stop(One),
    /// Fetch a recording, as far as it goes
    #[command(
        after_help = "Examples:\n  holdfast recording fetch 17\n  holdfast recording fetch 17 -o - | mpv -"
    )]
    Fetch(Fetch),
    /// Delete a recording
    #[command(after_help = "Example:\n  holdfast recording delete 17")]
    Delete(One),
}

/// Which camera to record, and for how long.
#[derive(Args, Clone, Debug)]
pub(super) struct Start {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    device: String,
    /// The camera's name [default: the only one]
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// For how long at most [default: as long as the server's configuration allows]
    #[arg(long = "for", value_name = "SPAN", value_parser = span::parse)]
    span: Option<Duration>,
}

/// One recording.
#[derive(Args, Clone, Debug)]
pub(super) struct One {
    /// The recording's number
    #[arg(value_name = "ID")]
    id: i64,
}

/// Which recording to fetch, and where to.
#[derive(Args, Clone, Debug)]
pub(super) struct Fetch {
    /// The recording's number
    #[arg(value_name = "ID")]
    id: i64,
    /// Write it to this file; `-` writes it to standard output [default: the name that it has on the server]
    #[arg(short, long, value_name = "FILE|-")]
    output: Option<PathBuf>,
}

/// `holdfast recordings [DEVICE]`.
pub(super) async fn list(
    api: &ApiClient,
    selection: &Selection,
    output: &mut Output,
) -> Result<(), CliError> {
    let query: Vec<_> = selection.device.iter().map(|device| ("device", device.clone())).collect();
    let mut table =
        Table::new(&["ID", "DEVICE", "CAMERA", "STATE", "STARTED", "LENGTH", "SIZE", "WHO", "REASON"]);
    let mut is_empty = true;
    let read = api.each(PATH, &query, |recording: RecordingView| {
        is_empty = false;
        if output.json {
            return Ok(output.json_line(&recording)?);
        }
        let style = match recording.state.as_str() {
            "failed" => Style::Bad,
            "done" => Style::Dim,
            _ => Style::Good,
        };
        table.row([
            Cell::plain(recording.id),
            Cell::plain(&recording.device),
            Cell::plain(&recording.camera),
            Cell::styled(style, &recording.state),
            Cell::plain(clock(recording.started)),
            Cell::plain(span::of_seconds(recording.seconds.max(0.0) as u64)),
            Cell::plain(size(recording.bytes)),
            Cell::plain(&recording.who),
            Cell::plain(or_dash(recording.reason.as_ref())),
        ]);
        Ok(())
    });
    read.await?;
    match (output.json, is_empty) {
        (true, _) => Ok(()),
        (false, true) => {
            eprintln!("There are no recordings. `holdfast recording start DEVICE` begins one.");
            Ok(())
        }
        (false, false) => Ok(output.table(&table)?),
    }
}

/// `holdfast recording start|stop|fetch|delete`.
pub(super) async fn one(api: &ApiClient, verb: &Verb, output: &mut Output) -> Result<(), CliError> {
    let (recording, done): (RecordingView, _) = match verb {
        Verb::Start(Start { device, camera, span }) => {
            let path = camera_path(api, device, camera.as_deref(), "/recordings").await?;
            let request = RecordingRequest { seconds: span.map(|span| span.as_secs().max(1)) };
            (api.post(&path, &request).await?, "is being made")
        }
        Verb::Stop(One { id }) => (post(api, *id, "stop").await?, "was told to end"),
        Verb::Delete(One { id }) => (post(api, *id, "delete").await?, "was deleted"),
        Verb::Fetch(arguments) => return fetch(api, arguments, output).await,
    };
    if output.json {
        return Ok(output.json_line(&recording)?);
    }
    let (device, camera) = (Cell::plain(&recording.device), Cell::plain(&recording.camera));
    let id = recording.id;
    let next = match verb {
        Verb::Start(_) => format!("; `holdfast recording stop {id}` ends it"),
        _ => String::new(),
    };
    Ok(output.line(&format!("Recording {id} of {device}, camera {camera}, {done}{next}."))?)
}

async fn post(api: &ApiClient, id: i64, what: &str) -> Result<RecordingView, CliError> {
    api.tell(&format!("{PATH}/{id}/{what}")).await
}

async fn fetch(api: &ApiClient, arguments: &Fetch, output: &mut Output) -> Result<(), CliError> {
    let recording: RecordingView = api.get(&with_query(&format!("{PATH}/{}", arguments.id), &[])).await?;
    let path = format!("{PATH}/{}/file.mp4", arguments.id);
    let target = match &arguments.output {
        Some(target) if target.as_os_str() == "-" => {
            let mut output = io::stdout().lock();
            api.download(&path, async |bytes| Ok(output.write_all(bytes)?)).await?;
            return Ok(output.flush()?);
        }
        Some(target) => target.clone(),
        // A server may name its files as it likes; here it is one in this directory.
        None => PathBuf::from(recording.file.replace(['/', '\\'], "-").trim_start_matches('.')),
    };
    let failed = |error| CliError::failed(format!("can't write {}: {error}", target.display()));
    let mut file = match &arguments.output {
        Some(_) => File::create(&target),
        None => File::create_new(&target),
    }
    .map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::failed(format!("{} is there already; -o {0} writes over it", target.display()))
        }
        _ => failed(error),
    })?;
    api.download(&path, async |bytes| file.write_all(bytes).map_err(failed)).await?;
    let bytes = fs::metadata(&target).map_err(failed)?.len();
    if output.json {
        let told = serde_json::json!({ "id": recording.id, "file": target, "bytes": bytes });
        return Ok(output.json_line(&told)?);
    }
    Ok(output.line(&format!("{} has {}.", target.display(), size(bytes)))?)
}
