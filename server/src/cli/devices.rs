//! `devices`, `device`, `sessions`, `ping`, `revoke`.

use clap::Args;

use super::{
    api_client::{ApiClient, encoded},
    error::CliError,
    output::{
        Cell, Output, Style, Table, ago, clock, exact_and_ago, messages, or_dash, readings, round_trip, size,
    },
};
use crate::{
    api::view::{DeviceView, Page, PingAnswer, RevokeAnswer, SessionView, Time},
    span,
};

/// A device that must be named.
#[derive(Args, Clone, Debug)]
pub(super) struct One {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    pub(super) device: String,
}

/// A device, or an operator.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Revoked {
    /// The device's name
    #[arg(value_name = "DEVICE")]
    pub(super) device: Option<String>,
    /// A person who works from elsewhere; what they have open ends
    #[arg(long, value_name = "NAME")]
    pub(super) operator: Option<String>,
}

/// A device that may be named.
#[derive(Args, Clone, Debug)]
pub(super) struct Perhaps {
    /// Only of this device
    #[arg(value_name = "DEVICE")]
    pub(super) device: Option<String>,
}

/// The path of what is about one device.
pub(super) fn path(device: &str, rest: &str) -> String {
    format!("/api/v1/devices/{}{rest}", encoded(device))
}

/// `holdfast devices`.
pub(super) async fn list(api: &ApiClient, output: &mut Output) -> Result<(), CliError> {
    let Page { items, .. } = api.get::<Page<DeviceView>>("/api/v1/devices").await?;
    if output.json {
        return Ok(output.json_lines(&items)?);
    }
    let now = Time::now();
    let headings = ["NAME", "STATE", "LAST SEEN", "ADDRESS", "VERSION", "ROUND TRIP", "QUEUED"];
    let mut table = Table::new(&headings);
    for device in &items {
        table.row([
            Cell::plain(&device.name),
            state(device, now),
            Cell::plain(or_dash(device.last_seen.map(clock))),
            Cell::plain(or_dash(whence(device))),
            Cell::plain(or_dash(device.version.as_ref())),
            Cell::plain(or_dash(device.round_trip_ms.map(round_trip))),
            Cell::plain(device.queued),
        ]);
    }
    if items.is_empty() {
        eprintln!("No device is registered. `holdfast enroll` prints the line that adds one.");
        return Ok(());
    }
    Ok(output.table(&table)?)
}

/// The address, and the gateway of a wired device: `192.0.2.7 via kiosk`.
fn whence(device: &DeviceView) -> Option<String> {
    let via = device.gateway.as_ref().map(|gateway| format!("via {gateway}"));
    let parts: Vec<_> = device.address.clone().into_iter().chain(via).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// `online 3m`, `offline 2h`, `connected 5m (classic)`, `revoked`.
fn state(device: &DeviceView, now: Time) -> Cell {
    let classic = match device.kind.as_str() {
        "classic" => " (classic)",
        _ => "",
    };
    let for_so_long =
        |since: Option<Time>| since.map_or_else(String::new, |since| format!(" {}", ago(since, now)));
    if device.revoked.is_some() {
        return Cell::styled(Style::Bad, "revoked");
    }
    if device.online {
        // Of a classic client only its TCP connection is known: it answers to nothing.
        let word = if classic.is_empty() { "online" } else { "connected" };
        return Cell::styled(Style::Good, format!("{word}{}{classic}", for_so_long(device.since)));
    }
    match device.last_seen {
        None => Cell::styled(Style::Dim, format!("never seen{classic}")),
        seen => Cell::styled(Style::Dim, format!("offline{}{classic}", for_so_long(seen))),
    }
}

/// `holdfast device NAME`.
pub(super) async fn show(api: &ApiClient, name: &str, output: &mut Output) -> Result<(), CliError> {
    let device: DeviceView = api.get(&path(name, "")).await?;
    if output.json {
        return Ok(output.json_line(&device)?);
    }
    let now = Time::now();
    let exactly = |time: Option<Time>| time.map(|time| exact_and_ago(time, now));
    let state = match (device.online, device.revoked.is_some()) {
        (_, true) => "revoked",
        (true, _) if device.kind == "classic" => "connected (classic: known by its TCP connection only)",
        (true, _) => "online",
        (false, _) if device.last_seen.is_none() => "never seen",
        (false, _) => "offline",
    };
    let host_keys = match device.ssh_host_keys.as_slice() {
        [] => (device.kind == "agent").then(|| "none is registered".to_owned()),
        keys => Some(keys.join(", ")),
    };
    let kind = match &device.gateway {
        Some(gateway) => format!("wired to {gateway}"),
        None => device.kind,
    };
    output.facts(&[
        ("name", Some(device.name)),
        ("kind", Some(kind)),
        ("state", Some(state.to_owned())),
        ("online since", exactly(device.since)),
        ("last seen", exactly(device.last_seen)),
        ("revoked", exactly(device.revoked)),
        ("address", device.address),
        ("round trip", device.round_trip_ms.map(round_trip)),
        ("host name", device.host_name),
        ("agent version", device.version),
        ("ssh user", device.ssh_user),
        ("ssh host keys", host_keys),
        ("key", device.key),
        ("known since", exactly(Some(device.created))),
        ("sessions", Some(device.sessions.to_string())),
        ("connected", Some(span::of_seconds(device.connected_seconds))),
        ("received", Some(format!("{}, {}", messages(device.messages_in), size(device.bytes_in)))),
        ("sent", Some(format!("{}, {}", messages(device.messages_out), size(device.bytes_out)))),
        ("queued", Some(messages(device.queued))),
        (
            "status",
            device.status.map(|status| status.as_object().map_or_else(|| status.to_string(), readings)),
        ),
        ("status of", exactly(device.status_at)),
    ])?;
    Ok(())
}

/// `holdfast sessions [DEVICE]`.
pub(super) async fn sessions(
    api: &ApiClient,
    device: Option<&str>,
    output: &mut Output,
) -> Result<(), CliError> {
    let headings = ["DEVICE", "STARTED", "LASTED", "ADDRESS", "END", "IN", "OUT", "BYTES IN"];
    let mut table = Table::new(&headings);
    let now = Time::now();
    let query: Vec<_> = device.map(|device| ("device", device.to_owned())).into_iter().collect();
    api.each("/api/v1/sessions", &query, |session: SessionView| {
        if output.json {
            return Ok(output.json_line(&session)?);
        }
        let end = match (session.ended, session.reason) {
            (None, _) => Cell::styled(Style::Good, "open"),
            (Some(_), reason) => Cell::plain(reason.unwrap_or_default()),
        };
        table.row([
            Cell::plain(&session.device),
            Cell::plain(clock(session.started)),
            Cell::plain(ago(session.started, session.ended.unwrap_or(now))),
            Cell::plain(&session.address),
            end,
            Cell::plain(session.messages_in),
            Cell::plain(session.messages_out),
            Cell::plain(size(session.bytes_in)),
        ]);
        Ok(())
    })
    .await?;
    if !output.json {
        output.table(&table)?;
    }
    Ok(())
}

/// `holdfast ping DEVICE`.
pub(super) async fn ping(api: &ApiClient, name: &str, output: &mut Output) -> Result<(), CliError> {
    let answer: PingAnswer = api.tell(&path(name, "/ping")).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let name = Cell::plain(&answer.device);
    Ok(output.line(&format!("{name}: answered in {}", round_trip(answer.round_trip_ms)))?)
}

/// `holdfast revoke DEVICE`.
pub(super) async fn revoke(api: &ApiClient, name: &str, output: &mut Output) -> Result<(), CliError> {
    let answer: RevokeAnswer = api.tell(&path(name, "/revoke")).await?;
    if output.json {
        return Ok(output.json_line(&answer)?);
    }
    let name = Cell::plain(&answer.device);
    let then = if answer.was_online { " and disconnected" } else { "" };
    let again = Cell::plain(&answer.again);
    let key = if answer.gateway.is_some() { "" } else { ", with a new key" };
    output.line(&format!("{name} is revoked{then}. `{again}` lets it in again{key}."))?;
    if !answer.wired.is_empty() {
        let wired = Cell::plain(answer.wired.join(", "));
        output.line(&format!("What is wired to it is without a connection until then: {wired}"))?;
    }
    Ok(())
}
