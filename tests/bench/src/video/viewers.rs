//! Viewers that look at nothing: they read what they are sent, and what that costs the server is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    compare::Figures,
    error::{Error, Result},
    process::{clock, usage},
};

/// How many look, one after the other.
const COUNTS: [usize; 4] = [1, 10, 50, 200];

/// How long things are left alone until they are as they will be.
const SETTLE: Duration = Duration::from_secs(1);

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 4 * 1024;

/// What viewers look at.
pub(crate) struct Sight {
    pub(crate) server: SocketAddr,
    /// The server's process.
    pub(crate) process: u32,
    /// Who they are: each of these for some of them.
    pub(crate) operators: Vec<Arc<ClientConfig>>,
    pub(crate) path: String,
    /// They are sent messages of a WebSocket.
    pub(crate) is_web_socket: bool,
}

/// Has more and more of them look, and measures for so long at each count: the server's CPU time, in percent of a core; and
/// with all of them, its memory for each, in kilobytes, and what each is sent, in Mbit/s.
///
/// # Errors
/// They can't look, or no longer.
pub(crate) async fn measure(sight: &Sight, seconds: f64) -> Result<Figures> {
    let (mut figures, count) = (Figures::new(), Arc::new(AtomicU64::new(0)));
    let mut viewers = JoinSet::new();
    let mut memory_of_one = 0;
    for wanted in COUNTS {
        while viewers.len() < wanted {
            let operators = sight.operators.get(viewers.len() % sight.operators.len().max(1));
            let config = operators.ok_or_else(|| Error::Told("there is no operator".to_owned()))?;
            let stream = sight.look(Arc::clone(config)).await?;
            viewers.spawn(read(stream, Arc::clone(&count)));
        }
        sleep(SETTLE).await;
        let (before, bytes, begun) = (clock(sight.process)?, count.load(Relaxed), Instant::now());
        sleep(Duration::from_secs_f64(seconds)).await;
        let (after, took) = (clock(sight.process)?, begun.elapsed().as_secs_f64());
        if let Some(ended) = viewers.try_join_next() {
            ended.map_err(Error::talk)??;
            return Err(Error::Told(format!("one of {wanted} viewers was sent no more")));
        }
        let used = after.saturating_sub(before).as_secs_f64();
        figures.insert(format!("cpu-{wanted}"), 100.0 * used / took);
        let bits = 8.0 * (count.load(Relaxed) - bytes) as f64;
        figures.insert("rate".to_owned(), bits / 1e6 / took / wanted as f64);
        match wanted {
            1 => memory_of_one = usage(sight.process)?.memory,
            _ => {
                let grown = usage(sight.process)?.memory.saturating_sub(memory_of_one);
                figures.insert("memory".to_owned(), grown as f64 / 1e3 / (wanted - 1) as f64);
            }
        }
    }
    Ok(figures)
}

impl Sight {
    /// A viewer's connection, behind the head of the answer.
    ///
    /// # Errors
    /// They are not let look.
    pub(crate) async fn look(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.server).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(Error::talk)?;
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        let upgrade = match self.is_web_socket {
            true => {
                "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            false => "",
        };
        let request = format!("GET {} HTTP/1.1\r\nhost: holdfast\r\n{upgrade}\r\n", self.path);
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
            if head.len() > LONGEST_HEAD {
                return Err(Error::talk("an answer that has no end"));
            }
        }
        let expected: &[u8] = if self.is_web_socket { b"HTTP/1.1 101 " } else { b"HTTP/1.1 200 " };
        match head.starts_with(expected) {
            true => Ok(stream),
            false => {
                let mut body = vec![0; 512];
                let length = stream.read(&mut body).await.unwrap_or_default();
                body.truncate(length);
                head.append(&mut body);
                Err(Error::talk(String::from_utf8_lossy(&head)))
            }
        }
    }
}

/// Reads what comes, and counts its bytes.
async fn read(mut stream: TlsStream<TcpStream>, count: Arc<AtomicU64>) -> Result {
    let mut room = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut room).await? {
            0 => return Ok(()),
            length => count.fetch_add(length as u64, Relaxed),
        };
    }
}
