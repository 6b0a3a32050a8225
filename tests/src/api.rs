//! The server's API, as any program may use it: HTTP and JSON over the Unix socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The API of a server, by its socket.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// The API of the server that has this data directory.
    pub fn of(data: &Path) -> Self {
        Self { socket: data.join("api.sock") }
    }

    /// Asks for what is at `path`, below `/api/v1`.
    ///
    /// # Errors
    /// The server is not there, or says no.
    pub fn get(&self, path: &str) -> io::Result<Value> {
        self.ask("GET", path, "")
    }

    /// Sends `body` to `path`, below `/api/v1`.
    ///
    /// # Errors
    /// The server is not there, or says no.
    pub fn post(&self, path: &str, body: &Value) -> io::Result<Value> {
        self.ask("POST", path, &body.to_string())
    }

    /// All entries of a list, page by page.
    ///
    /// # Errors
    /// The server is not there, or says no.
    pub fn list(&self, path: &str) -> io::Result<Vec<Value>> {
        let (mut items, mut after) = (Vec::new(), None);
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = match after {
                None => self.get(path)?,
                Some(after) => self.get(&format!("{path}{separator}after={after}"))?,
            };
            items.extend(page["items"].as_array().cloned().unwrap_or_default());
            after = page["next"].as_i64();
            if after.is_none() {
                return Ok(items);
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Value> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(LONGEST_WAIT))?;
        stream.set_write_timeout(Some(LONGEST_WAIT))?;
        let length = body.len();
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: holdfast\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let unexpected = || io::Error::other(format!("{method} {path}: unexpected answer {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unexpected)?;
        if !head.starts_with("HTTP/1.1 2") {
            return Err(unexpected());
        }
        serde_json::from_str(body).map_err(|_| unexpected())
    }
}
