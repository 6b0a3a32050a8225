//! TLS over TCP: a byte stream that holds no buffer while nothing is under way.
//!
//! rustls leaves the buffers to us. What comes is read into one that all connections of a thread share; only a
//! part of a record, and what the reader had no room for, is kept with the connection until more comes.

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ServerConfig,
    server::{Acceptor, ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most that is read at once, for who has room for as much.
const LENT_SIZE: usize = 64 * 1024;

/// What is read at once for all others, and the largest message of a handshake: a record of TLS is smaller.
const LEAST_SIZE: usize = 20 * 1024;

/// The most bytes of one record.
const RECORD: usize = 16 * 1024;

/// The most bytes that are encrypted at once.
const RECORDS: usize = 4 * RECORD;

/// Room for these, in records of any size that we have.
const RECORDS_ROOM: usize = RECORDS + RECORDS / 16;

/// Room for what most clients say first.
const HELLO: usize = 1024;

/// What encryption adds to a record: header, type and tag.
const OVERHEAD: usize = 5 + 1 + 16;

/// The most bytes that the system holds of what it has not sent, where that is to be little.
const UNSENT: u32 = 16 * 1024;

thread_local! {
    /// Lent to whichever connection of this thread reads.
    static LENT: RefCell<Box<[u8]>> = RefCell::new(vec![0; LENT_SIZE].into_boxed_slice());
    /// The same to whichever writes.
    static LENT_TO_WRITE: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECORDS_ROOM].into_boxed_slice());
}

/// The bytes inside a TLS connection.
pub struct Stream {
    tcp: TcpStream,
    /// Boxed, as it is large: a future that hands the stream on has a place for it at each step.
    tls: Box<UnbufferedServerConnection>,
    /// The beginning of a record whose rest has not come.
    input: Vec<u8>,
    /// What was decrypted and not read yet: `read <= plain.len()`.
    plain: Vec<u8>,
    read: usize,
    /// What was encrypted and not sent yet: `sent <= output.len()`.
    output: Vec<u8>,
    sent: usize,
    /// The peer has said that nothing more will come.
    ended: bool,
    /// We have said so.
    closed: bool,
    /// The peer broke TLS.
    failed: bool,
}

impl Stream {
    /// Shakes hands as a server, by the configuration that `choose` gives for the protocols that the client names; nothing
    /// is known of them where its first words make no sense.
    pub(super) async fn accept(
        choose: impl FnOnce(Option<&[&[u8]]>) -> Arc<ServerConfig>,
        mut tcp: TcpStream,
    ) -> io::Result<Self> {
        let (mut hello, config) = hear(choose, &mut tcp).await?;
        let tls = Box::new(UnbufferedServerConnection::new(config).map_err(io::Error::other)?);
        let mut stream = Self {
            tcp,
            tls,
            input: Vec::new(),
            plain: Vec::new(),
            read: 0,
            output: Vec::new(),
            sent: 0,
            ended: false,
            closed: false,
            failed: false,
        };
        let result = stream.process(&mut hello, &mut ReadBuf::new(&mut []));
        poll_fn(|context| stream.poll_send(context)).await?;
        result?;
        poll_fn(|context| stream.poll_handshake(context)).await?;
        Ok(stream)
    }

    /// Has the system take little at a time: what waits for a slow peer then waits where it can still be left out.
    pub fn hold_little(&self) -> io::Result<()> {
        SockRef::from(&self.tcp).set_tcp_notsent_lowat(UNSENT)
    }

    /// What was agreed on.
    pub(super) fn agreed(&self) -> &rustls::CommonState {
        &self.tls
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(context))?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            // What a peer sends right behind the handshake is kept.
            ready!(self.poll_receive(context, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Reads once, and decrypts what that gives: into `buffer`, and what has no room there into `plain`.
    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.failed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        LENT.with_borrow_mut(|lent| {
            let size = buffer.remaining().clamp(LEAST_SIZE, LENT_SIZE);
            let mut records = ReadBuf::new(lent.get_mut(..size).unwrap_or_default());
            if self.input.len() >= records.capacity() {
                return Poll::Ready(Err(invalid("a handshake message is too large")));
            }
            records.put_slice(&self.input);
            ready!(Pin::new(&mut self.tcp).poll_read(context, &mut records))?;
            if records.filled().len() == self.input.len() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let result = self.process(records.filled_mut(), buffer);
            if result.is_err() {
                // The alert that says why goes out if it can.
                let _ = self.poll_send(context);
            }
            Poll::Ready(result)
        })
    }

    /// Decrypts all whole records, answers those of TLS itself, and keeps what is left.
    fn process(&mut self, records: &mut [u8], buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let mut used = 0;
        loop {
            let rest = records.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(rest);
            let mut done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        let room = record.payload.len().min(buffer.remaining());
                        let (now, later) = record.payload.split_at(room);
                        buffer.put_slice(now);
                        self.plain.extend_from_slice(later);
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.output)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::ReadEarlyData(_)) => return Err(invalid("early data was not offered")),
                Ok(_) => done = true,
                Err(error) => {
                    self.fail();
                    return Err(invalid(error));
                }
            }
            used += discard;
            if done {
                self.input = records.get(used..).unwrap_or_default().to_vec();
                return Ok(());
            }
        }
    }

    /// Puts the alert that tells the peer of an error behind what is to be sent. After it rustls is asked no more.
    fn fail(&mut self) {
        self.failed = true;
        while self.tls.wants_write() {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            if encode(data, &mut self.output).is_err() {
                return;
            }
        }
    }

    /// Has `write` encrypt something; what is to go before that it finds in the output.
    fn encrypt<F>(&mut self, mut write: F) -> io::Result<()>
    where
        F: FnMut(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> io::Result<()>,
    {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Nothing new has come: this only asks for the state.
        let mut input = std::mem::take(&mut self.input);
        let result = loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut input);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    break write(&mut traffic, &mut self.output);
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.output)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(_) => break Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => {
                    self.fail();
                    break Err(invalid(error));
                }
            }
            input.drain(..discard);
        };
        self.input = input;
        result
    }

    /// Encrypts into `lent` and sends that; keeps what does not go at once.
    fn poll_encrypted(&mut self, context: &mut Context<'_>, bytes: &[u8], lent: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        self.encrypt(|traffic, _| {
            for record in bytes.chunks(RECORD) {
                let room = lent.get_mut(filled..).unwrap_or_default();
                filled += traffic.encrypt(record, room).map_err(invalid)?;
            }
            Ok(())
        })?;
        let mut rest = lent.get(..filled).unwrap_or_default();
        while self.output.is_empty() && !rest.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(context, rest)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => rest = rest.get(count..).unwrap_or_default(),
                Poll::Pending => break,
            }
        }
        self.output.extend_from_slice(rest);
        Ok(())
    }

    /// Sends what was encrypted.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.output.get(self.sent..) {
            match ready!(Pin::new(&mut self.tcp).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// Hears the client's first words: gives them, and the configuration that they ask for. What makes no sense is for the
/// connection to refuse.
async fn hear(
    choose: impl FnOnce(Option<&[&[u8]]>) -> Arc<ServerConfig>,
    tcp: &mut TcpStream,
) -> io::Result<(Vec<u8>, Arc<ServerConfig>)> {
    let mut bytes = Vec::with_capacity(HELLO);
    let mut acceptor = Acceptor::default();
    loop {
        let heard = bytes.len();
        if tcp.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut news = bytes.get(heard..).unwrap_or_default();
        while !news.is_empty() {
            let is_taken = acceptor.read_tls(&mut news).is_ok_and(|count| count > 0);
            let accepted = acceptor.accept();
            match accepted {
                Ok(Some(accepted)) => {
                    let protocols: Vec<_> = accepted.client_hello().alpn().into_iter().flatten().collect();
                    let config = choose(Some(&protocols));
                    return Ok((bytes, config));
                }
                Ok(None) if is_taken => {}
                Ok(None) | Err(_) => return Ok((bytes, choose(None))),
            }
        }
    }
}

/// Puts an answer of TLS itself behind `output`.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, output: &mut Vec<u8>) -> io::Result<()> {
    append(output, 0, |end| match data.encode(end) {
        Err(EncodeError::InsufficientSize(size)) => Err(Refused::TooSmall { needed: size.required_size }),
        result => result.map_err(|error| Refused::Broken(invalid(error))),
    })
}

/// Why nothing was written.
enum Refused {
    /// There was less room than so many bytes.
    TooSmall { needed: usize },
    /// It can't be written at all.
    Broken(io::Error),
}

/// Has `write` put something behind `output`, at first into `room` bytes, then into as many as it asks for.
fn append<F>(output: &mut Vec<u8>, mut room: usize, mut write: F) -> io::Result<()>
where
    F: FnMut(&mut [u8]) -> Result<usize, Refused>,
{
    let start = output.len();
    loop {
        output.resize(start + room, 0);
        let result = write(output.get_mut(start..).unwrap_or_default());
        output.truncate(start + result.as_ref().map_or(0, |length| *length));
        room = match result {
            Ok(_) => return Ok(()),
            Err(Refused::TooSmall { needed }) if needed > room => needed,
            Err(Refused::TooSmall { .. }) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Refused::Broken(error)) => return Err(error),
        }
    }
}

fn invalid<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let this = &mut *self;
            if let Some(plain @ [_, ..]) = this.plain.get(this.read..) {
                let count = plain.len().min(buffer.remaining());
                buffer.put_slice(plain.get(..count).unwrap_or_default());
                this.read += count;
                if this.read == this.plain.len() {
                    this.plain = Vec::new();
                    this.read = 0;
                }
            }
            if buffer.filled().len() > before || buffer.remaining() == 0 || this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_receive(context, buffer))?;
            // An answer of TLS itself goes out as soon as it can: with the next write, at the latest.
            if let Poll::Ready(Err(error)) = this.poll_send(context) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Never more waits than was taken once.
        ready!(self.poll_send(context))?;
        let bytes = bytes.get(..RECORDS).unwrap_or(bytes);
        LENT_TO_WRITE.with_borrow_mut(|lent| self.poll_encrypted(context, bytes, lent))?;
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed && !self.failed {
            self.closed = true;
            self.encrypt(|traffic, output| {
                append(output, OVERHEAD + 2, |end| match traffic.queue_close_notify(end) {
                    Err(EncryptError::InsufficientSize(size)) => {
                        Err(Refused::TooSmall { needed: size.required_size })
                    }
                    result => result.map_err(|error| Refused::Broken(invalid(error))),
                })
            })?;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
