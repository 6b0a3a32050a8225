//! Peers that break the protocol, or that have no right to be here: each is told why, leaves an event, and costs no
//! other device anything.

use std::{io, net::TcpStream, time::Duration};

use holdfast_tests::{
    agent::Agent,
    device::{Closed, Device, ENROLMENT, FRAMED, Key, STREAM, Tls, frame_of, hello},
    server::Server,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{Close, Echo, Facts, Hello, Kind, Message, StreamId, Text, VERSION, Welcome, decode},
    tag::Tag,
};
use serde_json::Value;

/// A server, and a device that minds its own business.
struct Scene {
    server: Server,
    bystander: Agent,
}

impl Scene {
    fn new() -> io::Result<Self> {
        let server = Server::start()?;
        let bystander = Agent::start(&server, "bystander")?;
        Ok(Self { server, bystander })
    }

    /// A new key that is registered as `name`.
    fn key(&self, name: &str) -> io::Result<Key> {
        Key::enrolled(&self.server.invite(&["--name", name]))
    }

    /// The bystander has noticed nothing, and still works.
    fn assert_undisturbed(&self) {
        self.bystander.send("still here");
        wait::until(
            "its message is archived",
            || self.server.archived("bystander"),
            |all| all == &["still here"],
        );
        let sessions = self.server.ask(&["sessions", "bystander"]);
        assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
    }
}

/// A frame of any tag.
fn frame(tag: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short body");
    [tag, length.to_be_bytes().as_slice(), body].concat()
}

fn reason(event: &Value) -> &str {
    event["detail"]["reason"].as_str().unwrap_or_default()
}

/// Says `bytes` behind a `PING` on a new connection, and gives the farewell.
fn say(server: &Server, key: &Key, bytes: &[u8]) -> io::Result<Closed> {
    let mut device = Device::connect(server.address(), FRAMED, key)?;
    device.write(&[b"PING", bytes].concat())?;
    device.farewell()
}

#[test]
fn strangers_and_the_revoked_are_told_so() -> io::Result<()> {
    let scene = Scene::new()?;
    let hello = frame_of(&hello());

    let closed = say(&scene.server, &Key::new(), &hello)?;
    assert_eq!(closed.reason, CloseReason::UnknownKey, "{closed:?}");
    assert!(closed.detail.contains("holdfast enroll"), "{closed:?}");
    scene.server.wait_event("connection-refused", |event| reason(event) == "unknown-key");

    let key = scene.key("lost")?;
    let mut device = Device::online(scene.server.address(), &key)?;
    scene.server.tell(&["revoke", "lost"]);
    assert_eq!(device.farewell()?.reason, CloseReason::Revoked);
    assert_eq!(say(&scene.server, &key, &hello)?.reason, CloseReason::Revoked);
    let refused = scene.server.wait_event("connection-refused", |event| reason(event) == "revoked");
    assert_eq!(refused["device"], "lost", "{refused:#}");
    assert_eq!(refused["address"], "127.0.0.1", "{refused:#}");
    scene.server.wait_event("device-revoked", |event| event["device"] == "lost");
    // Its name may be another's only where an operator says so; its key is never good again.
    let closed = key.enrol(&scene.server.invite(&["--name", "again"]))?;
    assert_eq!(closed.tag, Tag::CLOSE, "{closed:?}");
    scene.assert_undisturbed();
    Ok(())
}

/// What strangers do at will takes nothing away from what is known of devices.
#[test]
fn a_storm_of_strangers_hides_no_device() -> io::Result<()> {
    let scene = Scene::new()?;
    let key = scene.key("lost")?;
    scene.server.tell(&["revoke", "lost"]);
    // From the same network as the device, and more than are written down.
    for _ in 0..20 {
        assert_eq!(say(&scene.server, &Key::new(), b"nonsense")?.reason, CloseReason::ProtocolError);
    }
    assert!(scene.server.events("connection-refused").len() < 20);
    assert_eq!(say(&scene.server, &key, &frame_of(&hello()))?.reason, CloseReason::Revoked);
    let refused = scene.server.wait_event("connection-refused", |event| reason(event) == "revoked");
    assert_eq!(refused["device"], "lost", "{refused:#}");
    scene.assert_undisturbed();
    Ok(())
}

/// Whoever goes by itself was not turned away, and its reasons are not ours.
#[test]
fn a_peer_that_leaves_before_its_hello_is_not_refused() -> io::Result<()> {
    let scene = Scene::new()?;
    for reason in [CloseReason::Revoked, CloseReason::Other(31_337)] {
        let mut device = Device::connect(scene.server.address(), FRAMED, &Key::new())?;
        device.write(b"PING")?;
        device.send(&Close { reason, retry_after: 0, detail: Text::shortened("so there") })?;
        while let Some(received) = device.receive()? {
            assert_eq!(received.tag, Tag::PONG, "it is told nothing");
        }
    }
    // What comes later is written down later.
    assert_eq!(say(&scene.server, &Key::new(), b"nonsense")?.reason, CloseReason::ProtocolError);
    scene.server.wait_event("connection-refused", |event| reason(event) == "protocol-error");
    assert_eq!(scene.server.events("connection-refused").len(), 1);
    Ok(())
}

#[test]
fn before_the_welcome_nothing_is_forgiven() -> io::Result<()> {
    let scene = Scene::new()?;
    let (server, key) = (&scene.server, scene.key("rude")?);
    let other_versions = Hello { oldest_version: 200, newest_version: 201, ..hello() };
    let other_kind = Hello { kind: ConnectionKind::Other(77), ..hello() };
    let cases: [(&str, Vec<u8>, CloseReason); 7] = [
        ("an unknown tag", frame(b"ZZZZ", b""), CloseReason::ProtocolError),
        ("a message", frame(b"MESG", b"\0\0"), CloseReason::ProtocolError),
        ("a frame too large", frame(b"HELO", &[0; 300]), CloseReason::ProtocolError),
        ("no tag at all", b"\x16\x03\x01\x02".to_vec(), CloseReason::ProtocolError),
        ("a malformed hello", frame(b"HELO", b"\xff\xff\xff"), CloseReason::ProtocolError),
        ("versions of the future", frame_of(&other_versions), CloseReason::NoCommonVersion),
        ("a kind of the future", frame_of(&other_kind), CloseReason::NotServed),
    ];
    for (what, bytes, reason) in &cases {
        let closed = say(server, &key, bytes)?;
        assert_eq!(closed.reason, *reason, "{what}: {closed:?}");
        assert!(!closed.detail.is_empty(), "{what}");
        server.wait_event("connection-refused", |event| event["detail"]["text"] == closed.detail.as_str());
    }
    // Without the PING.
    let mut device = Device::connect(server.address(), FRAMED, &key)?;
    device.send(&hello())?;
    let closed = device.farewell()?;
    assert!(closed.reason == CloseReason::ProtocolError && closed.detail.contains("PING"), "{closed:?}");
    // None of these was a session of the device.
    assert!(server.ask(&["sessions", "rude"]).is_empty());
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn after_the_welcome_the_session_ends_and_says_why() -> io::Result<()> {
    let scene = Scene::new()?;
    let key = scene.key("rude")?;
    let message =
        |number| frame_of(&Message { stream: STREAM, number, time: 0, kind: Kind::TEXT, body: b"text" });
    let flood: Vec<u8> = (1..=64).flat_map(message).collect();
    let cases: [(&str, Vec<u8>); 8] = [
        ("a frame too large", frame(b"MESG", &vec![0; 16 * 1024])),
        ("no tag", b"ping".to_vec()),
        ("a malformed message", frame(b"MESG", b"\xff")),
        ("malformed facts", frame(b"FACT", &[0xff; 40])),
        ("a second hello", frame_of(&hello())),
        ("a gap", [message(1001), message(1003)].concat()),
        ("more than the window", flood),
        ("an echo of nothing", frame_of(&Echo { stream: StreamId(1), number: 1 })),
    ];
    for (index, (what, bytes)) in cases.iter().enumerate() {
        let mut device = Device::online(scene.server.address(), &key)?;
        device.write(bytes)?;
        let closed = device.farewell()?;
        assert_eq!(closed.reason, CloseReason::ProtocolError, "{what}: {closed:?}");
        let sessions = wait::until(
            "the session's end is written down",
            || scene.server.ask(&["sessions", "rude"]),
            |all| all.len() == index + 1 && all.iter().all(|session| !session["ended"].is_null()),
        );
        let ended = &sessions[index];
        assert_eq!(ended["reason"], "protocol-error", "{what}: {ended:#}");
        scene.server.wait_event("device-disconnected", |event| event["session"] == ended["id"]);
    }
    scene.assert_undisturbed();
    Ok(())
}

/// A peer that never says anything is not waited for when the server stops.
#[test]
fn silent_strangers_do_not_hold_up_the_end() -> io::Result<()> {
    let mut scene = Scene::new()?;
    let silent = TcpStream::connect(scene.server.address())?;
    // It was accepted: those that came after it are online.
    scene.assert_undisturbed();
    scene.server.terminate();
    assert!(!scene.server.log().contains("did not end in time"), "{}", scene.server.log());
    drop(silent);
    Ok(())
}

#[test]
fn what_is_new_is_skipped_or_agreed_on() -> io::Result<()> {
    let scene = Scene::new()?;
    let key = scene.key("newer")?;
    let mut device = Device::connect(scene.server.address(), FRAMED, &key)?;
    device.write(b"PING")?;
    device.send(&Hello { newest_version: 9, ..hello() })?;
    let welcome = device.expect(Tag::WELCOME)?;
    let welcome: Welcome<'_> = decode(&welcome.body).map_err(io::Error::other)?;
    assert_eq!(welcome.version, VERSION);
    // A tag of that future, in one piece with a message, and in two.
    let (first, second) = (frame(b"NEWS", &[7; 5000]), frame(b"NEWS", b""));
    device.write(&first)?;
    device.send_text(STREAM, 1, "behind it")?;
    device.write(&second[..6])?;
    device.echoed(1)?;
    device.write(&second[6..])?;
    device.send(&Facts { host_name: Text::shortened("newer"), ..Facts::default() })?;
    // The largest frame that is allowed.
    let largest = vec![b'x'; usize::from(welcome.max_frame) - 64];
    device.send_text(STREAM, 2, std::str::from_utf8(&largest).unwrap_or_default())?;
    device.echoed(2)?;
    assert_eq!(scene.server.archived("newer").len(), 2);
    // It leaves with a reason that this version does not know: the number is carried.
    let close = frame(b"CLOS", b"\xe7\x07\x00\x00");
    device.write(&close)?;
    wait::until(
        "the session ends",
        || scene.server.ask(&["sessions", "newer"]),
        |all| all[0]["reason"] == "closed",
    );
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn tokens_are_good_once_and_for_their_time() -> io::Result<()> {
    let scene = Scene::new()?;
    let server = &scene.server;
    let refused = |line: &str, reason: &str, words: &str| {
        let agent = Agent::new("refused").expect("a directory");
        let output = agent.command(&["enroll", line], LONGEST_WAIT).expect("holdfast-agent runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{told}");
        assert!(told.contains(words), "expected {words:?} in {told:?}");
        assert_eq!(told.matches("holdfast enroll").count(), 1, "the next step is told once: {told:?}");
        server.wait_event("enrolment-refused", |event| event["detail"]["reason"] == reason);
    };

    let line = server.invite(&["--name", "one"]);
    Agent::new("one")?.tell(&["enroll", &line]);
    refused(&line, "token-used-up", "used");

    // Two lines for one name: whoever comes first has it.
    let (first, second) = (server.invite(&["--name", "two"]), server.invite(&["--name", "two"]));
    Key::enrolled(&first)?;
    refused(&second, "name-taken", "another name");

    let brief = server.ask(&["enroll", "--name", "brief", "--expires", "1s"]);
    let line = brief[0]["line"].as_str().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    // No condition to wait for is visible from outside: the second is over when the clock says so.
    std::thread::sleep(Duration::from_millis(1_100));
    refused(line, "token-expired", "expire");

    // The right form, and a token that was never given.
    let elsewhere = Server::configured("", Some(server.address()))?;
    let closed = Key::new().enrol(&elsewhere.invite(&[]))?;
    assert_eq!(closed.tag, Tag::CLOSE);
    server.wait_event("enrolment-refused", |event| event["detail"]["reason"] == "token-unknown");

    // Several devices by one line, with numbers.
    let line = server.invite(&["--name", "many", "--uses", "2"]);
    for _ in 0..2 {
        Key::enrolled(&line)?;
    }
    refused(&line, "token-used-up", "used");
    let many = server.ask(&["devices"]);
    let many =
        many.iter().filter(|device| device["name"].as_str().is_some_and(|name| name.starts_with("many")));
    assert_eq!(many.count(), 2);
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn an_enrolment_that_breaks_the_protocol_is_told_so() -> io::Result<()> {
    let scene = Scene::new()?;
    let cases: [(&str, Vec<u8>); 5] = [
        ("no PING", frame(b"ENRL", b"")),
        ("an unknown tag", [b"PING", frame(b"ZZZZ", b"").as_slice()].concat()),
        ("a malformed request", [b"PING", frame(b"ENRL", &[0xff; 30]).as_slice()].concat()),
        ("a frame too large", [b"PING", frame(b"ENRL", &[0; 6000]).as_slice()].concat()),
        ("no tag", b"PING\0\0\0\0".to_vec()),
    ];
    for (what, bytes) in &cases {
        let mut device = Device::<Tls>::connect(scene.server.address(), ENROLMENT, &Key::new())?;
        device.write(bytes)?;
        let closed = device.farewell()?;
        assert_eq!(closed.reason, CloseReason::ProtocolError, "{what}: {closed:?}");
        scene
            .server
            .wait_event("enrolment-refused", |event| event["detail"]["text"] == closed.detail.as_str());
    }
    scene.assert_undisturbed();
    Ok(())
}

#[test]
fn an_agent_does_not_speak_with_the_wrong_server() -> io::Result<()> {
    let (right, wrong) = (Server::start()?, Server::start()?);
    // A line that leads to one server and carries the pin of another.
    let line = Server::configured("", Some(wrong.address()))?.invite(&["--name", "lured"]);
    let lured = Agent::new("lured")?;
    let output = lured.command(&["enroll", &line], LONGEST_WAIT)?;
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("key"), "{output:?}");
    assert!(wrong.events("device-enrolled").is_empty());

    // A registered agent, whose server's place is taken by another.
    let proxy = holdfast_tests::proxy::Proxy::start()?;
    let behind = Server::behind(&proxy)?;
    let mut agent = Agent::start(&behind, "loyal")?;
    agent.send("one");
    wait::until("it is archived", || behind.archived("loyal"), |all| all == &["one"]);
    proxy.lead_to(right.address());
    proxy.break_all(agent.process_id().unwrap_or(0), holdfast_tests::proxy::Break::Cut);
    behind.wait_online("loyal", false);
    agent.send("two");
    right.wait_event("connection-refused", |event| reason(event) == "protocol-error");
    assert!(right.ask(&["messages"]).is_empty());
    proxy.lead_to(behind.address());
    wait::until("it comes back", || behind.archived("loyal"), |all| all == &["one", "two"]);
    agent.terminate();
    Ok(())
}
