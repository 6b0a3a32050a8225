//! The connection to the server: whatever the server or the network does, no message is lost or doubled.

mod support;

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use holdfast_tests::tls;
use protocol_core::{code::CloseReason, message::Window};
use support::{Answer, Device, Heard, LONGEST_WAIT, TestServer, until};

#[test]
fn a_server_that_accepts_and_never_answers_is_given_up() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.must(&["send", "waiting"]);
    device.run();
    let no_tls = server.accept_tcp(LONGEST_WAIT).unwrap();
    // It asks for a session, and is not answered.
    let mut no_welcome = server.accept(LONGEST_WAIT).unwrap();
    no_welcome.hello();
    let (mut silent, _) = server.open(0);
    // Welcomed, and never echoed nor heard of again: within interval and timeout it is given up.
    silent.message();
    let (mut peer, _) = server.open(0);
    assert_eq!(peer.take(1), [b"waiting"]);
    drop(no_tls);
}

#[test]
fn an_address_that_leads_nowhere_is_passed_over() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    let path = device.state().join("identity.toml");
    let text = fs::read_to_string(&path).unwrap();
    let address = server.address();
    let all = format!("\"nowhere.invalid:1\", \"127.0.0.1:1\", \"no address\", \"{address}\"");
    fs::write(&path, text.replace(&format!("\"{address}\""), &all)).unwrap();
    device.run();
    server.open(0);
}

#[test]
fn a_lost_echo_brings_the_same_message_again() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    device.must(&["send", "one"]);
    device.must(&["send", "two"]);
    let (mut peer, _) = server.open(0);
    let first = [peer.message(), peer.message()];
    drop(peer);
    let (mut peer, _) = server.open(2);
    assert_eq!([peer.message(), peer.message()], first, "archived or not: an echo counts, nothing else");
    let (stream, number, _) = first[1];
    peer.echo(stream, number);
    device.must(&["send", "three"]);
    assert_eq!(peer.message().1, 3);
    drop(peer);
    let (mut peer, _) = server.open(2);
    assert_eq!(peer.message(), (stream, 3, b"three".to_vec()));
}

#[test]
fn nothing_is_lost_or_doubled_when_the_agent_is_killed() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    let mut archived: Vec<(u64, Vec<u8>)> = vec![];
    let mut sent = 0;
    for round in 0..6 {
        device.run();
        for _ in 0..5 {
            sent += 1;
            device.must(&["send", &sent.to_string()]);
        }
        let (mut peer, _) = server.open(0);
        for _ in 0..3 {
            let (stream, number, body) = peer.message();
            match archived.iter().find(|(known, _)| *known == number) {
                Some((_, known)) => assert_eq!(*known, body, "another message by the same number"),
                None => archived.push((number, body)),
            }
            if round % 2 == 0 {
                peer.echo(stream, number);
            }
        }
        device.kill();
        sent += 1;
        device.must(&["send", &sent.to_string()]);
    }
    device.run();
    let (mut peer, _) = server.open(0);
    while archived.len() < sent {
        let (stream, number, body) = peer.message();
        peer.echo(stream, number);
        if !archived.iter().any(|(known, _)| *known == number) {
            archived.push((number, body));
        }
    }
    let expected: Vec<_> =
        (1..=sent as u64).map(|number| (number, number.to_string().into_bytes())).collect();
    archived.sort();
    assert_eq!(archived, expected);
}

#[test]
fn a_conflict_moves_what_waits_to_a_new_stream() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    device.must(&["send", "one"]);
    let (mut peer, before) = server.open(0);
    peer.take(1);
    for body in ["two", "three"] {
        device.must(&["send", body]);
    }
    peer.message();
    peer.close(CloseReason::Conflict, 0);
    let (mut peer, after) = server.open(2);
    assert_eq!(before.boot, after.boot);
    assert_eq!(before.stream, after.stream, "the newest that was echoed is of the old stream");
    let (stream, number, body) = peer.message();
    assert_ne!(stream, before.stream);
    assert_eq!((number, body), (1, b"two".to_vec()));
    assert_eq!(peer.message(), (stream, 2, b"three".to_vec()));
    peer.echo(stream, 2);
    until("the echo", || device.status()["outbox"]["messages"] == 0);
    drop(peer);
    let (_, last) = server.open(2);
    assert_eq!(last.stream, stream);
}

#[test]
fn a_restored_server_gets_again_what_is_kept() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    for body in ["one", "two", "three"] {
        device.must(&["send", body]);
        peer.take(1);
    }
    drop(peer);
    let (mut peer, hello) = server.open(1);
    assert_eq!(peer.message(), (hello.stream, 2, b"two".to_vec()));
    assert_eq!(peer.message(), (hello.stream, 3, b"three".to_vec()));
    peer.echo(hello.stream, 3);
    device.must(&["send", "four"]);
    assert_eq!(peer.message(), (hello.stream, 4, b"four".to_vec()));
}

#[test]
fn an_older_copy_of_the_state_begins_a_new_stream() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, hello) = server.open(9);
    peer.no_message(Duration::from_millis(200));
    device.must(&["send", "new"]);
    let (stream, number, _) = peer.message();
    assert_ne!(stream, hello.stream);
    assert_eq!(number, 1);
}

#[test]
fn the_window_is_kept() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    for number in 1..=5 {
        device.must(&["send", &number.to_string()]);
    }
    device.run();
    let mut peer = server.accept(LONGEST_WAIT).unwrap();
    let hello = peer.hello();
    peer.welcome(0, Window { messages: 2, bytes: 1000 });
    for first in [1, 3] {
        assert_eq!((peer.message().1, peer.message().1), (first, first + 1));
        peer.no_message(Duration::from_millis(200));
        peer.echo(hello.stream, first + 1);
    }
    assert_eq!(peer.message().1, 5);
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (peer, _) = server.open(0);
    let start = Instant::now();
    peer.close(CloseReason::Draining, 2);
    server.open(0);
    assert!((2.0..4.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[test]
fn a_refused_device_says_why_and_keeps_trying() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    for reason in [CloseReason::Clone, CloseReason::Revoked, CloseReason::UnknownKey] {
        let mut peer = server.accept(LONGEST_WAIT).unwrap();
        peer.hello();
        peer.close(reason, 0);
        until("the reason in the status", || {
            device.status()["reason"].as_str().is_some_and(|text| text.contains(&reason.to_string()))
        });
    }
    let _connection = server.open(0);
    until("the connection", || device.status()["connected"] == true);
}

#[test]
fn another_server_is_not_spoken_to() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    let other = TestServer::start();
    let path = device.state().join("identity.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&server.address().to_string(), &other.address().to_string())).unwrap();
    device.run();
    assert!(other.accept(Duration::from_secs(1)).is_none(), "it shook hands");
    until("the reason in the status", || {
        let _ = other.accept(Duration::from_millis(1));
        device.status()["reason"].as_str().is_some_and(|text| text.contains("does not trust"))
    });
}

#[test]
fn a_server_that_moves_is_followed() {
    let key = tls::new_key();
    let (server, moved) = (TestServer::with_key(&key), TestServer::with_key(&key));
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    let nowhere = "127.0.0.1:1";
    let new = moved.address().to_string();
    let identity = || fs::read_to_string(device.state().join("identity.toml")).unwrap();
    peer.notice(&server.endpoints(&[nowhere, &new]));
    until("the new addresses", || identity().contains(&new));
    assert!(identity().contains(&server.address().to_string()), "the old one is not given up yet");
    drop(peer);
    let (_peer, _) = moved.open(0);
    until("the old address to be forgotten", || !identity().contains(&server.address().to_string()));
}

#[test]
fn a_device_that_is_enrolled_while_its_agent_waits_is_connected_at_once() {
    let server = TestServer::start();
    let mut device = Device::new();
    device.run();
    assert_eq!(device.status()["enrolled"], false);
    let enrolling = device.command(&["enroll", &server.line()]).spawn().unwrap();
    let address = server.address().to_string();
    server.accept(LONGEST_WAIT).unwrap().enrolment(Answer::Enrolled(server.endpoints(&[&address])));
    assert!(enrolling.wait_with_output().unwrap().status.success());
    server.open(0);
}

#[test]
fn the_device_tells_what_it_is_and_how_it_is() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    let Heard::Facts { version, ssh_user, .. } = peer.next(LONGEST_WAIT) else { panic!("expected facts") };
    assert_eq!((version.as_str(), ssh_user.as_str()), (env!("CARGO_PKG_VERSION"), "operator"));
    for _ in 0..2 {
        let Heard::Status(readings) = peer.next(LONGEST_WAIT) else { panic!("expected readings") };
        assert!(readings.iter().any(|(name, value)| name == "disk-free-bytes" && *value > 0.0));
    }
}

#[test]
fn a_signal_ends_the_agent_with_a_farewell() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    device.must(&["send", "one"]);
    peer.take(1);
    device.terminate();
    loop {
        match peer.next(LONGEST_WAIT) {
            Heard::Facts { .. } | Heard::Status(_) => {}
            Heard::Closed(reason) => break assert_eq!(reason, CloseReason::Finished),
            other => panic!("expected a farewell, found {other:?}"),
        }
    }
    assert!(!device.state().join("agent.sock").exists());
    assert_eq!(device.status()["outbox"]["messages"], 0, "the echo was written down");
}

#[test]
fn an_idle_agent_writes_nothing() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    let address = server.address().to_string();
    peer.notice(&server.endpoints(&[&address]));
    device.must(&["send", "one"]);
    peer.take(1);
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", device.pid())).unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().to_owned();
        let times: Vec<SystemTime> = fs::read_dir(device.state())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().modified().unwrap())
            .collect();
        (line, times)
    };
    // The echo is written down within seconds; then all is still, whatever readings are sent.
    let (mut before, mut since) = (written(), Instant::now());
    let start = Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        assert!(start.elapsed() < LONGEST_WAIT, "it never stops writing");
        peer.no_message(Duration::from_millis(200));
        let now = written();
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
}
