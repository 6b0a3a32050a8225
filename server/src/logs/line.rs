//! One line for each message and event.

use std::fmt::Write;

use protocol_core::escape::{Escaped, EscapedBytes};
use serde_json::Value;

use crate::{
    event::EventRow,
    store::{MessageRow, UnixMillis},
};

/// `TIME DEVICE in|out KIND TEXT`: all behind the kind is the message's text.
pub(super) fn message(row: &MessageRow, line: &mut String) {
    begin(row.received_at, Some(&row.device), line);
    // Writing to a string can't fail, here and below.
    _ = writeln!(line, " {} {} {}", row.direction.name(), Escaped(&row.kind), EscapedBytes(&row.body));
}

/// `TIME DEVICE event KIND NAME=VALUE …`, with `-` for an event that is no device's.
pub(super) fn event(row: &EventRow, line: &mut String) {
    begin(row.at, row.device.as_deref(), line);
    _ = write!(line, " event {}", Escaped(&row.kind));
    if let Some(session) = row.session {
        _ = write!(line, " session={session}");
    }
    for (name, value) in [("address", &row.address), ("who", &row.who)] {
        if let Some(value) = value {
            pair(name, &Value::String(value.clone()), line);
        }
    }
    for (name, value) in &row.detail {
        pair(name, value, line);
    }
    line.push('\n');
}

fn begin(at: UnixMillis, device: Option<&str>, line: &mut String) {
    // Names have no spaces: those of devices by their rule, those of classic clients as they are addresses.
    _ = write!(line, "{} {}", at.rfc_3339(), Escaped(device.unwrap_or("-")));
}

fn pair(name: &str, value: &Value, line: &mut String) {
    _ = write!(line, " {}=", Escaped(name));
    _ = match value {
        Value::String(text) if text.bytes().all(is_plain) && !text.is_empty() => line.write_str(text),
        Value::String(text) => quoted(text, line),
        Value::Null | Value::Bool(_) | Value::Number(_) => write!(line, "{value}"),
        Value::Array(_) | Value::Object(_) => quoted(&value.to_string(), line),
    };
}

fn quoted(text: &str, line: &mut String) -> std::fmt::Result {
    // Backslashes have been doubled before, so those that are added here can't be mistaken.
    write!(line, "\"{}\"", Escaped(text).to_string().replace('"', "\\\""))
}

/// What needs no quotation marks.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{event, message};
    use crate::{
        event::EventRow,
        store::{Direction, EventId, MessageId, MessageRow, RandomId, SessionId, UnixMillis},
    };

    const AT: UnixMillis = UnixMillis(1_795_312_923_456);

    fn line_of(body: &[u8]) -> String {
        let row = MessageRow {
            id: MessageId(1),
            device: "pi-7".to_owned(),
            direction: Direction::In,
            kind: "text".to_owned(),
            received_at: AT,
            time: None,
            stream: RandomId(1),
            number: 1,
            session: None,
            expires_at: None,
            expired_at: None,
            delivered_at: None,
            body: body.to_vec(),
        };
        let mut line = String::new();
        message(&row, &mut line);
        line
    }

    #[test]
    fn a_message_is_one_line_whatever_it_says() {
        assert_eq!(line_of(b"all is well"), "2026-11-22T02:02:03.456Z pi-7 in text all is well\n");
        assert_eq!(line_of(b""), "2026-11-22T02:02:03.456Z pi-7 in text \n");
        let forged = line_of("x\n2026-11-22T02:02:03.456Z pi-8 in text y\r\u{2028}z\u{1b}[1A".as_bytes());
        assert_eq!(forged.matches('\n').count(), 1);
        assert!(
            forged.ends_with("text x\\n2026-11-22T02:02:03.456Z pi-8 in text y\\r\\u{2028}z\\u{1b}[1A\n")
        );
    }

    #[test]
    fn an_event_is_one_line_of_pairs() {
        let detail = json!({ "reason": "lost", "text": "no \"answer\"\nfor 40 s", "n": 3, "list": ["a"] });
        let row = EventRow {
            id: EventId(1),
            at: AT,
            kind: "device-lost".to_owned(),
            device: Some("pi-7".to_owned()),
            session: Some(SessionId(12)),
            address: Some("2001:db8::7".to_owned()),
            who: Some("Jo Doe".to_owned()),
            detail: serde_json::from_value(detail).unwrap(),
        };
        let mut line = String::new();
        event(&row, &mut line);
        assert_eq!(
            line,
            "2026-11-22T02:02:03.456Z pi-7 event device-lost session=12 address=2001:db8::7 who=\"Jo Doe\" \
             list=\"[\\\"a\\\"]\" n=3 reason=lost text=\"no \\\"answer\\\"\\nfor 40 s\"\n"
        );
    }
}
