//! Devices without a key of their own, which come over the connection of a gateway: who may come in, who is told why
//! not, and that all else is as with every other device.

use std::io;

use holdfast_tests::{
    device::{Closed, Device, FRAMED, GATEWAY, Key, STREAM, frame_of, hello},
    server::Server,
    wait,
};
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    message::{Gateway, Hello, Text, Welcome, decode},
    tag::Tag,
};

/// When a device that is turned away over a gateway asks again, in seconds.
const WIRED_RETRY: u32 = 30;

/// A server, the keys of two gateways, and devices: `barometer` and `lost`, which is revoked, are wired to `pi`, and
/// `board` is on its own.
struct Scene {
    server: Server,
    pi: Key,
    other: Key,
    revoked: Key,
}

impl Scene {
    fn new() -> io::Result<Self> {
        let server = Server::start()?;
        let key = |name| Key::enrolled(&server.invite(&["--name", name]));
        let (pi, other, revoked) = (key("pi")?, key("other")?, key("revoked")?);
        key("board")?;
        for (name, gateway) in [("barometer", "pi"), ("lost", "pi"), ("orphan", "revoked")] {
            server.tell(&["enroll", "--name", name, "--gateway", gateway]);
        }
        server.tell(&["revoke", "lost"]);
        server.tell(&["revoke", "revoked"]);
        Ok(Self { server, pi, other, revoked })
    }

    /// Says `bytes` on a new connection of a gateway, and gives the farewell.
    fn say(&self, key: &Key, bytes: &[u8]) -> io::Result<Closed> {
        let mut device = Device::connect(self.server.address(), GATEWAY, key)?;
        device.write(bytes)?;
        device.farewell()
    }

    /// A session of a wired device.
    fn online(&self, key: &Key, name: &str) -> io::Result<Device> {
        let mut device = Device::connect(self.server.address(), GATEWAY, key)?;
        device.write(&opening(name))?;
        device.expect(Tag::PONG)?;
        let welcome = device.expect(Tag::WELCOME)?;
        let welcome: Welcome<'_> = decode(&welcome.body).expect("a welcome");
        assert_eq!(welcome.name.as_str(), name);
        Ok(device)
    }
}

fn gate(name: &str) -> Vec<u8> {
    frame_of(&Gateway { name: Text::shortened(name) })
}

/// All that is said until a welcome.
fn opening(name: &str) -> Vec<u8> {
    [gate(name).as_slice(), b"PING", &frame_of(&hello())].concat()
}

#[test]
fn a_wired_device_is_a_device_like_any_other() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, pi, .. } = &scene;
    let mut device = scene.online(pi, "barometer")?;
    server.wait_online("barometer", true);
    let shown = server.device("barometer").expect("it is known");
    assert_eq!((&shown["gateway"], &shown["address"]), (&"pi".into(), &"127.0.0.1".into()), "{shown:#}");
    assert!(!server.shows_online("pi"), "its gateway is another device");
    let table = server.tell(&["devices"]);
    assert!(table.contains("127.0.0.1 via pi"), "{table}");

    device.send_text(STREAM, 1, "1013 hPa")?;
    device.echoed(1)?;
    let mut device = scene.online(pi, "barometer")?;
    device.send_text(STREAM, 1, "1013 hPa")?;
    device.echoed(1)?;
    assert_eq!(server.archived("barometer"), ["1013 hPa"]);

    server.tell(&["send", "barometer", "calibrate"]);
    // Nothing but this came since the welcome: it has no use for `ENDP`.
    assert_eq!(device.receive()?.map(|received| received.tag), Some(Tag::MESSAGE));
    Ok(())
}

/// Who comes, what it says, and what it is told.
#[test]
fn who_may_not_come_in_is_told_why() -> io::Result<()> {
    let scene = Scene::new()?;
    let stranger = Key::new();
    let data = frame_of(&Hello { kind: ConnectionKind::Other(2), ..hello() });
    let (not_mine, no_gate) = ("not enrolled for this gateway", "expected");
    use CloseReason::{NotServed, ProtocolError, Revoked, UnknownKey};
    let table: [(&str, &Key, Vec<u8>, CloseReason, &str); 14] = [
        ("a wrong gateway", &scene.other, opening("barometer"), UnknownKey, not_mine),
        ("a gateway that is not known", &stranger, opening("barometer"), UnknownKey, "enrol it first"),
        ("a gateway that was revoked", &scene.revoked, opening("orphan"), Revoked, "the gateway was revoked"),
        ("a device that was revoked", &scene.pi, opening("lost"), Revoked, "this device was revoked"),
        ("a name that nobody has", &scene.pi, opening("nobody"), UnknownKey, not_mine),
        ("a device with a key of its own", &scene.pi, opening("board"), UnknownKey, not_mine),
        ("the gateway itself", &scene.pi, opening("pi"), UnknownKey, "is what is wired to it"),
        ("what is no name", &scene.pi, opening("a; reboot"), UnknownKey, "no device"),
        ("no name", &scene.pi, opening(""), UnknownKey, "no device"),
        (
            "no GATE",
            &scene.pi,
            [b"PING", frame_of(&hello()).as_slice()].concat(),
            ProtocolError,
            "expected GATE first, found PING",
        ),
        ("two of them", &scene.pi, [gate("barometer"), gate("barometer")].concat(), ProtocolError, no_gate),
        ("a damaged one", &scene.pi, b"GATE\0\0\0\x02\x05a".to_vec(), ProtocolError, "GATE"),
        ("garbage", &scene.pi, b"\xff\x00garbage".to_vec(), ProtocolError, ""),
        (
            "another kind of connection",
            &scene.pi,
            [gate("barometer").as_slice(), b"PING", &data].concat(),
            NotServed,
            "",
        ),
    ];
    for (who, key, bytes, reason, words) in table {
        let closed = scene.say(key, &bytes)?;
        assert_eq!(closed.reason, reason, "{who}: {closed:?}");
        assert!(closed.detail.contains(words), "{who}: {closed:?}");
        if matches!(reason, UnknownKey | Revoked) {
            assert_eq!(closed.retry_after, WIRED_RETRY, "{who}: put right, it is soon back");
        }
    }
    for (device, reason) in [("lost", "revoked"), ("revoked", "revoked"), ("other", "unknown-key")] {
        let refused = scene.server.wait_event("connection-refused", |event| {
            event["device"] == device && event["detail"]["reason"] == reason
        });
        assert_eq!(refused["address"], "127.0.0.1", "{refused:#}");
    }
    assert!(scene.server.ask(&["sessions"]).is_empty(), "those who are refused have no session");
    scene.online(&scene.pi, "barometer")?;
    Ok(())
}

/// `GATE` means something on a gateway's connection only, and a device's own key opens no other's door.
#[test]
fn a_name_is_believed_on_a_gateways_connection_only() -> io::Result<()> {
    let scene = Scene::new()?;
    let mut device = Device::connect(scene.server.address(), FRAMED, &scene.pi)?;
    device.write(&opening("barometer"))?;
    assert_eq!(device.farewell()?.reason, CloseReason::ProtocolError);
    Ok(())
}

#[test]
fn a_revocation_ends_open_sessions_of_what_is_wired() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, pi, .. } = &scene;
    server.tell(&["enroll", "--name", "second", "--gateway", "pi"]);
    let mut first = scene.online(pi, "barometer")?;
    let mut second = scene.online(pi, "second")?;
    let told = server.tell(&["revoke", "barometer"]);
    assert!(told.contains("enroll --name barometer --gateway pi"), "{told}");
    let closed = first.farewell()?;
    assert_eq!((closed.reason, closed.retry_after), (CloseReason::Revoked, WIRED_RETRY));
    assert!(closed.detail.contains("`holdfast enroll --name barometer --gateway pi`"), "{closed:?}");
    server.wait_online("second", true);

    let told = server.tell(&["revoke", "pi"]);
    assert!(told.contains("without a connection until then: second"), "{told}");
    let closed = second.farewell()?;
    assert_eq!((closed.reason, closed.retry_after), (CloseReason::Revoked, WIRED_RETRY));
    assert!(closed.detail.contains("its gateway"), "{closed:?}");
    server.wait_online("second", false);
    assert_eq!(scene.say(pi, &opening("second"))?.reason, CloseReason::Revoked);

    // A new key for the gateway, and all is as it was.
    let pi = Key::enrolled(&server.invite(&["--name", "pi"]))?;
    drop(scene.online(&pi, "second")?);
    assert_eq!(scene.say(&pi, &opening("barometer"))?.reason, CloseReason::Revoked);
    server.tell(&["enroll", "--name", "barometer", "--gateway", "pi"]);
    drop(scene.online(&pi, "barometer")?);
    Ok(())
}

/// A connection that says nothing, or stops in the middle of its `GATE`, ends as any other that does not open.
#[test]
fn half_a_gate_is_not_waited_for_without_end() -> io::Result<()> {
    let server = Server::configured("[limits]\nopening-timeout = \"500ms\"\n", None)?;
    let key = Key::enrolled(&server.invite(&["--name", "pi"]))?;
    for bytes in [b"".as_slice(), b"GATE\0\0", b"GATE\0\0\0\x0a\x09baro"] {
        let mut device = Device::connect(server.address(), GATEWAY, &key)?;
        device.write(bytes)?;
        assert_eq!(device.farewell()?.reason, CloseReason::Silent);
    }
    // What claims to be longer than any opening is an error at once.
    let mut device = Device::connect(server.address(), GATEWAY, &key)?;
    device.write(b"GATE\0\0\xff\xff")?;
    assert_eq!(device.farewell()?.reason, CloseReason::ProtocolError);
    wait::until_true("nobody is left", || server.ask(&["sessions"]).is_empty());
    Ok(())
}
