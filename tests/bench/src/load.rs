//! The load: connections that each keep some messages in flight, and count their echoes.
//!
//! It is the same for every server that is measured; only what is said on a connection differs (`dialogue.rs`).

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_rustls::client::TlsStream;

use crate::{
    device,
    dialogue::Dialogue,
    error::{Error, Result},
    process,
};

/// How many connections open at a time.
const OPENING: usize = 64;

/// How long a server is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// A load on one server: prints what it measured as JSON
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the server speaks
    #[arg(long)]
    speak: Speak,
    /// Where it listens
    #[arg(long)]
    server: SocketAddr,
    /// Its process, whose CPU time and memory are read
    #[arg(long)]
    process: u32,
    /// The keys of the devices
    #[arg(long)]
    keys: PathBuf,
    /// How many connections
    #[arg(long)]
    connections: usize,
    /// How many messages each keeps in flight
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages that may go at the same time go in one write, not in one each
    #[arg(long)]
    together: bool,
    /// How many bytes each message carries
    #[arg(long, default_value_t = 16)]
    payload: usize,
    /// How long the load runs before it is measured, in seconds
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// How long it is measured, in seconds; 0 leaves the connections idle, and measures memory
    #[arg(long)]
    seconds: f64,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Speak {
    /// The framed protocol, by TLS.
    Framed,
    /// Whatever comes is sent back, by TLS.
    Bare,
    /// The classic protocol.
    Classic,
}

impl Speak {
    /// The value of `--speak`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Framed => "framed",
            Self::Bare => "bare",
            Self::Classic => "classic",
        }
    }
}

/// What a load measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Messages whose echoes came, each second.
    pub(crate) rate: f64,
    /// CPU time of the server for each of them, in microseconds.
    pub(crate) cpu: f64,
    /// The median of the times from sending to echo, in milliseconds.
    pub(crate) p50: f64,
    /// 99 of 100 of these times are shorter, in milliseconds.
    pub(crate) p99: f64,
}

/// What idle connections cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Resident memory of the server for each connection, in bytes.
    pub(crate) memory: f64,
    /// CPU time of the server for each connection that was opened, in microseconds.
    pub(crate) opening: f64,
}

/// `holdfast-bench load`.
///
/// # Errors
/// The server can't be reached, or does not do as it should.
pub(crate) fn run(arguments: &Arguments) -> Result {
    let json = tokio::runtime::Runtime::new()?.block_on(async {
        if arguments.seconds > 0.0 {
            measure_echoes(arguments).await.and_then(|measured| Ok(serde_json::to_string(&measured)?))
        } else {
            measure_memory(arguments).await.and_then(|idle| Ok(serde_json::to_string(&idle)?))
        }
    })?;
    println!("{json}");
    Ok(())
}

async fn measure_echoes(arguments: &Arguments) -> Result<Measured> {
    let connections = open_all(arguments).await?;
    let begin = Instant::now() + Duration::from_secs_f64(arguments.warm_up);
    let end = begin + Duration::from_secs_f64(arguments.seconds);
    let mut talks = JoinSet::new();
    for connection in connections {
        let talk = Talk { in_flight: arguments.in_flight, together: arguments.together, begin, end };
        talks.spawn(connection.talk(talk));
    }
    sleep_until(begin.into()).await;
    let before = process::usage(arguments.process)?;
    sleep_until(end.into()).await;
    let after = process::usage(arguments.process)?;
    let mut times = Vec::new();
    while let Some(talk) = talks.join_next().await {
        times.append(&mut talk.map_err(Error::talk)??);
    }
    times.sort_unstable();
    let count = times.len() as f64;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    Ok(Measured {
        rate: count / arguments.seconds,
        // On a machine that is very busy not one may come in time.
        cpu: cpu * 1e6 / count.max(1.0),
        p50: quantile(&times, 50),
        p99: quantile(&times, 99),
    })
}

/// In milliseconds, of sorted times in microseconds; 0 of none.
fn quantile(times: &[u32], percent: usize) -> f64 {
    times.get(times.len() * percent / 100).map_or(0.0, |time| f64::from(*time) / 1e3)
}

/// Each connection has one message echoed and is then idle: what a connection leaves behind after use counts too.
async fn measure_memory(arguments: &Arguments) -> Result<Idle> {
    let before = process::usage(arguments.process)?;
    let mut connections = open_all(arguments).await?;
    let opened = process::usage(arguments.process)?;
    for connection in &mut connections {
        connection.say_once().await?;
    }
    sleep(SETTLE).await;
    let after = process::usage(arguments.process)?;
    let count = arguments.connections as f64;
    Ok(Idle {
        memory: after.memory.saturating_sub(before.memory) as f64 / count,
        opening: opened.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / count,
    })
}

async fn open_all(arguments: &Arguments) -> Result<Vec<Connection>> {
    let keys = match arguments.speak {
        Speak::Classic => Vec::new(),
        Speak::Framed | Speak::Bare => device::keys(&arguments.keys, arguments.connections)?,
    };
    let mut keys = keys.into_iter();
    let doors = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    let (speak, server, payload) = (arguments.speak, arguments.server, arguments.payload);
    for index in 0..arguments.connections {
        let (doors, key) = (Arc::clone(&doors), keys.next());
        opening.spawn(async move {
            let _door = doors.acquire().await;
            Connection::open(speak, server, index, key, payload).await
        });
    }
    let mut connections = Vec::new();
    while let Some(opened) = opening.join_next().await {
        connections.push(opened.map_err(Error::talk)??);
    }
    Ok(connections)
}

/// An open connection.
pub(crate) struct Connection {
    stream: Stream,
    dialogue: Dialogue,
    /// What came and was not used up.
    input: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Connects, and opens the session of the device that has this key; its messages carry `payload` bytes.
    ///
    /// # Errors
    /// The server does not welcome it.
    pub(crate) async fn open(
        speak: Speak,
        server: SocketAddr,
        index: usize,
        key: Option<KeyPair>,
        payload: usize,
    ) -> Result<Self> {
        let mut tcp = device::connect(server, index).await?;
        let mut input = Vec::with_capacity(4_096);
        let key = || key.as_ref().ok_or_else(|| Error::talk("there is no key for this device"));
        let (stream, dialogue) = match speak {
            Speak::Classic => {
                let dialogue = Dialogue::classic(&mut tcp, payload).await?;
                (Stream::Plain(tcp), dialogue)
            }
            Speak::Bare => {
                let tls = device::secure(tcp, key()?, "echo").await?;
                (Stream::Secure(Box::new(tls)), Dialogue::bare(payload))
            }
            Speak::Framed => {
                let mut tls = device::secure(tcp, key()?, "holdfast/1").await?;
                let dialogue = Dialogue::framed(&mut tls, &mut input, payload).await?;
                (Stream::Secure(Box::new(tls)), dialogue)
            }
        };
        Ok(Self { stream, dialogue, input })
    }

    /// One message, and its echo.
    async fn say_once(&mut self) -> Result {
        let now = Instant::now();
        let talk = Talk { in_flight: 1, together: false, begin: now, end: now };
        self.have(talk).await.map(drop)
    }

    /// Talks to the end: gives the times, in microseconds, of the echoes that were measured.
    async fn talk(mut self, talk: Talk) -> Result<Vec<u32>> {
        self.have(talk).await
    }

    /// Says nothing by itself, and answers what the protocol asks, until the server ends it.
    ///
    /// # Errors
    /// Always: that it has ended.
    pub(crate) async fn rest(&mut self) -> Result {
        match &mut self.stream {
            Stream::Plain(stream) => rest(stream, &mut self.dialogue, &mut self.input).await,
            Stream::Secure(stream) => rest(stream, &mut self.dialogue, &mut self.input).await,
        }
    }

    async fn have(&mut self, talk: Talk) -> Result<Vec<u32>> {
        match &mut self.stream {
            Stream::Plain(stream) => talk.run(stream, &mut self.dialogue, &mut self.input).await,
            Stream::Secure(stream) => talk.run(stream, &mut self.dialogue, &mut self.input).await,
        }
    }
}

async fn rest<S>(stream: &mut S, dialogue: &mut Dialogue, input: &mut Vec<u8>) -> Result
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut output = Vec::new();
    loop {
        dialogue.receive(input)?;
        dialogue.answer(&mut output)?;
        write(stream, &mut output).await?;
        if stream.read_buf(input).await? == 0 {
            return Err(Error::talk("the server has ended it"));
        }
    }
}

/// A conversation: as many messages are sent as were echoed.
struct Talk {
    in_flight: usize,
    /// They go in one write, not in one each.
    together: bool,
    /// Echoes are measured that come between these two.
    begin: Instant,
    end: Instant,
}

impl Talk {
    async fn run<S>(&self, stream: &mut S, dialogue: &mut Dialogue, input: &mut Vec<u8>) -> Result<Vec<u32>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut output, mut sent, mut times) = (Vec::new(), VecDeque::new(), Vec::new());
        let (mut room, mut now) = (self.in_flight, Instant::now());
        loop {
            for _ in 0..room {
                dialogue.send(&mut output)?;
                sent.push_back(now);
                if !self.together {
                    write(stream, &mut output).await?;
                }
            }
            dialogue.answer(&mut output)?;
            write(stream, &mut output).await?;
            if stream.read_buf(input).await? == 0 {
                return Err(Error::talk("the server has ended it"));
            }
            now = Instant::now();
            room = dialogue.receive(input)?;
            for sent in sent.drain(..room) {
                if now >= self.begin && now < self.end {
                    times.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
                }
            }
            if now >= self.end && room > 0 {
                return Ok(times);
            }
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, output: &mut Vec<u8>) -> Result {
    if !output.is_empty() {
        stream.write_all(output).await?;
        stream.flush().await?;
        output.clear();
    }
    Ok(())
}
