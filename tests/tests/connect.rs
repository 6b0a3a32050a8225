//! A server and its devices in good times: enrolled, online, heard, spoken to, drained and back again.

use std::io;

use holdfast_tests::{
    agent::Agent,
    device::{Device, FRAMED, Key, frame_of, hello},
    server::Server,
    wait::{self, LONGEST_WAIT},
};
use protocol_core::code::CloseReason;
use serde_json::Value;

fn ended(session: &Value) -> bool {
    !session["ended"].is_null()
}

#[test]
fn a_device_is_enrolled_online_and_heard() -> io::Result<()> {
    let server = Server::start()?;
    assert!(server.ask(&["devices"]).is_empty());
    let mut agent = Agent::enrolled(&server, "greenhouse")?;
    let device = server.ask(&["device", "greenhouse"]);
    assert_eq!((&device[0]["online"], &device[0]["sessions"]), (&false.into(), &0.into()));

    // What is sent before it runs is sent when it does.
    agent.send("before");
    agent.run()?;
    server.wait_online("greenhouse", true);
    agent.send("größe \u{1f980}");
    agent.send("");
    let expected = ["before", "größe \u{1f980}", ""];
    wait::until("all is archived", || server.archived("greenhouse"), |all| *all == expected);

    let device = &server.ask(&["devices"])[0];
    assert_eq!(device["name"], "greenhouse");
    assert_eq!(device["online"], true);
    assert!(device["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1")), "{device:#}");
    assert_eq!(device["version"], env!("CARGO_PKG_VERSION"));
    let table = server.tell(&["devices"]);
    assert!(table.contains("greenhouse") && table.contains("online"), "{table}");
    let ping = server.ask(&["ping", "greenhouse"]);
    assert!(ping[0]["round_trip_ms"].as_f64().is_some_and(|time| time > 0.0), "{ping:?}");
    let kinds = ["token-created", "device-enrolled", "device-connected"];
    for kind in kinds {
        assert_eq!(server.events(kind).len(), 1, "{kind}");
    }
    Ok(())
}

/// A resolver that fails, for good or because the network is not there yet, keeps no device out.
#[test]
fn names_that_nobody_resolves_are_passed_over() -> io::Result<()> {
    let mut server = Server::start()?;
    // No such name will ever be (RFC 2606).
    let addresses = ["nowhere.invalid:55223".to_owned(), server.address().to_string()];
    let mut agent = Agent::new("wanderer")?;
    let invite = ["--name", "wanderer", "--address", &addresses[0], "--address", &addresses[1]];
    agent.tell(&["enroll", &server.invite(&invite)]);
    // From now on it is told both.
    server.terminate();
    server.configure(&format!("advertise = {addresses:?}\n"))?;
    server.run()?;
    for _ in 0..2 {
        agent.run()?;
        server.wait_online("wanderer", true);
        agent.terminate();
        server.wait_online("wanderer", false);
    }
    let identity = std::fs::read_to_string(agent.state().join("identity.toml"))?;
    assert!(identity.contains("nowhere.invalid"), "{identity}");
    Ok(())
}

#[test]
fn messages_to_a_device_are_kept_until_it_has_them() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut agent = Agent::enrolled(&server, "kiosk")?;
    server.tell(&["send", "kiosk", "one"]);
    let waiting = server.ask(&["messages", "kiosk"]);
    assert_eq!((&waiting[0]["direction"], &waiting[0]["state"]), (&"out".into(), &"waiting".into()));
    // Across a restart, a loss of power, and the device's own.
    server.terminate();
    server.run()?;
    server.tell(&["send", "kiosk", "two"]);
    server.kill();
    server.run()?;
    server.tell(&["send", "kiosk", "--kind", "config", "three"]);
    assert_eq!(server.device("kiosk").map(|device| device["queued"].clone()), Some(3.into()));
    agent.run()?;
    let all_delivered = |all: &Vec<Value>| all.iter().all(|message| message["state"] == "delivered");
    wait::until("all are delivered", || server.ask(&["messages", "kiosk"]), all_delivered);
    agent.kill();
    assert_eq!(agent.receive(), ["one", "two", "three"]);
    agent.run()?;
    server.tell(&["send", "kiosk", "four"]);
    wait::until("it is delivered", || server.ask(&["messages", "kiosk"]), all_delivered);
    assert_eq!(agent.receive(), ["four"]);
    assert!(agent.receive().is_empty());
    assert_eq!(server.command(&["send", "nobody", "x"]).status.code(), Some(4));
    Ok(())
}

#[test]
fn an_expired_message_is_not_delivered() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut agent = Agent::enrolled(&server, "late")?;
    server.tell(&["send", "late", "--expires", "1s", "too late"]);
    let message = &server.ask(&["messages", "late"])[0];
    let expires = message["expires"].as_str().expect("it says when it expires").to_owned();
    // A server that starts looks at once for what has expired.
    wait::until(
        "the message has expired",
        || {
            server.kill();
            server.run().expect("the server starts");
            server.ask(&["messages", "late"])[0]["state"].clone()
        },
        |state| state == "expired",
    );
    assert!(!expires.is_empty());
    server.tell(&["send", "late", "in time"]);
    agent.run()?;
    wait::until("the other is there", || agent.receive(), |all| *all == ["in time"]);
    let event = server.wait_event("message-expired", |event| event["device"] == "late");
    assert!(event["detail"].is_object(), "{event:#}");
    Ok(())
}

#[test]
fn an_echo_means_archived() -> io::Result<()> {
    let mut server = Server::start()?;
    let key = Key::enrolled(&server.invite(&["--name", "raw"]))?;
    let mut device = Device::online(server.address(), &key)?;
    let stream = hello().stream;
    for number in 1..=10 {
        device.send_text(stream, number, &format!("text {number}"))?;
        device.echoed(number)?;
        // The power fails behind some echoes.
        if number % 3 == 0 {
            server.kill();
            server.run()?;
            assert_eq!(server.archived("raw").len() as u64, number);
            device = Device::online(server.address(), &key)?;
            // The last one again, as if its echo had been lost: it is echoed, and not archived twice.
            device.send_text(stream, number, &format!("text {number}"))?;
            device.echoed(number)?;
        }
    }
    let expected: Vec<_> = (1..=10).map(|number| format!("text {number}")).collect();
    assert_eq!(server.archived("raw"), expected);
    Ok(())
}

#[test]
fn sessions_tell_when_and_why_they_ended() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut agent = Agent::start(&server, "walker")?;
    let reasons = |server: &Server| -> Vec<String> {
        let sessions = server.ask(&["sessions", "walker"]);
        sessions.iter().map(|session| session["reason"].as_str().unwrap_or("open").to_owned()).collect()
    };
    let wait_reasons = |server: &Server, expected: &[&str]| {
        wait::until("sessions have ended so", || reasons(server), |all| *all == expected);
    };
    wait_reasons(&server, &["open"]);
    agent.terminate();
    wait_reasons(&server, &["closed"]);
    agent.run()?;
    server.wait_online("walker", true);
    agent.kill();
    server.wait_online("walker", false);
    wait_reasons(&server, &["closed", "broken"]);
    agent.run()?;
    server.wait_online("walker", true);
    // SIGTERM: devices are told to come back.
    server.terminate();
    server.run()?;
    server.wait_online("walker", true);
    wait_reasons(&server, &["closed", "broken", "server-stopped", "open"]);
    // No time for anything.
    server.kill();
    server.run()?;
    server.wait_online("walker", true);
    wait_reasons(&server, &["closed", "broken", "server-stopped", "server-died", "open"]);
    let sessions = server.ask(&["sessions", "walker"]);
    let died = &sessions[3];
    assert!(died["ended"].as_str() >= died["started"].as_str(), "{died:#}");
    assert_eq!(sessions.iter().filter(|session| ended(session)).count(), 4);
    let device = &server.ask(&["device", "walker"])[0];
    assert_eq!(device["sessions"], 5);
    agent.send("still here");
    wait::until("it is archived", || server.archived("walker"), |all| *all == ["still here"]);
    Ok(())
}

#[test]
fn a_revoked_agent_is_out_until_it_is_enrolled_again() -> io::Result<()> {
    let server = Server::start()?;
    let agent = Agent::start(&server, "former")?;
    let told = server.tell(&["revoke", "former"]);
    assert!(told.contains("former"), "{told}");
    wait::until(
        "its session has ended",
        || server.ask(&["sessions", "former"]),
        |all| all.iter().all(ended) && all[0]["reason"] == "revoked",
    );
    assert!(!server.shows_online("former"));
    server.wait_event("connection-refused", |event| event["device"] == "former");
    wait::until("it says so", || agent.log(), |log| log.contains("revoked"));
    agent.send("kept meanwhile");
    // A new identity, in the same place: what it kept is sent.
    agent.tell(&["enroll", "--again", &server.invite(&["--name", "back"])]);
    server.wait_online("back", true);
    wait::until("what it kept is archived", || server.archived("back"), |all| *all == ["kept meanwhile"]);
    Ok(())
}

#[test]
fn the_newest_connection_of_one_start_wins() -> io::Result<()> {
    let server = Server::start()?;
    let key = Key::enrolled(&server.invite(&["--name", "roaming"]))?;
    let mut first = Device::online(server.address(), &key)?;
    let mut second = Device::online(server.address(), &key)?;
    assert_eq!(first.farewell()?.reason, CloseReason::Replaced);
    second.send_text(hello().stream, 1, "from the new place")?;
    second.echoed(1)?;
    wait::until(
        "one session is open, the other replaced",
        || server.ask(&["sessions", "roaming"]),
        |all| all.len() == 2 && all[0]["reason"] == "replaced" && !ended(&all[1]),
    );
    // A stranger in between changes nothing.
    let mut stranger = Device::connect(server.address(), FRAMED, &Key::new())?;
    stranger.write(&[b"PING".as_slice(), &frame_of(&hello())].concat())?;
    assert_eq!(stranger.farewell()?.reason, CloseReason::UnknownKey);
    assert!(server.shows_online("roaming"));
    Ok(())
}

#[test]
fn the_same_id_is_the_same_message() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::enrolled(&server, "careful")?;
    agent.tell(&["send", "--id", "reading-1", "21.5"]);
    agent.tell(&["send", "--id", "reading-1", "21.5"]);
    agent.run()?;
    agent.tell(&["send", "--id", "reading-1", "21.5"]);
    agent.tell(&["send", "--id", "reading-2", "21.6"]);
    wait::until("both are archived", || server.archived("careful"), |all| *all == ["21.5", "21.6"]);
    agent.kill();
    agent.tell(&["send", "--id", "reading-2", "21.6"]);
    agent.tell(&["send", "last"]);
    agent.run()?;
    wait::until("the last is archived", || server.archived("careful"), |all| all.len() >= 3);
    assert_eq!(server.archived("careful"), ["21.5", "21.6", "last"]);
    Ok(())
}

#[test]
fn stop_ends_the_server_and_verbs_then_say_that_none_runs() -> io::Result<()> {
    let mut server = Server::start()?;
    server.tell(&["stop"]);
    assert!(server.process().wait(LONGEST_WAIT).success(), "{}", server.log());
    server.kill();
    let output = server.command(&["devices"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    server.run()?;
    assert_eq!(server.events("server-stopped").len(), 1);
    assert_eq!(server.events("server-started").len(), 2);
    Ok(())
}
