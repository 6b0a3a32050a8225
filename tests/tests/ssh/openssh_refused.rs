//! What nobody gets by the account of the server's own SSH server: whoever they are, and whatever they ask for.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
};

use holdfast_tests::{
    device::{Key, frame_of},
    laptop::Laptop,
    namespace,
    process::{self, Process},
    sshd::Sshd,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::{
    code::{CloseReason, TaskState},
    message::{self, Join, OpenSshParameters, Order, Secret, TaskId},
};

use crate::{
    fleet::DEVICE,
    hostile::{Liar, turned_away},
    openssh::Stock,
};

/// A device of the test's own, which comes by the server's SSH server.
pub(crate) struct Attacker {
    pub(crate) liar: Liar,
    pub(crate) name: &'static str,
    /// The file of its key.
    pub(crate) key: PathBuf,
}

/// A session of its that waits for its bytes.
pub(crate) struct Waiting {
    pub(crate) operator: Child,
    pub(crate) join: Join,
    /// The port that it was given.
    pub(crate) port: u16,
}

impl Attacker {
    pub(crate) fn new(stock: &Stock, name: &'static str) -> io::Result<Self> {
        let liar = Liar::taking("openssh", &stock.fleet.server, name)?;
        let key = key_file(stock, name, &liar.key)?;
        Ok(Self { liar, name, key })
    }

    pub(crate) fn session(&mut self, stock: &Stock) -> io::Result<Waiting> {
        let (order, operator) = self.liar.asked(&stock.fleet.server, self.name)?;
        let order: Order<'_> = message::decode(&order).map_err(io::Error::other)?;
        let parameters = OpenSshParameters::decode(order.parameters).expect("parameters");
        assert_eq!((parameters.port, parameters.account.as_str()), (stock.account.port(), "ssh_server"));
        let (join, port) = (Join { task: order.task, key: order.key }, parameters.listen);
        self.liar.report(join.task, TaskState::Starting, "", b"")?;
        Ok(Waiting { operator, join, port })
    }

    /// What it does with a session of its own, which then ends.
    fn with_session(&mut self, stock: &Stock, what: impl FnOnce(&Path, u16)) -> io::Result<()> {
        let mut waiting = self.session(stock)?;
        what(&self.key, waiting.port);
        waiting.operator.kill()?;
        waiting.operator.wait()?;
        self.liar.report(waiting.join.task, TaskState::Done, "", b"")
    }

    /// Has the SSH server forward the session's port to this target, by a login that stays.
    pub(crate) fn forward(&self, stock: &Stock, port: u16, target: SocketAddr) -> io::Result<Process> {
        let log = stock.fleet.file(&format!("{port}.log"));
        let listen = format!("127.0.0.1:{port}:{target}");
        let words = login(stock, "ssh_server", &self.key, &["-N", "-R", &listen]);
        Process::start(Path::new("ssh"), words, &log)
    }
}

/// What ssh says of a key that may do nothing.
pub(crate) const DENIED: &str = "Permission denied";

/// What ssh is told to log in to the account with this key.
pub(crate) fn login(stock: &Stock, account: &str, key: &Path, more: &[&str]) -> Vec<String> {
    let (port, key) = (stock.account.port().to_string(), key.display().to_string());
    let options = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=INFO",
        "ExitOnForwardFailure=yes",
    ];
    let mut all: Vec<_> = ["-F", "none", "-i", &key, "-p", &port, "-l", account].map(str::to_owned).into();
    all.extend(options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    let (flags, command) = more.split_at(more.iter().position(|word| *word == "--").unwrap_or(more.len()));
    all.extend(flags.iter().map(|word| (*word).to_owned()));
    all.push("127.0.0.1".to_owned());
    all.extend(command.iter().skip(1).map(|word| (*word).to_owned()));
    all
}

/// Logs in, which comes to an end with an error that has these words.
#[track_caller]
pub(crate) fn refused(stock: &Stock, key: &Path, more: &[&str], words: &str) {
    refused_as(stock, "ssh_server", key, more, words);
}

#[track_caller]
fn refused_as(stock: &Stock, account: &str, key: &Path, more: &[&str], words: &str) {
    let output: Output =
        process::run(Path::new("ssh"), login(stock, account, key, more), LONGEST_WAIT).expect("ssh ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && output.stdout.is_empty() && error.contains(words),
        "{more:?}: expected {words:?}, found {output:?}; sshd: {}",
        stock.account.log()
    );
}

fn key_file(stock: &Stock, name: &str, key: &Key) -> io::Result<PathBuf> {
    let path = stock.fleet.file(name);
    fs::write(&path, key.pem())?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(path)
}

/// What comes over a tunnel whose near end this is, at most a little.
fn through(port: u16, first: &[u8]) -> io::Result<Vec<u8>> {
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
    let mut stream = wait::find(LONGEST_WAIT, connect).ok_or(io::ErrorKind::TimedOut)?;
    stream.set_read_timeout(Some(LONGEST_WAIT))?;
    stream.write_all(first)?;
    let mut heard = Vec::new();
    // It may be cut.
    let _ = stream.take(64).read_to_end(&mut heard);
    Ok(heard)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[test]
fn a_key_gets_the_port_of_its_session_and_nothing_else() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::a_key_gets_the_port_of_its_session_and_nothing_else")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let strangers = key_file(&stock, "stranger", &Key::new())?;
    refused(&stock, &strangers, &["-N"], DENIED);
    refused(&stock, &stock.fleet.sshd.key(), &["-N"], DENIED);

    let (mut attacker, mut other) = (Attacker::new(&stock, "liar")?, Attacker::new(&stock, "other")?);
    let others = other.session(&stock)?;
    attacker.with_session(&stock, |key, _| {
        refused(&stock, &strangers, &["-N"], DENIED);
        refused_as(&stock, "root", key, &["-N"], DENIED);
    })?;

    // Where it may not listen: a port of another device, any, the same one for everybody, and a socket.
    let socket = stock.fleet.file("socket");
    let free = free_port()?;
    for listen in [
        &|_| format!("127.0.0.1:{}", others.port),
        &|_| "127.0.0.1:0".to_owned(),
        &|_| format!("127.0.0.1:{free}"),
        &|own| format!("0.0.0.0:{own}"),
        &|own| format!("*:{own}"),
        &|own| format!("[::1]:{own}"),
        &|_| socket.display().to_string(),
    ] as [&dyn Fn(u16) -> String; 7]
    {
        attacker.with_session(&stock, |key, own| {
            let listen = format!("{}:127.0.0.1:9", listen(own));
            refused(&stock, key, &["-N", "-R", &listen], "forwarding failed");
        })?;
    }
    assert!(!socket.exists());

    // Whoever is revoked has no port, and no login.
    stock.fleet.server.tell(&["revoke", "other"]);
    refused(&stock, &other.key, &["-N"], DENIED);
    let mut operator = others.operator;
    assert!(!operator.wait()?.success());
    Ok(())
}

#[test]
fn a_login_leads_nowhere_and_runs_nothing() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::a_login_leads_nowhere_and_runs_nothing")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let mut attacker = Attacker::new(&stock, "liar")?;
    let sshd = format!("127.0.0.1:{}", stock.account.port());
    attacker.with_session(&stock, |key, _| {
        refused(&stock, key, &["-W", &sshd], "open failed: administratively prohibited");
    })?;
    let local = free_port()?;
    let (forward, socks) = (format!("127.0.0.1:{local}:{sshd}"), format!("127.0.0.1:{local}"));
    let [high, low] = stock.account.port().to_be_bytes();
    let by_socks = [5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low];
    for (name, tunnel, first) in
        [("L", ["-N", "-L", &forward], &b""[..]), ("D", ["-N", "-D", &socks], &by_socks)]
    {
        attacker.with_session(&stock, |key, _| {
            let log = stock.fleet.file(name);
            let words = login(&stock, "ssh_server", key, &tunnel);
            let mut ssh = Process::start(Path::new("ssh"), words, &log).expect("ssh starts");
            let heard = through(local, first).expect("it is the near end");
            assert!(!String::from_utf8_lossy(&heard).contains("SSH"), "{heard:?}");
            wait::until(
                "it is refused",
                || ssh.printed(),
                |said| said.contains("administratively prohibited"),
            );
            assert!(ssh.ended().is_none(), "the login itself is good: {}", ssh.printed());
        })?;
    }
    // No channel is opened that anything could run in.
    for command in [&["--", "id"][..], &["-T"], &["-tt"], &["-s", "--", "sftp"], &["-tt", "--", "/bin/sh"]] {
        attacker.with_session(&stock, |key, _| refused(&stock, key, command, "channel 0: open failed"))?;
    }
    Ok(())
}

#[test]
fn a_session_is_had_once() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::a_session_is_had_once")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let mut attacker = Attacker::new(&stock, "liar")?;
    let Waiting { mut operator, join, port } = attacker.session(&stock)?;

    // The agent's own way does not lead to a session of this one.
    let closed = turned_away(&stock.fleet.server, &attacker.liar.key, &frame_of(&join))?;
    assert_eq!(closed.reason, CloseReason::NotServed);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    attacker.liar.report(join.task, TaskState::Running, "", b"")?;
    let mut ssh = attacker.forward(&stock, port, target)?;
    let accepted = wait::find(LONGEST_WAIT, || listener.accept().ok());
    let (mut stream, _) = accepted.unwrap_or_else(|| panic!("nobody comes: {}", ssh.printed()));
    stream.write_all(b"SSH-2.0-liar\r\n")?;
    let mut heard = [0; 14];
    operator.stdout.as_mut().expect("it is piped").read_exact(&mut heard)?;
    assert_eq!(&heard, b"SSH-2.0-liar\r\n");
    let listen = format!("127.0.0.1:{port}:{target}");
    refused(&stock, &attacker.key, &["-N", "-R", &listen], DENIED);
    drop(stream);
    assert!(operator.wait_with_output()?.stdout.is_empty());
    stock.fleet.ended();

    // The session is over, but its login goes on: what it has kept leads to no session.
    assert!(ssh.ended().is_none(), "{}", ssh.printed());
    refused(&stock, &attacker.key, &["-N", "-R", &listen], DENIED);
    ssh.kill();
    wait::until("nobody is logged in", || stock.account.sessions(), Vec::is_empty);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    Ok(())
}

#[test]
fn who_may_only_look_gets_no_session() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::who_may_only_look_gets_no_session")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let viewer = Laptop::logged_in(&stock.fleet.server, "vera", "viewer")?;
    viewer.refused(&["proxy", DEVICE], 5, &["may not"]);
    assert!(stock.fleet.tasks().is_empty() && stock.fleet.processes().is_empty());
    let operator = Laptop::logged_in(&stock.fleet.server, "otto", "operator")?;
    let mut session = operator.start(&["proxy", DEVICE])?;
    stock.fleet.wait_running(1);
    stock.fleet.server.tell(&["revoke", "--operator", "otto"]);
    session.wait(LONGEST_WAIT);
    let task = &stock.fleet.ended()[0];
    assert_eq!(
        (&task["kind"], &task["who"], &task["reason"]),
        (&"openssh".into(), &"otto".into(), &"the rights of otto were taken away".into())
    );
    Ok(())
}

/// Not of that device, though its key is known.
#[test]
fn a_device_that_waits_for_nothing_gets_nothing() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::a_device_that_waits_for_nothing_gets_nothing")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let liar = Liar::taking("openssh", &stock.fleet.server, "liar")?;
    let key = key_file(&stock, "liar", &liar.key)?;
    refused(&stock, &key, &["-N"], DENIED);
    let join = Join { task: TaskId(1), key: Secret([0; 16]) };
    let closed = turned_away(&stock.fleet.server, &liar.key, &frame_of(&join))?;
    assert_eq!(closed.reason, CloseReason::NotServed);
    assert!(stock.fleet.server.command(&["authorized-keys", "ssh-ed25519", "AAAA"]).stdout.is_empty());
    let mut operator = std::process::Command::new(holdfast_tests::binaries::holdfast())
        .args(["authorized-keys", "ecdsa-sha2-nistp256", "AAAA", "--data", "/nonexistent"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    assert!(operator.wait()?.success(), "sshd would not look at its answer");
    Ok(())
}

#[test]
fn an_ssh_server_with_another_host_key_is_told_nothing() -> io::Result<()> {
    if !namespace::is_inside("openssh_refused::an_ssh_server_with_another_host_key_is_told_nothing")? {
        return Ok(());
    }
    let other = Sshd::start()?;
    let key = other.directory().join("ssh_host_ed25519_key.pub");
    let stock = Stock::configured(&format!("host-keys = ['{}']\n", key.display()))?;
    let output = stock.fleet.run("ssh", &["kiosk.fleet", "true"]);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let failed = stock.fleet.ended().pop().expect("there was one");
    let said = failed["output"].as_str().unwrap_or_default();
    assert!(failed["state"] == "failed" && said.contains("Host key verification failed"), "{failed}");
    assert!(!stock.account.log().contains("Accepted publickey"), "{}", stock.account.log());
    Ok(())
}
