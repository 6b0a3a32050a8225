//! `tasks`, `task`.

use clap::{Args, Subcommand};
use protocol_core::task::REBOOT;

use super::{
    api_client::{ApiClient, with_query},
    error::CliError,
    output::{Cell, Output, Style, Table, ago, clock, exact_and_ago, or_dash, size},
};
use crate::api::view::{Page, TaskView, Time};

/// Which tasks to show.
#[derive(Args, Clone, Debug)]
pub(super) struct Selection {
    /// Only of this device
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    /// Only those that have not ended: all of them
    #[arg(long)]
    open: bool,
    /// Only the newest, so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// All that there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Selection {
    /// Asks for them, and gives them oldest first; and whether there are more.
    async fn read(
        &self,
        api: &ApiClient,
        mut entry: impl FnMut(TaskView) -> Result<(), CliError>,
    ) -> Result<bool, CliError> {
        let device = self.device.iter().map(|device| ("device", device.clone()));
        let mut query: Vec<_> = device.chain([("open", self.open.to_string())]).collect();
        if self.all || self.open {
            api.each(PATH, &query, entry).await?;
            return Ok(false);
        }
        query.extend([("before", i64::MAX.to_string()), ("limit", self.limit.to_string())]);
        let Page { items, next } = api.get::<Page<TaskView>>(&with_query(PATH, &query)).await?;
        items.into_iter().try_for_each(&mut entry)?;
        Ok(next.is_some())
    }
}

const PATH: &str = "/api/v1/tasks";

/// What is to be done with one task.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Verb {
    /// Show all that is known of a task
    #[command(after_help = "Example:\n  holdfast task show 17")]
    Show(One),
    /// Stop a task
    #[command(after_help = "Example:\n  holdfast task stop 17")]
    Stop(One),
}

/// One task.
#[derive(Args, Clone, Debug)]
pub(super) struct One {
    /// The task's number
    #[arg(value_name = "ID")]
    id: i64,
}

/// `holdfast tasks [DEVICE]`.
pub(super) async fn list(
    api: &ApiClient,
    selection: &Selection,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut table =
        Table::new(&["ID", "DEVICE", "KIND", "STATE", "WHO", "REQUESTED", "LASTED", "IN", "OUT", "REASON"]);
    let now = Time::now();
    let mut is_empty = true;
    let read = selection.read(api, |task| {
        is_empty = false;
        if output.json {
            return Ok(output.json_line(&task)?);
        }
        let lasted = task.started.map(|started| ago(started, task.ended.unwrap_or(now)));
        table.row([
            Cell::plain(task.id),
            Cell::plain(&task.device),
            Cell::plain(&task.kind),
            state(&task),
            Cell::plain(&task.who),
            Cell::plain(clock(task.requested)),
            Cell::plain(or_dash(lasted)),
            Cell::plain(size(task.bytes_in)),
            Cell::plain(size(task.bytes_out)),
            Cell::plain(or_dash(task.reason.as_ref())),
        ]);
        Ok(())
    });
    let has_more = read.await?;
    match (output.json, is_empty) {
        (true, _) => {}
        (false, true) if selection.open => {
            eprintln!("No task is open; without --open those that have ended are shown.")
        }
        (false, true) => eprintln!("There are no tasks. `holdfast ssh DEVICE` begins one."),
        (false, false) => output.table(&table)?,
    }
    if has_more {
        output.flush()?;
        eprintln!("These are the newest {}; --all shows all.", selection.limit);
    }
    Ok(())
}

fn state(task: &TaskView) -> Cell {
    let style = match task.state.as_str() {
        "failed" | "lost" => Style::Bad,
        "done" => Style::Dim,
        _ => Style::Good,
    };
    Cell::styled(style, &task.state)
}

/// `holdfast task show|stop ID`.
pub(super) async fn one(api: &ApiClient, verb: &Verb, output: &mut Output) -> Result<(), CliError> {
    match verb {
        Verb::Show(One { id }) => show(api.get(&format!("/api/v1/tasks/{id}")).await?, output),
        Verb::Stop(One { id }) => {
            let task: TaskView = api.tell(&format!("/api/v1/tasks/{id}/stop")).await?;
            if output.json {
                return Ok(output.json_line(&task)?);
            }
            let device = Cell::plain(&task.device);
            Ok(output.line(&format!("Task {id} of {device} was told to stop."))?)
        }
    }
}

fn show(task: TaskView, output: &mut Output) -> Result<(), CliError> {
    if output.json {
        return Ok(output.json_line(&task)?);
    }
    let now = Time::now();
    let exactly = |time: Option<Time>| time.map(|time| exact_and_ago(time, now));
    let carried = |bytes| (task.kind != REBOOT).then(|| size(bytes));
    let (from_device, to_device) = (carried(task.bytes_in), carried(task.bytes_out));
    output.facts(&[
        ("task", Some(task.id.to_string())),
        ("device", Some(task.device)),
        ("kind", Some(task.kind)),
        ("state", Some(task.state)),
        ("reason", task.reason),
        ("asked for by", Some(task.who)),
        ("from", task.address),
        ("requested", exactly(Some(task.requested))),
        ("running since", exactly(task.started)),
        ("ended", exactly(task.ended)),
        ("from the device", from_device),
        ("to the device", to_device),
    ])?;
    if let Some(written) = task.output {
        output.line("It wrote at last:")?;
        for line in written.lines() {
            output.line(&format!("  {}", Cell::plain(line)))?;
        }
    }
    Ok(())
}
