//! `enroll`, against a server that answers as each test wants.

mod support;

use std::os::unix::fs::PermissionsExt as _;

use protocol_core::code::CloseReason;
use support::{Answer, Device, LONGEST_WAIT, TestServer};

#[test]
fn a_device_is_enrolled_and_its_secrets_are_its_own() {
    let server = TestServer::start();
    let device = Device::enrolled(&server);
    let status = device.status();
    assert_eq!((status["name"].as_str(), status["running"].as_bool()), (Some("kiosk-1"), Some(false)));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&device.state()), 0o700);
    for entry in std::fs::read_dir(device.state()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let server = TestServer::start();
    let device = Device::new();
    let mut keys = vec![];
    let address = server.address().to_string();
    for answer in [Answer::Silence, Answer::Enrolled(server.endpoints(&[&address]))] {
        let is_last = matches!(answer, Answer::Enrolled(_));
        let enrolling = device.command(&["enroll", &server.line()]).spawn().unwrap();
        keys.push(server.accept(LONGEST_WAIT).unwrap().enrolment(answer));
        let output = enrolling.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(if is_last { 0 } else { 3 }), "{output:?}");
        if !is_last {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(words.contains("same line again"), "{words}");
        }
    }
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn an_enrolled_device_is_enrolled_again_only_if_that_is_said() {
    let server = TestServer::start();
    let device = Device::enrolled(&server);
    let before = std::fs::read_to_string(device.state().join("identity.toml")).unwrap();
    let output = device.does(&["enroll", &server.line()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--again"), "{output:?}");
    let enrolling = device.command(&["enroll", "--again", &server.line()]).spawn().unwrap();
    server.accept(LONGEST_WAIT).unwrap().enrolment(Answer::Enrolled(server.endpoints(&["other:1"])));
    assert!(enrolling.wait_with_output().unwrap().status.success());
    assert_ne!(std::fs::read_to_string(device.state().join("identity.toml")).unwrap(), before);
}

#[test]
fn a_final_refusal_is_told_in_words_and_leaves_nothing_behind() {
    let server = TestServer::start();
    for (reason, words) in [
        (CloseReason::TokenExpired, "a new line"),
        (CloseReason::TokenUsedUp, "a new line"),
        (CloseReason::TokenUnknown, "a new line"),
        (CloseReason::NameTaken, "another name"),
        (CloseReason::NoCommonVersion, "update"),
    ] {
        let device = Device::new();
        let enrolling = device.command(&["--json", "enroll", &server.line()]).spawn().unwrap();
        server.accept(LONGEST_WAIT).unwrap().enrolment(Answer::Refused(reason));
        let output = enrolling.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        let error: serde_json::Value =
            serde_json::from_slice(output.stderr.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{error}");
        assert!(!device.state().exists());
    }
}

/// The server may have registered the key all the same: it only had no time to say so.
#[test]
fn a_server_that_was_too_slow_gets_the_same_key_again() {
    let server = TestServer::start();
    for reason in [CloseReason::Overloaded, CloseReason::Silent, CloseReason::Other(999)] {
        let device = Device::new();
        let address = server.address().to_string();
        let mut keys = vec![];
        for (answer, code) in
            [(Answer::Refused(reason), 5), (Answer::Enrolled(server.endpoints(&[&address])), 0)]
        {
            let enrolling = device.command(&["enroll", &server.line()]).spawn().unwrap();
            keys.push(server.accept(LONGEST_WAIT).unwrap().enrolment(answer));
            let output = enrolling.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{output:?}");
        }
        assert_eq!(keys[0], keys[1], "{reason}");
    }
}

#[test]
fn only_what_a_refused_enrolment_made_is_removed() {
    let server = TestServer::start();
    let device = Device::new();
    std::fs::create_dir(device.state()).unwrap();
    std::fs::write(device.state().join("mine"), "kept").unwrap();
    let enrolling = device.command(&["enroll", &server.line()]).spawn().unwrap();
    server.accept(LONGEST_WAIT).unwrap().enrolment(Answer::Refused(CloseReason::TokenExpired));
    assert_eq!(enrolling.wait_with_output().unwrap().status.code(), Some(5));
    let left: Vec<_> =
        std::fs::read_dir(device.state()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"]);
}

#[test]
fn the_whole_printed_command_may_be_given_as_the_line() {
    let server = TestServer::start();
    let device = Device::new();
    let line = format!(" holdfast-agent enroll {}\n", server.line());
    let enrolling = device.command(&["enroll", &line]).spawn().unwrap();
    let address = server.address().to_string();
    server.accept(LONGEST_WAIT).unwrap().enrolment(Answer::Enrolled(server.endpoints(&[&address])));
    let output = enrolling.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn another_server_is_not_trusted() {
    let (server, other) = (TestServer::start(), TestServer::start());
    let device = Device::new();
    let address = other.address().to_string();
    let invitation = protocol_core::invitation::Invitation {
        pin: server.pin,
        token: protocol_core::message::Secret([7; 16]),
        addresses: [protocol_core::message::Text::new(&address).unwrap()].into_iter().collect(),
    };
    let mut buffer = [0; protocol_core::invitation::MAX_LENGTH];
    let bytes = invitation.encode(&mut buffer).unwrap();
    let line = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let enrolling = device.command(&["enroll", &format!("hf1.{line}")]).spawn().unwrap();
    assert!(other.accept(std::time::Duration::from_secs(2)).is_none(), "it shook hands");
    let output = enrolling.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not trust"), "{output:?}");
    // The same line can't help: a new one is needed.
    assert!(!String::from_utf8_lossy(&output.stderr).contains("the same line"), "{output:?}");
}

#[test]
fn nonsense_is_no_line() {
    let device = Device::new();
    for line in [
        "",
        "holdfast-agent enroll",
        "holdfast-agent enroll hf2.AAAA",
        "hf1.",
        "hf1.nonsense",
        "hf2.AAAA",
        "hf1.AAAA!",
    ] {
        let output = device.does(&["enroll", line]);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("hf1."), "{output:?}");
    }
    assert!(!device.state().exists());
}
