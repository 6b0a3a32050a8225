//! Devices that lie about tasks, and peers that want the bytes of others.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use holdfast_tests::{
    binaries,
    device::{Closed, Device, FRAMED, Key, frame_of, hello},
    process,
    server::Server,
    sshd,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::{
    alpn,
    code::{CloseReason, TaskState},
    message::{self, Facts, Join, Kind, Offer, Order, Report, Secret, TaskId, Text},
    tag::Tag,
};
use serde_json::Value;

/// A device of the test's own, which takes ssh.
pub(crate) struct Liar {
    pub(crate) key: Key,
    device: Device,
}

/// An order as it came.
#[derive(Clone, Copy)]
struct Ordered {
    task: TaskId,
    key: Secret,
}

impl Liar {
    fn online(server: &Server, name: &str) -> io::Result<Self> {
        Self::taking("ssh", server, name)
    }

    /// One that is online, and takes tasks of this kind.
    pub(crate) fn taking(kind: &str, server: &Server, name: &str) -> io::Result<Self> {
        let key = Key::enrolled(&server.invite(&["--name", name]))?;
        let mut device = Device::connect(server.address(), FRAMED, &key)?;
        device.write(b"PING")?;
        device.send(&hello())?;
        device.expect(Tag::WELCOME)?;
        let kinds = [Kind::new(kind).expect("a kind")].into_iter().collect();
        device.send(&Offer { kinds, tasks: Default::default() })?;
        Ok(Self { key, device })
    }

    /// What an operator wants of it, who waits for its bytes now.
    fn ordered(&mut self, server: &Server, name: &str) -> io::Result<(Ordered, Child)> {
        let (order, operator) = self.asked(server, name)?;
        let order: Order<'_> = message::decode(&order).map_err(io::Error::other)?;
        assert_eq!(order.kind.as_str(), "ssh");
        Ok((Ordered { task: order.task, key: order.key }, operator))
    }

    /// The order that comes as an operator asks for a session, who waits for its bytes now.
    pub(crate) fn asked(&mut self, server: &Server, name: &str) -> io::Result<(Vec<u8>, Child)> {
        let operator = Command::new(binaries::holdfast())
            .args(["proxy", name, "--data"])
            .arg(server.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok((self.device.expect(Tag::ORDER)?.body, operator))
    }

    pub(crate) fn report(
        &mut self,
        task: TaskId,
        state: TaskState,
        detail: &str,
        output: &[u8],
    ) -> io::Result<()> {
        self.device.send(&Report { task, state, detail: Text::shortened(detail), output })
    }
}

/// What a data connection is told that says this first.
pub(crate) fn turned_away(server: &Server, key: &Key, first: &[u8]) -> io::Result<Closed> {
    let mut connection = Device::connect(server.address(), alpn::DATA, key)?;
    connection.write(first)?;
    connection.farewell()
}

fn join(Ordered { task, key }: Ordered) -> Vec<u8> {
    frame_of(&Join { task, key })
}

fn task(server: &Server, at: usize) -> Value {
    server.api().list("/tasks").expect("the server tells")[at].clone()
}

#[test]
fn bytes_are_for_one_connection_of_their_own_device() -> io::Result<()> {
    let server = Server::start()?;
    let (mut liar, other) = (Liar::online(&server, "liar")?, Liar::online(&server, "other")?);
    let (ordered, operator) = liar.ordered(&server, "liar")?;

    let wrong = Ordered { key: Secret([0; 16]), ..ordered };
    let unknown = Ordered { task: TaskId(1), ..ordered };
    for (key, first, reason) in [
        (&other.key, join(ordered), CloseReason::NotServed),
        (&liar.key, join(wrong), CloseReason::NotServed),
        (&liar.key, join(unknown), CloseReason::NotServed),
        (&Key::new(), join(ordered), CloseReason::UnknownKey),
        (&liar.key, b"PINGPINGPINGPINGPINGPINGPINGPING".to_vec(), CloseReason::ProtocolError),
        (&liar.key, [frame_of(&hello()), vec![0; 32]].concat(), CloseReason::ProtocolError),
    ] {
        let closed = turned_away(&server, key, &first)?;
        assert_eq!(closed.reason, reason, "{closed:?}");
        server.wait_event("connection-refused", |event| event["detail"]["text"] == *closed.detail);
    }

    // None of that has spoilt the one that may.
    let mut data = Device::connect(server.address(), alpn::DATA, &liar.key)?;
    data.write(&[join(ordered), b"SSH-2.0-liar\r\n".to_vec()].concat())?;
    data.expect(Tag::JOINED)?;
    assert_eq!(turned_away(&server, &liar.key, &join(ordered))?.reason, CloseReason::NotServed);
    drop(data);
    let output = operator.wait_with_output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SSH-2.0-liar\r\n");
    assert_eq!(turned_away(&server, &liar.key, &join(ordered))?.reason, CloseReason::NotServed);
    // It went without a word of TLS: nobody knows whether that was all.
    let ended = wait::until("it has ended", || task(&server, 0), |task| task["ended"].is_string());
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(
        ended["reason"].as_str().unwrap_or_default().starts_with("the connection to the device broke"),
        "{ended}"
    );
    Ok(())
}

#[test]
fn what_a_device_says_of_its_tasks_harms_nobody() -> io::Result<()> {
    let server = Server::start()?;
    let (mut liar, mut other) = (Liar::online(&server, "liar")?, Liar::online(&server, "other")?);
    let (ordered, operator) = liar.ordered(&server, "liar")?;
    other.report(ordered.task, TaskState::Failed, "of another's", b"")?;
    // Back and forth, a state that there is not, and of a task that is not its own.
    for (id, state) in [
        (ordered.task, TaskState::Running),
        (ordered.task, TaskState::Starting),
        (ordered.task, TaskState::Other(77)),
        (TaskId(1), TaskState::Failed),
    ] {
        liar.report(id, state, "", b"")?;
    }
    wait::until("it runs", || task(&server, 0), |task| task["state"] == "running");
    let escapes = b"\x1b]0;owned\x07\xff\nsecond line";
    liar.report(ordered.task, TaskState::Failed, "<b>bad</b>", escapes)?;
    let ended = wait::until("it has ended", || task(&server, 0), |task| task["ended"].is_string());
    assert_eq!((&ended["state"], &ended["reason"]), (&"failed".into(), &"<b>bad</b>".into()));
    let output = operator.wait_with_output()?;
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("<b>bad</b>"),
        "{output:?}"
    );
    let shown = server.tell(&["task", "show", &ended["id"].to_string()]);
    assert!(shown.contains("second line") && !shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
    // It has ended: whatever else is said of it changes nothing.
    for _ in 0..100 {
        liar.report(ordered.task, TaskState::Done, "", b"")?;
    }
    // Too much about tasks that it never had ends the connection.
    for _ in 0..100 {
        if liar.report(TaskId(1), TaskState::Done, "", b"").is_err() {
            break;
        }
    }
    assert_eq!(liar.device.farewell()?.reason, CloseReason::ProtocolError);
    assert_eq!(task(&server, 0)["state"], "failed");
    Ok(())
}

#[test]
fn what_was_stopped_was_not_a_failure_of_its_own() -> io::Result<()> {
    let server = Server::start()?;
    let mut liar = Liar::online(&server, "liar")?;
    let (ordered, operator) = liar.ordered(&server, "liar")?;
    liar.report(ordered.task, TaskState::Running, "", b"")?;
    wait::until("it runs", || task(&server, 0), |task| task["state"] == "running");
    server.tell(&["task", "stop", &task(&server, 0)["id"].to_string()]);
    liar.report(ordered.task, TaskState::Failed, "ssh ended with exit code 255", b"")?;
    let ended = wait::until("it has ended", || task(&server, 0), |task| task["ended"].is_string());
    let reason = ended["reason"].as_str().unwrap_or_default();
    assert!(ended["state"] == "done" && reason.starts_with("stopped by "), "{ended}");
    assert!(!operator.wait_with_output()?.status.success());
    Ok(())
}

#[test]
fn a_devices_word_becomes_no_option_of_ssh() -> io::Result<()> {
    let server = Server::start()?;
    let mut liar = Liar::online(&server, "liar")?;
    for user in ["-oProxyCommand=touch trap", "a b", "root;id", "-l", "Root"] {
        let user = Text::shortened(user);
        liar.device.send(&Facts {
            host_name: Text::shortened("x"),
            version: Text::shortened("1"),
            ssh_user: user,
        })?;
        let kept = |device: &Option<Value>| {
            device.as_ref().is_some_and(|device| device["ssh_user"] == user.as_str())
        };
        wait::until("it is kept", || server.device("liar"), kept);
        let config = server.tell(&["ssh-config"]);
        assert!(!config.contains("User ") && !config.contains(user.as_str()), "{config}");
        // What ssh has understood, without connecting.
        let data = server.data().display().to_string();
        let words = ["--data", &data, "ssh", "liar", "--", "-F", "none", "-G"];
        let output = process::run(&binaries::holdfast(), words, LONGEST_WAIT)?;
        let understood = String::from_utf8_lossy(&output.stdout);
        let own = format!("user {}", sshd::user()?);
        assert!(understood.lines().any(|line| line == own), "{output:?}");
        assert!(!understood.contains("touch"), "{understood}");
    }
    assert!(server.tell(&["known-hosts"]).is_empty(), "it has registered none");
    Ok(())
}
