//! What a camera's program says on its standard error: the last of it is kept, in a form that can be shown.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use protocol_core::escape::EscapedBytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How many lines are kept.
const MOST_LINES: usize = 20;

/// How much of a line is kept, in bytes.
const LONGEST_LINE: usize = 512;

/// How much of a line is read to find out what of it must not be kept, in bytes.
const LONGEST_READ: usize = 8 * 1024;

/// The last lines that a program has said.
#[derive(Clone, Debug, Default)]
pub(super) struct Words(Arc<Mutex<VecDeque<String>>>);

impl Words {
    /// Reads until there is no more. Secrets are left out.
    pub(super) async fn hear<R: AsyncRead + Unpin>(&self, mut pipe: R, secrets: Vec<String>) {
        let (mut line, mut room) = (Vec::new(), [0; 1024]);
        while let Ok(count @ 1..) = pipe.read(&mut room).await {
            for byte in room.get(..count).unwrap_or_default() {
                match byte {
                    b'\n' | b'\r' => self.keep(&std::mem::take(&mut line), &secrets),
                    // Whoever says more without a break says nothing.
                    byte if line.len() < LONGEST_READ => line.push(*byte),
                    _ => {}
                }
            }
        }
        self.keep(&line, &secrets);
    }

    fn keep(&self, line: &[u8], secrets: &[String]) {
        let mut line = EscapedBytes(line.trim_ascii()).to_string();
        for secret in secrets {
            line = line.replace(secret.as_str(), "…");
        }
        if line.is_empty() {
            return;
        }
        line.truncate(line.floor_char_boundary(LONGEST_LINE));
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        let beyond = lines.len().saturating_sub(MOST_LINES);
        lines.drain(..beyond);
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_lines_are_kept_and_no_secrets() {
        let words = Words::default();
        let said = (0..100).map(|at| format!("line {at} of rtsp://a:secret@b/\r\n\n")).collect::<String>();
        words.hear(said.as_bytes(), vec!["rtsp://a:secret@b/".into(), "secret".into()]).await;
        let lines = words.lines();
        assert_eq!((lines.len(), lines[19].as_str()), (MOST_LINES, "line 99 of …"));
        words.hear(&b"\x1b[31mred\xff secret"[..], vec!["secret".into()]).await;
        assert_eq!(words.lines()[19], "\\u{1b}[31mred\\xff …");
        words.hear(&vec![b'x'; 1_000_000][..], Vec::new()).await;
        assert_eq!(words.lines()[19].len(), LONGEST_LINE);
    }
}
