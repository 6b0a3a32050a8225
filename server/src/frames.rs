//! A frame that is sent by itself: before a session, or where there is none.

use std::io;

use protocol_core::message::{self, Body};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Sends a frame, which may have `max_frame` bytes, header included.
///
/// # Errors
/// It is larger, or the connection is broken.
pub async fn send<S: AsyncWrite + Unpin, B: Body>(
    stream: &mut S,
    body: &B,
    max_frame: u16,
) -> io::Result<()> {
    let mut buffer = vec![0; usize::from(max_frame)];
    let length = message::encode(body, max_frame, &mut buffer).map_err(io::Error::other)?;
    stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
    stream.flush().await
}
