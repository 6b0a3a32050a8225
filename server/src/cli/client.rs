//! `holdfast client`: the person's side of the original protocol, on our classic listener or on the original server.

use std::{
    fmt,
    io::{self, BufRead, ErrorKind, IsTerminal, Read, Stdin, Write},
    net::{TcpStream, ToSocketAddrs},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use clap::Args;
use protocol_core::{
    classic::{Answer, MAX_TEXT},
    escape::OneLine,
};

use super::hidden::{self, without_line_end};
use crate::config::CLASSIC_PORT;

#[cfg(test)]
mod tests;

/// How long the server may take to be reached, and to begin each answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may come before an answer that looks unfinished is taken to be all.
const QUIET: Duration = Duration::from_secs(1);

/// The exit code of a program that Ctrl-C has ended, as shells have it.
pub(super) const INTERRUPTED: u8 = 130;

/// How many reads of late answers are forgotten: a peer that sends on and on must not hold up its user.
const LATE_READS: usize = 100;

/// Sends typed lines to a classic server and shows its echoes.
#[derive(Args, Clone, Debug)]
pub struct ClientArguments {
    /// The server, ours or the original; port 55222 if none is given
    #[arg(value_name = "HOST[:PORT]")]
    pub server: ServerAddress,
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
            None => match text.split_once(':') {
                // More than one colon, and no brackets: an IPv6 address alone.
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(CLASSIC_PORT), str::parse);
        match (host, port) {
            ("", _) => Err("expected HOST or HOST:PORT, got no host".to_owned()),
            (_, Err(error)) => Err(format!("expected a port from 0 to 65535: {error}")),
            (host, Ok(port)) => Ok(Self { host: host.to_owned(), port }),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

/// Talks to the server until the input ends or the server has been stopped.
///
/// The exit code is 0 then, 3 if the server can't be reached, goes away or does not answer, and 1 if what answers is no
/// classic server or the terminal fails.
pub fn run(arguments: &ClientArguments) -> ExitCode {
    let talked = Server::connect(&arguments.server).and_then(|mut server| talk(&mut server));
    match talked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast: {error}");
            match error {
                ClientError::Terminal(error) if error.kind() == ErrorKind::Interrupted => INTERRUPTED.into(),
                ClientError::NotClassic { .. } | ClientError::Terminal(_) => ExitCode::FAILURE,
                _ => ExitCode::from(3),
            }
        }
    }
}

/// Why the client ends before its user wants it to.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("can't reach {address}: {source}")]
    Unreachable { address: ServerAddress, source: io::Error },
    #[error(
        "expected PONG from {address}, got {answer}: it is no classic server; its port is {CLASSIC_PORT} by default"
    )]
    NotClassic { address: ServerAddress, answer: String },
    #[error("{address} closed the connection: it was stopped, or it has too many clients; try again later")]
    Closed { address: ServerAddress },
    #[error("expected an answer from {address} within 10 s, got none; try again later")]
    NoAnswer { address: ServerAddress },
    #[error("lost the connection to {address}: {source}")]
    Lost { address: ServerAddress, source: io::Error },
    #[error("can't use the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Asks for a line, sends it, prints what comes back, and so on.
fn talk(server: &mut Server) -> Result<(), ClientError> {
    let mut input = Input::new();
    while let Some(line) = input.line("command or message: ")? {
        if line == b"terminate" {
            let Some(password) = input.password("password: ")? else { break };
            let answer = server.ask(&[b"TERM ", &password[..]].concat(), 4)?;
            say(&meaning(&answer))?;
            if Answer::read(&answer) == Some(Answer::Accepted) {
                break;
            }
        } else if line.len() > MAX_TEXT {
            eprintln!("expected at most {MAX_TEXT} bytes, got {}: not sent", line.len());
        } else {
            let message = [b"MESG ", &line[..]].concat();
            let echo = server.ask(&message, message.len())?;
            say(&printable(echo.strip_prefix(b"MESG ").unwrap_or(&echo)))?;
            if echo != message {
                eprintln!("This is not what was sent: the server may not have kept all of it.");
            }
        }
    }
    Ok(())
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// What the answer to a password means.
fn meaning(answer: &[u8]) -> String {
    match Answer::read(answer) {
        Some(Answer::Accepted) => "PWOK: the password was right, the server has closed".to_owned(),
        Some(Answer::Refused) => "PWNO: wrong password, the server runs on".to_owned(),
        Some(Answer::Malformed) => "PWIV: malformed, the server runs on".to_owned(),
        _ => format!("expected PWOK, PWNO or PWIV, got {}", printable(answer)),
    }
}

/// What a peer sent, without anything in it that could steer a terminal.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&OneLine(chunk.valid()).to_string());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Where the lines come from: a person at a terminal, who is asked for them, or a pipe.
struct Input {
    input: Stdin,
    asks: bool,
}

impl Input {
    fn new() -> Self {
        let input = io::stdin();
        Self { asks: input.is_terminal(), input }
    }

    /// The next line without its end, or nothing at the end of the input.
    fn line(&mut self, prompt: &str) -> io::Result<Option<Vec<u8>>> {
        if self.asks {
            let mut output = io::stdout();
            output.write_all(prompt.as_bytes())?;
            output.flush()?;
        }
        let mut line = Vec::new();
        if self.input.lock().read_until(b'\n', &mut line)? == 0 {
            if self.asks {
                say("")?;
            }
            return Ok(None);
        }
        Ok(Some(without_line_end(&line).to_vec()))
    }

    /// The password: a line that a terminal does not show.
    fn password(&mut self, prompt: &str) -> io::Result<Option<Vec<u8>>> {
        if !self.asks {
            return self.line(prompt);
        }
        hidden::line(&self.input, prompt)
    }
}

/// A connection that has shaken hands.
struct Server {
    address: ServerAddress,
    stream: TcpStream,
}

impl Server {
    fn connect(address: &ServerAddress) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: address.clone(), source };
        let stream = reach(address).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(unreachable)?;
        let mut server = Self { address: address.clone(), stream };
        let answer = server.ask(b"PING", 4)?;
        if Answer::read(&answer) != Some(Answer::Pong) {
            return Err(ClientError::NotClassic { address: address.clone(), answer: printable(&answer) });
        }
        Ok(server)
    }

    /// Sends a message and gives back the answer: what comes until there are `expected` bytes or the line goes quiet.
    fn ask(&mut self, message: &[u8], expected: usize) -> Result<Vec<u8>, ClientError> {
        self.forget_late_answers()?;
        self.stream.write_all(message).map_err(|source| self.lost(source))?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; expected.max(1024)];
        while answer.len() < expected {
            match self.read(&mut buffer, if answer.is_empty() { TIMEOUT } else { QUIET })? {
                Some(0) if answer.is_empty() => {
                    return Err(ClientError::Closed { address: self.address.clone() });
                }
                None if answer.is_empty() => {
                    return Err(ClientError::NoAnswer { address: self.address.clone() });
                }
                None | Some(0) => break,
                Some(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(answer)
    }

    /// What came after an answer was taken to be all of it must not be taken for the next one.
    fn forget_late_answers(&mut self) -> Result<(), ClientError> {
        let mut buffer = [0; 1024];
        self.stream.set_nonblocking(true).map_err(|source| self.lost(source))?;
        for _ in 0..LATE_READS {
            match self.read_once(&mut buffer)? {
                None => break,
                Some(0) => return Err(ClientError::Closed { address: self.address.clone() }),
                Some(_) => {}
            }
        }
        self.stream.set_nonblocking(false).map_err(|source| self.lost(source))
    }

    /// Reads what comes within `time`; nothing if nothing does.
    fn read(&mut self, buffer: &mut [u8], time: Duration) -> Result<Option<usize>, ClientError> {
        self.stream.set_read_timeout(Some(time)).map_err(|source| self.lost(source))?;
        self.read_once(buffer)
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, ClientError> {
        loop {
            match self.stream.read(buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(source) => return Err(self.lost(source)),
            }
        }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        let address = self.address.clone();
        match source.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::NoAnswer { address },
            _ => ClientError::Lost { address, source },
        }
    }
}

/// Connects to the first of the host's addresses that answers.
fn reach(address: &ServerAddress) -> io::Result<TcpStream> {
    let mut error = io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in (address.host.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}
