//! `reboot`.

use std::time::Duration;

use clap::Args;
use protocol_core::task::REBOOT;

use super::{
    api_client::ApiClient,
    devices::path,
    error::CliError,
    output::{Cell, Output, ago},
};
use crate::api::view::{TaskRequest, TaskView};

/// How often it is looked whether a device is back.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The arguments of `reboot`.
#[derive(Args, Clone, Debug)]
pub(super) struct Reboot {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Wait until the device is back, or has not gone down in ten minutes
    #[arg(long)]
    wait: bool,
}

/// `holdfast reboot DEVICE`.
pub(super) async fn reboot(api: &ApiClient, arguments: &Reboot, output: &mut Output) -> Result<(), CliError> {
    let request = TaskRequest { kind: REBOOT.to_owned() };
    let mut task: TaskView = api.begin_task(&path(&arguments.device, "/tasks"), &request).await?;
    let device = Cell::plain(&task.device);
    // One that goes down without a word may be back before the server has had its answer.
    if task.ended.is_none() {
        if !arguments.wait {
            return match output.json {
                true => Ok(output.json_line(&task)?),
                false => {
                    let next = format!("`holdfast task show {}` tells when it is back.", task.id);
                    Ok(output.line(&format!("{device} goes down. {next}"))?)
                }
            };
        }
        if !output.json {
            eprintln!("{device} goes down. Ctrl-C ends the waiting, not the restart.");
        }
        task = ended(api, task.id).await?;
    }
    let lasted = ago(task.requested, task.ended.unwrap_or(task.requested));
    match (output.json, task.state.as_str()) {
        (true, _) => output.json_line(&task)?,
        (false, "done") => output.line(&format!("{device} is back after {lasted}."))?,
        (false, _) => {}
    }
    match task.state.as_str() {
        "done" => Ok(()),
        _ => Err(CliError::failed(format!("{device}: {}", task.reason.unwrap_or_default()))),
    }
}

/// Waits until the task has ended, as every task does; also while the server itself starts anew.
async fn ended(api: &ApiClient, id: i64) -> Result<TaskView, CliError> {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        match api.get::<TaskView>(&format!("/api/v1/tasks/{id}")).await {
            Ok(task) if task.ended.is_some() => return Ok(task),
            Ok(_) => {}
            Err(error) if error.may_pass() => {}
            Err(error) => return Err(error),
        }
    }
}
