//! What TLS, a Unix socket and the pipes of tests are alike: bytes, both ways.

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes that go both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}
