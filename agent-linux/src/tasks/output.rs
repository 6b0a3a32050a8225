//! What a task writes to its standard error: its last bytes are kept.

use std::collections::VecDeque;

use protocol_core::message::MAX_TASK_OUTPUT;
use tokio::io::AsyncRead;

use super::paced::Paced;

/// How much is read at once, in bytes.
const ROOM: usize = 4 * 1024;

/// The last bytes of a task's output, [`MAX_TASK_OUTPUT`] at most.
pub(super) struct Output<R> {
    pipe: Option<Paced<R>>,
    kept: VecDeque<u8>,
}

impl<R: AsyncRead + Unpin> Output<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe: Some(Paced::new(pipe)), kept: VecDeque::new() }
    }

    /// Whether nothing more can come.
    pub(super) fn has_ended(&self) -> bool {
        self.pipe.is_none()
    }

    /// Reads until nothing more can come. Dropping the future loses nothing.
    pub(super) async fn read_on(&mut self) {
        let mut room = [0; ROOM];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut room).await {
                Ok(count @ 1..) => self.keep(room.get(..count).unwrap_or_default()),
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let beyond = self.kept.len().saturating_sub(MAX_TASK_OUTPUT);
        self.kept.drain(..beyond);
    }

    /// What was kept.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept).into()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_is_kept() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let mut output = Output::new(ours);
        let written: Vec<u8> = (0..50_000_u32).map(|at| (at % 251) as u8).collect();
        theirs.write_all(&written).await.unwrap();
        // Cut short again and again, it loses nothing.
        for _ in 0..20 {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(3), output.read_on()).await;
        }
        assert!(!output.has_ended());
        drop(theirs);
        output.read_on().await;
        assert!(output.has_ended());
        assert_eq!(output.take(), written[written.len() - MAX_TASK_OUTPUT..]);
    }
}
