//! What a task's process tells its agent: a line of JSON on its standard output for each step.

use std::io::{self, Write as _};

use protocol_core::message::Text;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use super::paced::Paced;

/// The longest line, in bytes.
const LONGEST_LINE: usize = 4 * 1024;

/// The longest text that a report has room for, in bytes.
const LONGEST_DETAIL: usize = 256;

/// A step of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Progress {
    /// It does what it is for.
    Running,
    /// It still does.
    Beat,
    /// It waits; what has not come yet, in words.
    Waiting(String),
    /// It has ended as it should.
    Done(String),
    /// It has ended otherwise.
    Failed(String),
}

/// Tells the agent of a step.
///
/// # Errors
/// Nobody listens any longer.
pub(super) fn tell(progress: &Progress) -> io::Result<()> {
    let mut line = serde_json::to_vec(progress)?;
    line.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&line)?;
    output.flush()
}

/// The beginning of a text that a report has room for.
pub(super) fn shortened(detail: &str) -> String {
    Text::<LONGEST_DETAIL>::shortened(detail).as_str().to_owned()
}

/// Why steps can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("it wrote a line that is none of its steps")]
    NotUnderstood,
    #[error("it wrote a line of more than {LONGEST_LINE} bytes")]
    TooLong,
    #[error("its steps could not be read: {0}")]
    Broken(#[from] io::Error),
}

/// The steps of a task as they come.
pub(super) struct Steps<R> {
    pipe: Paced<R>,
    /// What has come of the next lines: [`LONGEST_LINE`] bytes at most.
    held: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Steps<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe: Paced::new(pipe), held: Vec::new() }
    }

    /// The next step; nothing at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`LineError`]: no more can be told from there on.
    pub(super) async fn next(&mut self) -> Result<Option<Progress>, LineError> {
        loop {
            if let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|_| LineError::NotUnderstood);
            }
            if self.held.len() >= LONGEST_LINE {
                return Err(LineError::TooLong);
            }
            let mut room = [0; 1024];
            let most = room.len().min(LONGEST_LINE - self.held.len());
            let count = self.pipe.read(room.get_mut(..most).unwrap_or_default()).await?;
            if count == 0 {
                // Half a line is nothing that was told.
                return Ok(None);
            }
            self.held.extend_from_slice(room.get(..count).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> (Vec<Progress>, Result<(), LineError>) {
        let mut steps = Steps::new(text);
        let mut heard = Vec::new();
        loop {
            match steps.next().await {
                Ok(Some(step)) => heard.push(step),
                Ok(None) => return (heard, Ok(())),
                Err(error) => return (heard, Err(error)),
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn steps_are_read_as_they_are_written() {
        let all = [
            Progress::Running,
            Progress::Beat,
            Progress::Waiting("nobody has come".into()),
            Progress::Done("as\nit \"should\"".into()),
            Progress::Failed("é".into()),
        ];
        let mut text = Vec::new();
        for step in &all {
            text.extend(serde_json::to_vec(step).unwrap());
            text.push(b'\n');
        }
        let (heard, end) = read(&text).await;
        assert_eq!(heard, all);
        end.unwrap();
        let (heard, end) = read(b"\"running\"\n\"be").await;
        assert_eq!(heard, [Progress::Running]);
        end.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whatever_else_comes_ends_it() {
        for text in [&b"\n"[..], b"\"walking\"\n", b"{\"done\":1}\n", b"\xff\n"] {
            assert!(matches!(read(text).await.1, Err(LineError::NotUnderstood)));
        }
        assert!(matches!(read(&[b'x'; 100_000]).await.1, Err(LineError::TooLong)));
    }

    #[test]
    fn the_longest_detail_fits_a_line() {
        // The worst that escaping makes of a byte has six.
        assert!(shortened(&"\u{7f}".repeat(LONGEST_DETAIL)).is_empty(), "control characters end it");
        const { assert!(LONGEST_DETAIL * 6 + 20 < LONGEST_LINE) };
    }
}
