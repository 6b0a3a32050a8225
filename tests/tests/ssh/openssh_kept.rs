//! What devices, and others of the server's machine, do with the ports of sessions by the server's own SSH server.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use holdfast_tests::{
    namespace,
    process::{self, Process},
    system_sshd::command,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::code::TaskState;

use crate::{
    openssh::Stock,
    openssh_refused::{Attacker, DENIED, Waiting, login},
};

/// How long the server leaves a login to go behind the end of its session, and more.
const FAREWELL: Duration = Duration::from_secs(150);

/// The devices of these tests say nothing for long.
const PATIENT: &str = "[keep-alive]\ninterval = '60s'\ntimeout = '60s'\n";

/// A login that stays behind the end of its session, by all that OpenSSH's programs can do for that.
struct Kept {
    port: u16,
    _ssh: Process,
    /// Its end of the session's connection, which is never closed.
    _stream: TcpStream,
}

impl Attacker {
    /// Brings a session's bytes, and stays when it is over.
    fn keep(&mut self, stock: &Stock) -> io::Result<Kept> {
        let Waiting { mut operator, join, port } = self.session(stock)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        self.liar.report(join.task, TaskState::Running, "", b"")?;
        let ssh = self.forward(stock, port, listener.local_addr()?)?;
        let accepted = wait::find(LONGEST_WAIT, || listener.accept().ok());
        let (mut stream, _) = accepted.unwrap_or_else(|| panic!("nobody comes: {}", ssh.printed()));
        stream.write_all(b"SSH")?;
        operator.stdout.as_mut().expect("it is piped").read_exact(&mut [0; 3])?;
        operator.kill()?;
        operator.wait()?;
        self.liar.report(join.task, TaskState::Done, "", b"")?;
        Ok(Kept { port, _ssh: ssh, _stream: stream })
    }
}

impl Stock {
    /// The ports that this device is said to keep.
    fn kept(&self, device: &str) -> Vec<u64> {
        let events = self.fleet.server.events("port-kept").into_iter();
        let mut ports: Vec<_> = events
            .filter(|event| event["device"] == device)
            .filter_map(|event| event["detail"]["port"].as_u64())
            .collect();
        ports.sort_unstable();
        ports
    }

    #[track_caller]
    fn wait_kept(&self, device: &str, kept: &[Kept]) {
        let mut ports: Vec<_> = kept.iter().map(|kept| u64::from(kept.port)).collect();
        ports.sort_unstable();
        let found = wait::find(FAREWELL, || (self.kept(device) == ports).then_some(()));
        assert!(found.is_some(), "{device} keeps {ports:?}, said are {:?}", self.kept(device));
    }
}

#[test]
fn a_device_that_keeps_its_logins_gets_no_further_session() -> io::Result<()> {
    if !namespace::is_inside("openssh_kept::a_device_that_keeps_its_logins_gets_no_further_session")? {
        return Ok(());
    }
    let stock = Stock::configured(PATIENT)?;
    let server = &stock.fleet.server;
    let (mut liar, mut revoked) = (Attacker::new(&stock, "liar")?, Attacker::new(&stock, "revoked")?);
    let of_revoked = [revoked.keep(&stock)?];
    server.tell(&["revoke", "revoked"]);
    let mut of_liar = Vec::new();
    for _ in 0..4 {
        of_liar.push(liar.keep(&stock)?);
    }
    stock.fleet.ended();
    stock.wait_kept("revoked", &of_revoked);
    stock.wait_kept("liar", &of_liar);
    let told = server.events("port-kept")[0]["detail"]["text"].clone();
    assert!(told.as_str().is_some_and(|text| text.contains("ss -ltnp")), "{told}");

    let refused = server.command(&["proxy", "liar"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("4 sessions that are over") && error.contains("kill PROCESS"), "{error}");
    let event = server.wait_event("task-refused", |event| event["device"] == "liar");
    assert_eq!(event["detail"]["kind"], "openssh", "{event}");

    // As it is told: root ends a login, and the next session is had.
    let port = of_liar[0].port;
    let shown = process::run(Path::new("ss"), ["-Hltnp", "sport", "=", &format!(":{port}")], LONGEST_WAIT)?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let id = shown.split_once("pid=").and_then(|(_, rest)| rest.split(',').next());
    command("kill", &[id.unwrap_or_else(|| panic!("expected sshd's process, found {shown:?}"))])?;
    wait::until_true("nobody listens there", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    let next = liar.session(&stock)?;
    let before: Vec<_> = of_liar.iter().chain(&of_revoked).map(|kept| kept.port).collect();
    assert!(!before.contains(&next.port), "no port is given twice");
    Ok(())
}

#[test]
fn nobody_else_of_the_machine_is_taken_for_a_device() -> io::Result<()> {
    if !namespace::is_inside("openssh_kept::nobody_else_of_the_machine_is_taken_for_a_device")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    let mut attacker = Attacker::new(&stock, "liar")?;
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let Waiting { operator, port, .. } = attacker.session(&stock)?;
        let listener = TcpListener::bind((address, port))?;
        let output = operator.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        let words = "somebody else of this machine listens on the session's port";
        assert!(!output.status.success() && error.contains(words), "{error}");
        listener.set_nonblocking(true)?;
        assert!(listener.accept().is_err(), "nobody has come here");
        let failed = stock.fleet.ended().pop().expect("there was one");
        assert_eq!(failed["state"], "failed", "{failed}");
    }
    Ok(())
}

#[test]
fn a_session_is_good_for_a_few_logins() -> io::Result<()> {
    if !namespace::is_inside("openssh_kept::a_session_is_good_for_a_few_logins")? {
        return Ok(());
    }
    let stock = Stock::configured(PATIENT)?;
    let mut attacker = Attacker::new(&stock, "liar")?;
    let waiting = attacker.session(&stock)?;
    let words = login(&stock, "ssh_server", &attacker.key, &["-W", "127.0.0.1:9"]);
    let log_in = || {
        let output = process::run(Path::new("ssh"), &words, LONGEST_WAIT).expect("ssh ends");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(DENIED) || error.contains("administratively prohibited"), "{error}");
        error.contains("administratively prohibited")
    };
    let logins = (0..10).take_while(|_| log_in()).count();
    // Three attempts of an honest device, of which some ask twice.
    assert!((3..=6).contains(&logins), "{logins}");
    let mut operator = waiting.operator;
    operator.kill()?;
    operator.wait()?;
    let _next = attacker.session(&stock)?;
    assert!(log_in(), "the next session has its own");
    Ok(())
}

#[test]
fn without_the_account_there_is_no_session() -> io::Result<()> {
    if !namespace::is_inside("openssh_kept::without_the_account_there_is_no_session")? {
        return Ok(());
    }
    let stock = Stock::start()?;
    command("userdel", &["--force", "ssh_server"])?;
    let output = stock.fleet.run("ssh", &["kiosk.fleet", "true"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no account ssh_server") && error.contains("setup-ssh-account"), "{error}");
    stock.fleet.server.wait_event("task-refused", |event| event["device"] == "kiosk");
    assert!(stock.fleet.tasks().is_empty());
    Ok(())
}
