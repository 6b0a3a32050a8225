//! A server with its classic listener, and what is found in its store.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use holdfast_tests::binaries;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// Longer than anything takes here: only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    data: TempDir,
    child: Child,
    classic: SocketAddr,
}

impl Server {
    /// A server whose classic texts end at this gap.
    pub(crate) fn start(gap: &str) -> io::Result<Self> {
        let data = tempfile::tempdir()?;
        fs::write(data.path().join("server.toml"), format!("classic-gap = \"{gap}\"\n"))?;
        let (child, classic) = run(data.path())?;
        Ok(Self { data, child, classic })
    }

    /// Kills it, and starts it again on the same data.
    pub(crate) fn kill_and_restart(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.classic) = run(self.data.path())?;
        Ok(())
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.classic
    }

    /// A connection that has not said anything.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.classic)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A connection that has shaken hands.
    pub(crate) fn greet(&self) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        ask(&mut stream, b"PING", b"PONG")?;
        Ok(stream)
    }

    /// Runs `holdfast` on the server's data with this input.
    pub(crate) fn command(&self, arguments: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut child = Command::new(binaries::holdfast())
            .args(arguments)
            .arg("--data")
            .arg(self.data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input)?;
        }
        child.wait_with_output()
    }

    /// All texts that are on disk, in the order in which they were archived.
    pub(crate) fn texts(&self) -> Vec<Vec<u8>> {
        self.query("SELECT body FROM messages WHERE direction = 0 AND kind = 'text' ORDER BY id")
    }

    /// The `reason` of all events of this kind.
    pub(crate) fn reasons(&self, event: &str) -> Vec<String> {
        self.query(&format!(
            "SELECT coalesce(detail ->> 'reason', '') FROM events WHERE kind = '{event}' ORDER BY id"
        ))
    }

    /// How all sessions ended; an empty text stands for one that is open.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.query("SELECT coalesce(reason, '') FROM sessions ORDER BY id")
    }

    fn query<T: rusqlite::types::FromSql>(&self, query: &str) -> Vec<T> {
        let database = self.data.path().join("holdfast.db");
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .expect("the database can be read");
        connection.busy_timeout(PATIENCE).expect("the database can be waited for");
        let mut statement = connection.prepare(query).expect("the tables are there");
        let rows = statement.query_map((), |row| row.get(0)).expect("the rows can be read");
        rows.collect::<Result<_, _>>().expect("the rows are as expected")
    }

    /// How much processor time the server has used.
    pub(crate) fn processor_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name: state, and then the fields from the fourth on; user and system time are 14 and 15.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Waits for the server's end.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        let mut status = None;
        until("the server has ended", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.ok_or(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, or nobody is there to be told that it could not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(data: &Path) -> io::Result<(Child, SocketAddr)> {
    let mut child = Command::new(binaries::holdfast())
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--classic",
            "127.0.0.1:0",
            "--http",
            "off",
            "--log-format",
            "json",
        ])
        .arg("--config")
        .arg(data.join("server.toml"))
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
    let mut printed = String::new();
    let classic = loop {
        let start = printed.len();
        if log.read_line(&mut printed)? == 0 {
            return Err(io::Error::other(format!("the server did not come up: {printed}")));
        }
        let line: serde_json::Value = serde_json::from_str(&printed[start..]).unwrap_or_default();
        if let Some(address) = line["fields"]["classic"].as_str().and_then(|address| address.parse().ok()) {
            break address;
        }
    };
    // Its log must go somewhere.
    thread::spawn(move || io::copy(&mut log, &mut io::stderr()));
    Ok((child, classic))
}

/// Sends a message, and expects exactly this answer.
pub(crate) fn ask(stream: &mut TcpStream, message: &[u8], answer: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    expect(stream, answer)
}

/// Expects exactly these bytes next.
pub(crate) fn expect(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut came = vec![0; answer.len()];
    stream.read_exact(&mut came)?;
    assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(answer));
    Ok(())
}

/// Expects that nothing comes for this long.
pub(crate) fn expect_silence(stream: &mut TcpStream, time: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(time))?;
    let mut came = [0; 64];
    let read = stream.read(&mut came);
    assert!(
        matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "expected nothing, got {read:?}: {:?}",
        String::from_utf8_lossy(&came)
    );
    stream.set_read_timeout(Some(PATIENCE))
}

/// Expects that the server closes without another byte.
pub(crate) fn expect_close(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is a close, too.
    let end = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "expected a close, got {:?}", String::from_utf8_lossy(&rest));
    assert!(
        !matches!(&end, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
        "expected a close, got nothing"
    );
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
