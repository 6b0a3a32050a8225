//! A stand-in for the original server, byte for byte as `docs/protocol.md` (Classic) says of it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// What one `recv` returns at most, and so the longest message.
const RECV: usize = 1024;

/// The original server: one read is one message, and answers are exactly four bytes.
#[derive(Clone, Debug)]
pub struct Original {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    password: &'static [u8],
}

#[derive(Debug, Default)]
struct Kept {
    log: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    closed: bool,
}

impl Original {
    /// Starts it on a free port of the loopback.
    ///
    /// # Errors
    /// There is no such port.
    pub fn start(password: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let original = Self { address, kept: Arc::default(), password: password.as_bytes() };
        let server = original.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let client = server.clone();
                // A connection that fails has ended: there is nobody to be told.
                thread::spawn(move || client.serve(stream));
            }
        });
        Ok(original)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The texts that it has appended to its log.
    pub fn log(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).log.clone()
    }

    /// All that it has received, one entry for each `recv`.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).messages.clone()
    }

    /// Whether someone has closed it with the right password.
    pub fn is_closed(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        if self.receive(&mut stream)? != b"PING" {
            return Ok(());
        }
        stream.write_all(b"PONG")?;
        loop {
            let message = self.receive(&mut stream)?;
            if message.is_empty() {
                return Ok(());
            } else if let Some(text) = message.strip_prefix(b"MESG ") {
                self.keep(|kept| kept.log.push(text.to_vec()));
                stream.write_all(&message)?;
            } else if let Some(password) = message.strip_prefix(b"TERM ") {
                if self.judge(&mut stream, Some(password))? {
                    return Ok(());
                }
            } else if message == b"TERM" {
                let message = self.receive(&mut stream)?;
                if self.judge(&mut stream, message.strip_prefix(b"PASS "))? {
                    return Ok(());
                }
            }
        }
    }

    fn judge(&self, stream: &mut TcpStream, password: Option<&[u8]>) -> io::Result<bool> {
        let right = password == Some(self.password);
        stream.write_all(match password {
            Some(_) if right => b"PWOK",
            Some(_) => b"PWNO",
            None => b"PWIV",
        })?;
        if right {
            self.keep(|kept| kept.closed = true);
        }
        Ok(right)
    }

    fn receive(&self, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut buffer = [0; RECV];
        let length = stream.read(&mut buffer)?;
        let message = buffer[..length].to_vec();
        self.keep(|kept| kept.messages.push(message.clone()));
        Ok(message)
    }

    fn keep(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
