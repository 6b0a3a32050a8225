//! A stream of server-sent events, as it comes.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use super::MAX_ANSWER;

/// A stream of server-sent events.
pub(super) struct EventStream {
    body: Incoming,
    parser: Parser,
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StreamMessage {
    /// By which a stream goes on that was cut behind it.
    pub(super) id: Option<String>,
    pub(super) data: String,
}

impl EventStream {
    /// The events in this answer.
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default() }
    }

    /// The next bytes; none if the stream is at its end, or was cut.
    pub(super) async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some(data);
            }
        }
    }

    /// The events that are whole with these bytes.
    ///
    /// # Errors
    /// A line is longer than any that is read.
    pub(super) fn take(&mut self, chunk: &[u8]) -> Result<Vec<StreamMessage>, String> {
        self.parser.take(chunk)
    }
}

/// What has come of an event that is not whole.
#[derive(Default)]
struct Parser {
    /// Of its last line.
    rest: Vec<u8>,
    id: Option<String>,
    data: Option<String>,
}

impl Parser {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<StreamMessage>, String> {
        let Self { rest, id, data } = self;
        let mut messages = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            if rest.len() + part.len() > MAX_ANSWER {
                return Err(format!("expected lines of at most {MAX_ANSWER} bytes, found a longer one"));
            }
            rest.extend_from_slice(part);
            let Some(line) = rest.strip_suffix(b"\n") else { break };
            let line = String::from_utf8_lossy(line);
            match line.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value))) {
                None if line.is_empty() => {
                    messages.extend(data.take().map(|data| StreamMessage { id: id.take(), data }));
                }
                Some(("id", value)) => *id = Some(value.to_owned()),
                Some(("data", value)) => data.get_or_insert_default().push_str(value),
                // A comment, which only shows that the stream lives; or what a newer server adds.
                _ => {}
            }
            rest.clear();
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::{Parser, StreamMessage};

    #[test]
    fn a_stream_split_anywhere_gives_the_same_messages() {
        let text = b": hello\nid: 1\ndata: {\"a\":1}\n\nid: 22\nevent: x\ndata:two\n\n\n";
        let expected = [
            StreamMessage { id: Some("1".into()), data: "{\"a\":1}".into() },
            StreamMessage { id: Some("22".into()), data: "two".into() },
        ];
        for split in 0..text.len() {
            let mut parser = Parser::default();
            let (first, second) = text.split_at(split);
            let mut messages = parser.take(first).unwrap();
            messages.extend(parser.take(second).unwrap());
            assert_eq!(messages, expected, "split at {split}");
        }
    }
}
