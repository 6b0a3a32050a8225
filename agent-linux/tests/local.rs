//! The verbs and the socket for local programs, with and without a running agent.

mod support;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use holdfast_agent::{
    local_client::{Happened, LocalClient},
    outbox::NewMessage,
};
use protocol_core::{
    code::{CloseReason, ConnectionKind},
    frame::{self, Decoded, MAX_FRAME},
    message::{self, BootId, Close, Hello, StreamId, Window},
    tag::Tag,
};
use support::{Device, LONGEST_WAIT, TestServer, until};

#[test]
fn what_was_sent_without_an_agent_is_kept_for_it() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.must(&["send", "one"]);
    let stored = device.must(&["--json", "send", "--kind", "reading", "two"]);
    assert_eq!(stored, "{\"bytes\":3,\"kind\":\"reading\",\"stored\":true}\n");
    assert_eq!(device.status()["outbox"]["messages"], 2);
    device.run();
    let (mut peer, hello) = server.open(0);
    assert_eq!(peer.take(2), [b"one", b"two"]);
    device.must(&["send", "three"]);
    let (stream, number, body) = peer.message();
    assert_eq!((stream, number, body.as_slice()), (hello.stream, 3, b"three".as_slice()));
}

#[test]
fn the_same_id_is_the_same_message_with_and_without_an_agent() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.must(&["send", "--id", "a", "one"]);
    device.must(&["send", "--id", "a", "one"]);
    device.run();
    device.must(&["send", "--id", "a", "one"]);
    device.must(&["send", "--id", "b", "two"]);
    device.must(&["send", "--id", "b", "whatever it says"]);
    let (mut peer, _) = server.open(0);
    assert_eq!(peer.take(2), [b"one", b"two"]);
    device.must(&["send", "--id", "b", "two"]);
    peer.no_message(Duration::from_millis(300));
}

#[test]
fn bytes_go_both_ways_as_they_are() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    let largest: Vec<u8> = (0..16_344_u32).map(|number| number as u8).collect();
    device.run();
    let (mut peer, _) = server.open(0);
    for body in [largest.as_slice(), b"", b"two\nlines\n"] {
        let output = device.with_input(&["send", "-"], body);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(peer.take(1), [body]);
    }
    let output = device.with_input(&["send", "-"], &[largest.as_slice(), b"x"].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("16344"), "{output:?}");
    for (number, body) in [(1, b"text".as_slice()), (2, b"\xff\x00"), (3, &largest)] {
        peer.send(5, number, body);
        assert_eq!(peer.echoed(), (5, number));
    }
    let received = device.must(&["receive", "--json"]);
    let lines: Vec<serde_json::Value> =
        received.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["body"], "text");
    assert_eq!(lines[0]["stream"], "0000000000000005");
    assert_eq!(lines[0]["time"], "1970-01-01T00:00:00.005Z");
    assert_eq!(lines[1]["body_base64"], "/wA=");
    assert_eq!(device.must(&["receive"]), "", "taken");
}

#[test]
fn a_full_outbox_refuses_in_words() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure("[outbox]\nmax_messages = 2");
    device.run();
    for body in ["one", "two"] {
        device.must(&["send", body]);
    }
    for running in [true, false] {
        let output = device.does(&["send", "three"]);
        assert_eq!(output.status.code(), Some(1), "running: {running}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("outbox is full"), "{output:?}");
        device.kill();
    }
}

#[test]
fn a_full_inbox_leaves_messages_with_the_server() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.configure("[inbox]\nmax_messages = 2");
    device.run();
    let (mut peer, _) = server.open(0);
    for number in 1..=4 {
        peer.send(5, number, b"down");
    }
    while peer.echoed().1 < 2 {}
    peer.no_message(Duration::from_millis(300));
    assert_eq!(device.must(&["receive"]), "down\ndown\n");
    while peer.echoed().1 < 4 {}
    assert_eq!(device.must(&["receive"]), "down\ndown\n");
}

#[test]
fn receive_follow_waits_for_an_agent_and_outlives_it() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    let mut following = device.command(&["receive", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    for round in 1..=2 {
        device.run();
        let (mut peer, _) = server.open(0);
        for number in 1..=20 {
            peer.send(round, number, format!("{round}.{number}").as_bytes());
            assert_eq!(peer.echoed(), (round, number));
        }
        for number in 1..=20 {
            assert_eq!(lines.next().unwrap(), format!("{round}.{number}"));
        }
        until("the inbox to be empty", || device.status()["inbox"]["messages"] == 0);
        device.terminate();
    }
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn one_program_receives_at_a_time() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let socket = device.state().join("agent.sock");
    let first = LocalClient::connect(&socket, 1).unwrap();
    let second = LocalClient::connect(&socket, 1).map(|_| ()).unwrap_err().to_string();
    assert!(second.contains("another program"), "{second}");
    drop(first);
    until("the place to be free", || LocalClient::connect(&socket, 1).is_ok());
}

#[test]
fn receive_beside_a_receiver_is_refused_and_takes_nothing() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    // It receives, and has not taken what it got.
    let follower = LocalClient::connect(&device.state().join("agent.sock"), 1).unwrap();
    peer.send(5, 1, b"once");
    assert_eq!(peer.echoed(), (5, 1));
    for arguments in [&["receive"][..], &["receive", "--follow"]] {
        let output = device.does(arguments);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("stop it first"), "{output:?}");
    }
    drop(follower);
    assert_eq!(device.must(&["receive"]), "once\n");
}

#[test]
fn several_who_receive_at_once_get_each_message_once() {
    const MESSAGES: u64 = 300;
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    for number in 1..=MESSAGES {
        peer.send(5, number, number.to_string().as_bytes());
        assert_eq!(peer.echoed(), (5, number));
    }
    let receiving: Vec<_> = (0..4).map(|_| device.command(&["receive"]).spawn().unwrap()).collect();
    let mut numbers = Vec::new();
    for child in receiving {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        numbers.extend(String::from_utf8(output.stdout).unwrap().lines().map(|l| l.parse::<u64>().unwrap()));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=MESSAGES).collect::<Vec<_>>());
}

#[test]
fn what_a_program_has_taken_the_next_does_not_get() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    let socket = device.state().join("agent.sock");
    for number in 1..=10 {
        peer.send(5, number, b"x");
        assert_eq!(peer.echoed(), (5, number));
        let mut follower = LocalClient::connect(&socket, 1).unwrap();
        let Happened::Message(message) = follower.step(Some(support::LONGEST_WAIT)).unwrap() else {
            panic!("no message");
        };
        assert_eq!(message.number, number);
        follower.taken(&message).unwrap();
        drop(follower);
        assert_eq!(device.must(&["receive"]), "", "taken twice");
    }
}

#[test]
fn a_run_that_fails_leaves_no_socket_behind() {
    let mut device = Device::new();
    std::fs::create_dir_all(device.state().join("inbox.db")).unwrap();
    device.running = Some(device.command(&["run"]).spawn().unwrap());
    let mut ended = None;
    until("the agent's end", || {
        ended = device.running.as_mut().unwrap().try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(1));
    assert!(!device.state().join("agent.sock").exists());
}

#[test]
fn many_programs_share_syncs() {
    const PROGRAMS: u64 = 16;
    const MESSAGES: u64 = 50;
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    let before = device.status()["syncs"].as_u64().unwrap();
    let socket = device.state().join("agent.sock");
    thread::scope(|scope| {
        for program in 0..PROGRAMS {
            let socket = &socket;
            scope.spawn(move || {
                let mut client = LocalClient::connect(socket, 0).unwrap();
                for number in 1..=MESSAGES {
                    let source = (StreamId(program), number);
                    let body = format!("{program}.{number}").into_bytes();
                    client
                        .send(&NewMessage { source, is_named: false, time: 0, kind: "text".into(), body })
                        .unwrap();
                }
            });
        }
        let mut bodies = peer.take((PROGRAMS * MESSAGES) as usize);
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len() as u64, PROGRAMS * MESSAGES);
    });
    let syncs = device.status()["syncs"].as_u64().unwrap() - before;
    assert!(syncs < PROGRAMS * MESSAGES / 2, "{syncs} syncs for {} messages", PROGRAMS * MESSAGES);
}

#[test]
fn garbage_on_the_socket_harms_nobody() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let socket = device.state().join("agent.sock");
    for garbage in
        [&b"GET / HTTP/1.1\r\n"[..], b"PINGHELO\xff\xff\xff\xff", b"PINGHELO\0\0\0\x01x", &[0; 20_000], b"PI"]
    {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(support::LONGEST_WAIT)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Those that say nothing take the places of others for a while only.
    let _silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    device.must(&["send", "still here"]);
    let (mut peer, _) = server.open(0);
    assert_eq!(peer.take(1), [b"still here"]);
    until("room for programs", || LocalClient::connect(&socket, 0).is_ok());
}

#[test]
fn one_program_too_many_is_told_so() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let socket = device.state().join("agent.sock");
    let mut programs: Vec<_> = (0..64).map(|_| LocalClient::connect(&socket, 0).unwrap()).collect();
    let output = device.does(&["status"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(error.contains("64 local programs") && error.contains("end some"), "{error}");
    // Its message finds its way without the agent's help.
    device.must(&["send", "one too many"]);
    let (mut peer, _) = server.open(0);
    assert_eq!(peer.take(1), [b"one too many"]);
    for client in &mut programs {
        client.information().unwrap();
    }
    programs.pop();
    until("room for a program", || LocalClient::connect(&socket, 0).is_ok());
}

#[test]
fn there_is_one_agent_to_a_directory_and_none_without_one() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let output = device.does(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already runs"), "{output:?}");
    let nowhere = Device::new();
    for verb in [&["send", "x"][..], &["receive"], &["status"]] {
        let output = nowhere.does(verb);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("enroll"), "{output:?}");
    }
    assert!(!nowhere.state().exists());
}

#[test]
fn options_may_stand_on_either_side_and_help_is_complete() {
    let device = Device::new();
    let agent = env!("CARGO_BIN_EXE_holdfast-agent");
    for verb in ["enroll", "run", "send", "receive", "status", "completions"] {
        let output = std::process::Command::new(agent).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example"), "{verb}: {help}");
    }
    let output = std::process::Command::new(agent).arg("--version").output().unwrap();
    assert_eq!(output.stdout, concat!("holdfast-agent ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    assert!(device.must(&["completions", "bash"]).contains("holdfast-agent"));
    assert_eq!(device.does(&["send", "--kind", "Not A Kind", "x"]).status.code(), Some(2));
    let wrong = std::process::Command::new(agent).args(["status", "--config", "/nowhere"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_program_that_takes_too_little_is_told_so() {
    let server = TestServer::start();
    let mut device = Device::enrolled(&server);
    device.run();
    let (mut peer, _) = server.open(0);
    peer.send(5, 1, &[b'x'; 1_000]);
    assert_eq!(peer.echoed(), (5, 1));
    let mut program = UnixStream::connect(device.state().join("agent.sock")).unwrap();
    program.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
    let hello = Hello {
        oldest_version: 1,
        newest_version: 1,
        kind: ConnectionKind::Local,
        boot: BootId(0),
        stream: StreamId(0),
        max_frame: 512,
        window: Window { messages: 1, bytes: 512 },
    };
    let mut room = [0; 256];
    let length = message::encode(&hello, 256, &mut room).unwrap();
    program.write_all(b"PING").unwrap();
    program.write_all(&room[..length]).unwrap();
    let mut heard = vec![];
    program.read_to_end(&mut heard).unwrap();
    let mut rest = heard.as_slice();
    while let Ok(Decoded::Frame { frame, consumed }) = frame::decode(rest, MAX_FRAME) {
        rest = &rest[consumed..];
        if frame.tag == Tag::CLOSE {
            let close: Close<'_> = message::decode(frame.body).unwrap();
            assert_eq!(close.reason, CloseReason::ProtocolError);
            assert!(close.detail.as_str().contains("max_frame of 16384"), "{}", close.detail);
            return assert!(rest.is_empty());
        }
    }
    panic!("expected a farewell, found {heard:?}");
}
