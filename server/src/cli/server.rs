//! `serve`, `status`, `stop`.

use std::{net::SocketAddr, os::fd::OwnedFd, path::Path, process::ExitCode, time::Duration};

use clap::Args;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit},
};

use super::{
    api_client::ApiClient,
    error::CliError,
    log,
    output::{Output, ago, exact_and_ago, messages},
};
use crate::{
    api::view::{StatusView, StopAnswer, Time},
    config::{Config, Overrides},
    serve, span,
};

/// The arguments of `stop`.
#[derive(Args, Clone, Debug)]
pub(super) struct Stop {
    /// Wait so long for the server to end; 0 does not wait
    #[arg(long, default_value = "30s", value_name = "SPAN", value_parser = span::parse)]
    wait: Duration,
}

/// `holdfast serve`: runs the server until it is told to stop.
pub(super) fn serve(data: &Path, overrides: &Overrides) -> Result<ExitCode, CliError> {
    let config = Config::load(data, overrides)?;
    log::start(&config.log)?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve::run(config)).map_err(|error| CliError::failed(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes all the open files that the system allows: each connection is one, and the usual limit is low.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "the limit of open files can't be raised");
    }
}

/// `holdfast status`.
pub(super) async fn status(api: &ApiClient, output: &mut Output) -> Result<(), CliError> {
    let status: StatusView = api.get("/api/v1/status").await?;
    if output.json {
        return Ok(output.json_line(&status)?);
    }
    let now = Time::now();
    let off = || "off".to_owned();
    let you = api.operator().map(|(name, role)| format!("{name}, {}", role.unwrap_or_default()));
    output.facts(&[
        ("you", you),
        ("version", Some(status.version)),
        ("running since", Some(exact_and_ago(status.started, now))),
        ("process", Some(status.pid.to_string())),
        ("devices", Some(format!("{} of {} online", status.online, status.devices))),
        ("classic clients", Some(format!("{} connected", status.classic_online))),
        ("queued", Some(format!("{} for devices", messages(status.queued)))),
        ("devices connect to", Some(status.listen)),
        ("classic", Some(status.classic.unwrap_or_else(off))),
        ("metrics", Some(status.http.map_or_else(off, |address| metrics_at(&address)))),
        ("console", Some(status.console.join(" ")).filter(|addresses| !addresses.is_empty())),
        ("key", Some(status.pin)),
        ("store", Some(status.store)),
    ])?;
    Ok(())
}

/// Where metrics are to be had, of a server that has its HTTP there.
fn metrics_at(address: &str) -> String {
    match address.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback()) {
        true => format!("http://{address}/metrics"),
        false => "by TLS, with an access token: /api/v1/metrics".to_owned(),
    }
}

/// `holdfast stop`: asks the server to stop, and waits until its process has ended.
pub(super) async fn stop(api: &ApiClient, stop: &Stop, output: &mut Output) -> Result<(), CliError> {
    // Taken hold of before it is asked to end: later its number may be another process's.
    let process = api.server_process().await?.and_then(process);
    let before = Time::now();
    let answer: StopAnswer = api.tell("/api/v1/stop").await?;
    let ended = match process {
        Some(process) if !stop.wait.is_zero() => {
            if !has_ended(&process, stop.wait)? {
                return Err(CliError::failed(format!(
                    "the server (process {}) still stops after {}: look at its log, or kill it",
                    answer.pid,
                    span::shortened(stop.wait)
                )));
            }
            true
        }
        _ => false,
    };
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let line = match ended {
        true => format!("the server has stopped, after {}", ago(before, Time::now())),
        false => "the server stops".to_owned(),
    };
    Ok(output.line(&line)?)
}

/// A hold on a process, whatever becomes of its number; nothing if there is no such process.
fn process(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Waits for the end of the process: whether it came in time.
fn has_ended(process: &OwnedFd, time_limit: Duration) -> std::io::Result<bool> {
    let time_limit = Timespec::try_from(time_limit).unwrap_or_default();
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&time_limit))?;
    Ok(ready > 0)
}
