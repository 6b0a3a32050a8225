//! A server with its classic listener, and what is found in its store.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use holdfast_tests::{binaries, server, wait::LONGEST_WAIT};
use rusqlite::{Connection, OpenFlags};

/// A running server.
pub(crate) struct Server(server::Server);

impl Server {
    /// A server whose classic texts end at this gap.
    pub(crate) fn start(gap: &str) -> io::Result<Self> {
        server::Server::with_classic(&format!("classic-gap = \"{gap}\"\n")).map(Self)
    }

    /// Kills it, and starts it again on the same data.
    pub(crate) fn kill_and_restart(&mut self) -> io::Result<()> {
        self.0.kill();
        self.0.run()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.classic()
    }

    /// A connection that has not said anything.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONGEST_WAIT))?;
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
            .arg(self.0.data())
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
        let database = self.0.data().join("holdfast.db");
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .expect("the database can be read");
        connection.busy_timeout(LONGEST_WAIT).expect("the database can be waited for");
        let mut statement = connection.prepare(query).expect("the tables are there");
        let rows = statement.query_map((), |row| row.get(0)).expect("the rows can be read");
        rows.collect::<Result<_, _>>().expect("the rows are as expected")
    }

    /// How much processor time the server has used.
    pub(crate) fn processor_time(&mut self) -> Duration {
        self.0.process().processor_time()
    }

    /// Waits for the server's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.process().wait(LONGEST_WAIT)
    }
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
    stream.set_read_timeout(Some(LONGEST_WAIT))
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
