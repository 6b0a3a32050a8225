//! `messages` and `events`: what there is, and what comes.

use clap::Args;
use jiff::{Timestamp, civil::DateTime};
use protocol_core::escape::{Escaped, EscapedBytes};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    api_client::{ApiClient, with_query},
    error::CliError,
    output::{Cell, Output, Style, clock, details, reader_zone},
};
use crate::{
    api::view::{EventView, MessageView, Time},
    id::UnixMillis,
    span,
};

/// Which messages or events to show.
#[derive(Args, Clone, Debug)]
pub(super) struct Selection {
    /// Only of this device
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    /// Stay, and show more as it comes; Ctrl-C ends it
    #[arg(long, short)]
    follow: bool,
    /// Only what came since then: a span such as 1h, or a moment such as '2026-11-22 08:00' or 2026-11-22T07:00:00Z
    #[arg(long, value_name = "SPAN|TIME", value_parser = parse_since)]
    since: Option<Time>,
}

/// `holdfast messages`.
pub(super) async fn messages(
    api: &ApiClient,
    selection: &Selection,
    output: &mut Output,
) -> Result<(), CliError> {
    show(api, "/api/v1/messages", selection, output, |output, message: &MessageView| {
        let arrow = match message.direction.as_str() {
            "in" => "<",
            _ => ">",
        };
        // Neither of them is ours to choose.
        let (device, kind) = (Escaped(&message.device), Escaped(&message.kind));
        let state = match message.state.as_deref() {
            None | Some("delivered") => String::new(),
            Some(state) => output.styled(Style::Dim, &format!(" [{}]", Escaped(state))),
        };
        let time = output.styled(Style::Dim, &clock(message.received));
        let body = message.body_bytes();
        output.line(&format!("{time}  {device} {arrow} {kind}{state}  {}", EscapedBytes(&body)))
    })
    .await
}

/// `holdfast events`.
pub(super) async fn events(
    api: &ApiClient,
    selection: &Selection,
    output: &mut Output,
) -> Result<(), CliError> {
    show(api, "/api/v1/events", selection, output, |output, event: &EventView| {
        let mut line = output.styled(Style::Dim, &clock(event.at));
        line.push_str("  ");
        line.push_str(&output.styled(style(&event.kind), &Cell::plain(&event.kind).to_string()));
        for (name, value) in [("", &event.device), ("from ", &event.address), ("by ", &event.who)] {
            if let Some(value) = value {
                line.push_str(&format!("  {name}{}", Escaped(value)));
            }
        }
        if !event.detail.is_empty() {
            line.push_str(&format!("  {}", Cell::plain(details(&event.detail))));
        }
        output.line(&line)
    })
    .await
}

fn style(kind: &str) -> Style {
    match kind {
        "device-connected" | "server-started" | "disk-recovered" => Style::Good,
        "device-lost" | "message-conflict" | "message-passed-over" => Style::Bad,
        "store-failed" | "store-missing" | "key-missing" | "disk-full" => Style::Bad,
        kind if kind.ends_with("-refused") => Style::Bad,
        _ => Style::Plain,
    }
}

async fn show<T: DeserializeOwned + Serialize>(
    api: &ApiClient,
    path: &str,
    selection: &Selection,
    output: &mut Output,
    mut line: impl FnMut(&mut Output, &T) -> std::io::Result<()>,
) -> Result<(), CliError> {
    let mut query = Vec::new();
    query.extend(selection.device.iter().map(|device| ("device", device.clone())));
    query.extend(selection.since.map(|since| ("since", since.to_string())));
    let mut entry = |output: &mut Output, item: T| match output.json {
        true => output.json_line(&item).map_err(CliError::from),
        false => line(output, &item).map_err(CliError::from),
    };
    if selection.follow {
        query.push(("follow", "true".to_owned()));
        return api.follow(&with_query(path, &query), output, entry).await;
    }
    api.each(path, &query, |item| entry(output, item)).await
}

/// A moment: so long ago, or that of a calendar.
fn parse_since(text: &str) -> Result<Time, String> {
    if let Ok(span) = span::parse(text) {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        return Ok(Time(UnixMillis(UnixMillis::now().0.saturating_sub(millis))));
    }
    let moment = text.parse::<Timestamp>().or_else(|_| {
        // Without a zone it is the reader's, in which all times are shown.
        Ok(text.parse::<DateTime>()?.to_zoned(reader_zone())?.timestamp())
    });
    let moment = moment.map_err(|_: jiff::Error| {
        format!(
            "expected a span such as 1h, or a moment such as '2026-11-22 08:00' or 2026-11-22T08:00:00Z, found {text:?}"
        )
    })?;
    Ok(Time(UnixMillis(moment.as_millisecond())))
}

#[cfg(test)]
mod tests {
    use super::{parse_since, reader_zone};

    #[test]
    fn moments_are_the_readers_unless_they_name_a_zone() {
        let millis = |text: &str| parse_since(text).unwrap().0.0;
        assert_eq!(millis("2026-11-22T08:00:00Z"), 1_795_334_400_000);
        assert_eq!(millis("2026-11-22T09:00:00+01:00"), 1_795_334_400_000);
        let local =
            "2026-11-22T08:00".parse::<jiff::civil::DateTime>().unwrap().to_zoned(reader_zone()).unwrap();
        assert_eq!(millis("2026-11-22 08:00"), local.timestamp().as_millisecond());
        for bad in ["yesterday", "2026-11-22T08:00:00Y", "2026-13-01", ""] {
            assert!(parse_since(bad).unwrap_err().contains("such as 1h"), "{bad}");
        }
    }
}
