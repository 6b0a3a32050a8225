//! What is printed: tables for people, one JSON object a line for programs.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use jiff::tz::TimeZone;
use protocol_core::escape::Escaped;
use serde::Serialize;
use serde_json::{Number, Value};

use crate::{api::view::Time, span};

/// Standard output, and how to write to it.
pub(super) struct Output {
    /// One object a line.
    pub(super) json: bool,
    colours: bool,
    writer: BufWriter<Stdout>,
}

/// How a cell or word stands out, where there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Good,
    Bad,
    Dim,
    Heading,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Heading => "\x1b[1m",
        }
    }
}

impl Output {
    /// Colours only on a terminal whose user has not asked for none (`NO_COLOR`).
    pub(super) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        let colours = wanted && stdout.is_terminal();
        Self { json, colours, writer: BufWriter::new(stdout) }
    }

    /// Writes a value as one line of JSON.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }

    /// Writes values as one line of JSON each.
    pub(super) fn json_lines(&mut self, values: &[impl Serialize]) -> io::Result<()> {
        values.iter().try_for_each(|value| self.json_line(value))
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.writer, "{line}")
    }

    /// Writes bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// What was written is there to be read.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// A text in a style, if there are colours.
    pub(super) fn styled(&self, style: Style, text: &str) -> String {
        match self.colours && style != Style::Plain {
            true => format!("{}{text}\x1b[0m", style.code()),
            false => text.to_owned(),
        }
    }

    /// Writes names and values, a line each; those without a value are left out.
    pub(super) fn facts(&mut self, facts: &[(&str, Option<String>)]) -> io::Result<()> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
        for (name, value) in facts {
            if let Some(value) = value {
                let name = self.styled(Style::Dim, &format!("{name:<width$}"));
                writeln!(self.writer, "{name}{}", Escaped(value))?;
            }
        }
        Ok(())
    }

    /// Writes a table: what stands in its cells is escaped.
    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        let widths = table.widths();
        let headings = table.headings.iter().map(|heading| Cell::styled(Style::Heading, *heading)).collect();
        for row in std::iter::once(&headings).chain(&table.rows) {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padding = match index + 1 == row.len() {
                    true => 0,
                    false => width.saturating_sub(columns(&cell.text)) + 2,
                };
                line.push_str(&self.styled(cell.style, &cell.text));
                line.extend(std::iter::repeat_n(' ', padding));
            }
            writeln!(self.writer, "{}", line.trim_end_matches(' '))?;
        }
        Ok(())
    }
}

/// A table, to be shown as a whole.
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A cell of a table, escaped.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell without a style.
    pub(super) fn plain(value: impl ToString) -> Self {
        Self::styled(Style::Plain, value.to_string())
    }

    /// A cell in a style.
    pub(super) fn styled(style: Style, text: impl AsRef<str>) -> Self {
        Self { text: Escaped(text.as_ref()).to_string(), style }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Table {
    /// A table without rows.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each heading.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| columns(heading)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = columns(&cell.text).max(*width);
            }
        }
        widths
    }
}

/// How many columns a text takes, near enough: wide letters are rare here, and shift a row at most.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// A value, or a dash where there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How long ago a moment was: `3m`, `2d4h`; `0s` if it has not come.
pub(super) fn ago(time: Time, now: Time) -> String {
    let millis = u64::try_from(now.0.0.saturating_sub(time.0.0)).unwrap_or(0);
    span::of_seconds(millis / 1000)
}

/// A moment as the clock on the reader's wall shows it: `2026-11-22 08:30:01 CET`.
pub(super) fn clock(time: Time) -> String {
    in_zone(time, reader_zone())
}

fn in_zone(time: Time, zone: TimeZone) -> String {
    time.timestamp().to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The time zone that `TZ` or else this machine says; UTC if it is not known.
pub(super) fn reader_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// A moment, exactly and as how long ago it was.
pub(super) fn exact_and_ago(time: Time, now: Time) -> String {
    format!("{} ({} ago)", clock(time), ago(time, now))
}

/// A size for people: `512 B`, `1.5 KB`, `20 MB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1000.0 {
            return match unit == "B" || value >= 10.0 {
                true => format!("{value:.0} {unit}"),
                false => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A round trip: `0.4 ms`, `85 ms`.
pub(super) fn round_trip(millis: f64) -> String {
    match millis < 10.0 {
        true => format!("{millis:.1} ms"),
        false => format!("{millis:.0} ms"),
    }
}

/// How many messages: `1 message`, `3 messages`.
pub(super) fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    }
}

/// What a device reports of itself, for people: `disk-free 25 GB, uptime 4h45m`. The end of a name is its unit.
pub(super) fn readings(readings: &serde_json::Map<String, Value>) -> String {
    let part = |(name, value): (&String, &Value)| {
        // Some programs only have numbers with a point.
        let whole = value.as_u64().or_else(|| value.as_f64().map(|value| value as u64));
        match (name.strip_suffix("-bytes"), name.strip_suffix("-seconds"), whole, value) {
            (Some(name), _, Some(bytes), _) => format!("{name} {}", size(bytes)),
            (_, Some(name), Some(seconds), _) => format!("{name} {}", span::of_seconds(seconds)),
            (_, _, _, Value::Number(number)) => format!("{name} {}", figure(number)),
            (_, _, _, Value::String(text)) => format!("{name} {text}"),
            _ => format!("{name} {value}"),
        }
    };
    readings.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Names and values of a JSON object on one line: `reason=lost text="no answer"`. What has no value is left out.
pub(super) fn details(detail: &serde_json::Map<String, Value>) -> String {
    let parts: Vec<String> = detail
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => {
                format!("{name}={text}")
            }
            Value::Number(number) => format!("{name}={}", figure(number)),
            other => format!("{name}={other}"),
        })
        .collect();
    parts.join(" ")
}

/// A number for people: at most two digits behind the point, and no point where nothing stands behind it.
fn figure(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use jiff::tz::TimeZone;

    use super::{Cell, Table, ago, details, in_zone, messages, readings, round_trip, size};
    use crate::{api::view::Time, id::UnixMillis};

    #[test]
    fn cells_can_not_break_out_of_their_row() {
        let mut table = Table::new(&["NAME", "HOST"]);
        table.row([Cell::plain("a"), Cell::plain("x\n\x1b[31mfake  online")]);
        assert_eq!(table.rows[0][1].text, "x\\n\\u{1b}[31mfake  online");
        assert_eq!(table.widths()[0], 4);
    }

    #[test]
    fn times_are_those_of_the_reader() {
        let time = Time(UnixMillis(1_795_332_601_999));
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(in_zone(time, berlin.clone()), "2026-11-22 08:30:01 CET");
        assert_eq!(in_zone(time, TimeZone::UTC), "2026-11-22 07:30:01 UTC");
        // What a device claims may be beyond every calendar.
        for claimed in [i64::MIN, i64::MAX] {
            assert!(in_zone(Time(UnixMillis(claimed)), berlin.clone()).ends_with(" CET"));
        }
    }

    #[test]
    fn figures_for_people() {
        let at = |seconds: i64| Time(UnixMillis(seconds * 1000));
        assert_eq!(ago(at(0), at(0)), "0s");
        assert_eq!(ago(at(10), at(0)), "0s");
        assert_eq!(ago(at(0), at(200)), "3m20s");
        assert_eq!([size(999), size(1500), size(20_000_000)], ["999 B", "1.5 KB", "20 MB"]);
        assert_eq!([round_trip(0.44), round_trip(85.4)], ["0.4 ms", "85 ms"]);
        assert_eq!([messages(0), messages(1), messages(2)], ["0 messages", "1 message", "2 messages"]);
    }

    #[test]
    fn readings_have_units() {
        let status = json!({
            "disk-free-bytes": 25_036_886_016.0, "load-1-minute": 6.634, "uptime-seconds": 17_096, "mode": "eco",
        });
        let shown = "disk-free 25 GB, load-1-minute 6.63, mode eco, uptime 4h44m";
        assert_eq!(readings(status.as_object().unwrap()), shown);
    }

    #[test]
    fn details_on_one_line() {
        let detail = json!({ "reason": "lost", "text": "no answer", "count": 3, "name": null });
        assert_eq!(details(detail.as_object().unwrap()), "count=3 reason=lost text=\"no answer\"");
        let readings = json!({ "free": 42_553_028_608.0, "load": 17.486_328 });
        assert_eq!(details(readings.as_object().unwrap()), "free=42553028608 load=17.49");
    }
}
