//! What breaks: processes killed and stopped, networks cut, storage copied and turned back. Nothing is lost, nothing
//! comes twice, and nobody is shown who is not there.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use holdfast_tests::{
    agent::Agent,
    device::Device,
    files,
    proxy::{Break, Network, Proxy},
    server::{BOUND, Server},
    wait::{self, LONGEST_WAIT},
};
use protocol_core::message::StreamId;
use rustix::process::Signal;
use serde_json::Value;

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(4);

/// Waits until a device is shown offline, which the bound allows it to take so long for.
#[track_caller]
fn assert_offline_in_time(server: &Server, name: &str, since: Instant) {
    server.wait_online(name, false);
    assert!(since.elapsed() < BOUND + SLACK, "{name} was shown online for {:?}", since.elapsed());
}

#[test]
fn a_stopped_agent_is_offline_in_time_and_online_when_it_goes_on() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::start(&server, "sleeper")?;
    for round in 1..=2 {
        agent.process().signal(Signal::STOP);
        assert_offline_in_time(&server, "sleeper", Instant::now());
        agent.process().signal(Signal::CONT);
        server.wait_online("sleeper", true);
        agent.send(&format!("awake {round}"));
        wait::until("it is archived", || server.archived("sleeper").len(), |count| *count == round);
    }
    let sessions = server.ask(&["sessions", "sleeper"]);
    assert_eq!(sessions.len(), 3, "{sessions:#?}");
    assert!(sessions[..2].iter().all(|session| session["reason"] == "lost"), "{sessions:#?}");
    Ok(())
}

#[test]
fn networks_break_in_every_way() -> io::Result<()> {
    let proxy = Proxy::start()?;
    let server = Server::behind(&proxy)?;
    let agent = Agent::start(&server, "remote")?;
    let owner = agent.process_id().unwrap_or(0);
    let sessions = || server.ask(&["sessions", "remote"]).len();
    let mut sent = Vec::new();
    let mut send = |agent: &Agent| {
        let text = format!("message {}", sent.len());
        agent.send(&text);
        sent.push(text);
    };

    // Reset: it is back at once.
    send(&agent);
    assert_eq!(proxy.break_all(owner, Break::Cut), 1);
    send(&agent);
    wait::until("there is a second session", sessions, |count| *count == 2);
    server.wait_online("remote", true);

    // Nobody tells the server that the device is gone, and the device can't come back.
    proxy.set(owner, Network::Refusing);
    assert_eq!(proxy.break_all(owner, Break::HalfOpenAtServer), 1);
    let since = Instant::now();
    send(&agent);
    assert_offline_in_time(&server, "remote", since);
    proxy.set(owner, Network::Good);
    server.wait_online("remote", true);

    // Nobody tells the device that the server is gone: it finds out by itself.
    let before = sessions();
    assert_eq!(proxy.break_all(owner, Break::HalfOpenAtDevice), 1);
    send(&agent);
    wait::until("there is a new session", sessions, |count| *count > before);
    server.wait_online("remote", true);

    // No byte passes, and then all of them: whoever was given up stays so.
    proxy.set(owner, Network::Stalled);
    let since = Instant::now();
    send(&agent);
    assert_offline_in_time(&server, "remote", since);
    proxy.set(owner, Network::Good);
    server.wait_online("remote", true);
    send(&agent);
    wait::until("all is archived", || server.archived("remote"), |all| *all == sent);
    let sessions = server.ask(&["sessions", "remote"]);
    let open = sessions.iter().filter(|session| session["ended"].is_null()).count();
    assert_eq!(open, 1, "{sessions:#?}");
    Ok(())
}

/// Keeps `count` messages in the agent's outbox, by its socket; gives their texts.
fn fill(agent: &Agent, first: u64, count: u64) -> io::Result<Vec<String>> {
    let stream = StreamId(0xf111);
    let mut program = Device::local(&agent.state(), stream, LONGEST_WAIT)?;
    let texts: Vec<_> = (first..first + count).map(|number| format!("message {number}")).collect();
    for (number, text) in (first..).zip(&texts) {
        program.send_text(stream, number, text)?;
        if number % 16 == 0 || number == first + count - 1 {
            program.echoed(number)?;
        }
    }
    Ok(texts)
}

#[test]
fn killed_with_messages_in_flight() -> io::Result<()> {
    let proxy = Proxy::start()?;
    let mut server = Server::behind(&proxy)?;
    let mut agent = Agent::start(&server, "crash")?;
    let mut sent = Vec::new();
    let rounds = if std::env::var_os("HOLDFAST_SLOW").is_some() { 60 } else { 8 };
    for round in 0..rounds {
        // So much passes before the next blow, or a little less: each round cuts elsewhere.
        let first = sent.len() as u64 + 1;
        let down = format!("order {round}");
        let filled = fill(&agent, first, 100);
        sent.extend(
            filled.unwrap_or_else(|error| panic!("round {round}: {error}; the agent: {}", agent.log())),
        );
        server.tell(&["send", "crash", &down]);
        let enough = sent.len() - (round * 37) % 90;
        wait::until("enough is archived", || server.archived("crash").len(), |count| *count >= enough);
        match round % 4 {
            0 => server.kill(),
            1 => agent.kill(),
            2 => {
                agent.kill();
                server.kill();
            }
            _ => {
                let broken = proxy.break_all(agent.process_id().unwrap_or(0), Break::Cut);
                assert!(broken <= 1, "{broken} connections at once");
            }
        }
        if !server.is_running() {
            server.run()?;
        }
        if agent.process_id().is_none() {
            agent.run()?;
        }
        let socket = agent.state().join("agent.sock");
        wait::until_true("the agent takes messages", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }
    wait::until("all is archived", || server.archived("crash").len(), |count| *count >= sent.len());
    assert_eq!(server.archived("crash"), sent, "none lost, none twice, in their order");
    wait::until(
        "all orders are delivered",
        || server.device("crash").map(|device| device["queued"].clone()),
        |queued| *queued == Some(0.into()),
    );
    let orders: Vec<_> = (0..rounds).map(|round| format!("order {round}")).collect();
    assert_eq!(agent.receive(), orders, "none lost, none twice, in their order");
    Ok(())
}

#[test]
fn a_clone_is_refused_and_the_original_undisturbed() -> io::Result<()> {
    let server = Server::start()?;
    let mut original = Agent::enrolled(&server, "original")?;
    let mut clone = original.cloned()?;
    original.run()?;
    server.wait_online("original", true);
    clone.send("from the clone");
    clone.run()?;
    let event = server.wait_event("clone-refused", |event| event["device"] == "original");
    assert_eq!(event["address"], "127.0.0.1", "{event:#}");
    let words = event["detail"].to_string();
    assert!(words.contains("127.0.0.1"), "the event names both: {event:#}");
    wait::until("the clone says why", || clone.log(), |log| log.to_lowercase().contains("in use"));
    original.send("from the original");
    wait::until("it is archived", || server.archived("original"), |all| *all == ["from the original"]);
    let sessions = server.ask(&["sessions", "original"]);
    assert!(sessions.len() == 1 && sessions[0]["ended"].is_null(), "{sessions:#?}");
    assert_eq!(server.events("clone-refused").len(), 1, "it waits long before it tries again");
    Ok(())
}

#[test]
fn a_restored_database_gets_again_what_it_lost() -> io::Result<()> {
    let mut server = Server::start()?;
    let agent = Agent::start(&server, "faithful")?;
    agent.send("before the backup");
    wait::until("it is archived", || server.archived("faithful").len(), |count| *count == 1);
    server.tell(&["send", "faithful", "order one"]);
    wait::until("it is there", || agent.receive(), |all| *all == ["order one"]);
    server.terminate();
    let backup = tempfile::tempdir()?;
    files::copy(server.data(), backup.path())?;
    server.run()?;
    server.wait_online("faithful", true);
    for text in ["one", "two", "three"] {
        agent.send(text);
    }
    wait::until("all are archived", || server.archived("faithful").len(), |count| *count == 4);
    server.tell(&["send", "faithful", "order two"]);
    wait::until("it is there", || agent.receive(), |all| *all == ["order two"]);

    // The disk dies, and the backup comes back.
    server.kill();
    fs::remove_dir_all(server.data())?;
    files::copy(backup.path(), server.data())?;
    server.run()?;
    let expected = ["before the backup", "one", "two", "three"];
    wait::until("what was lost comes again", || server.archived("faithful"), |all| *all == expected);
    // Numbers that the lost time had given out are not taken for those of today.
    server.tell(&["send", "faithful", "order three"]);
    wait::until("a new order is there", || agent.receive(), |all| *all == ["order three"]);
    agent.send("after");
    wait::until("all is archived, once", || server.archived("faithful").len(), |count| *count == 5);
    Ok(())
}

/// A database that is gone while the keys are there is an accident, most times: it is not passed over in silence.
#[test]
fn a_missing_database_is_an_event() -> io::Result<()> {
    let mut server = Server::start()?;
    assert!(server.events("store-missing").is_empty(), "the first start has neither keys nor database");
    server.terminate();
    for file in ["holdfast.db", "holdfast.db-wal", "holdfast.db-shm"] {
        let removed = fs::remove_file(server.data().join(file));
        assert!(removed.is_ok() || file != "holdfast.db", "{removed:?}");
    }
    server.run()?;
    let events = server.events("store-missing");
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(server.tell(&["events"]).contains("restore it from a backup"));
    Ok(())
}

#[test]
fn a_restored_agent_is_a_conflict_and_loses_nothing() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::start(&server, "card")?;
    agent.send("one");
    wait::until("it is archived", || server.archived("card").len(), |count| *count == 1);
    agent.terminate();
    let older = agent.cloned()?;
    agent.run()?;
    agent.send("two");
    agent.send("three");
    wait::until("all are archived", || server.archived("card").len(), |count| *count == 3);
    agent.kill();
    agent.restore(&older)?;
    // The card knows nothing of two and three, and gives their numbers to others.
    agent.send("two, another");
    agent.run()?;
    let expected = ["one", "two", "three", "two, another"];
    wait::until("the other is archived too", || server.archived("card"), |all| *all == expected);
    server.wait_event("message-conflict", |event| event["device"] == "card");
    let reasons: Vec<_> = server.ask(&["sessions", "card"]).iter().map(|one| one["reason"].clone()).collect();
    assert!(reasons.iter().any(|reason| reason == "conflict"), "{reasons:?}");
    server.wait_online("card", true);
    agent.send("four");
    wait::until("it goes on", || server.archived("card").len(), |count| *count == 5);
    Ok(())
}

#[test]
fn a_database_from_before_a_conflict_gets_again_what_was_echoed_before_it() -> io::Result<()> {
    let mut server = Server::start()?;
    let mut agent = Agent::start(&server, "card")?;
    let archived = |server: &Server, expected: &[&str]| {
        wait::until("it is archived", || server.archived("card"), |all| *all == expected);
    };
    agent.send("one");
    archived(&server, &["one"]);
    server.terminate();
    let backup = tempfile::tempdir()?;
    files::copy(server.data(), backup.path())?;
    server.run()?;
    agent.send("two");
    archived(&server, &["one", "two"]);
    agent.terminate();
    let older = agent.cloned()?;
    agent.run()?;
    agent.send("three");
    archived(&server, &["one", "two", "three"]);
    agent.kill();
    agent.restore(&older)?;
    agent.send("three, another");
    agent.run()?;
    archived(&server, &["one", "two", "three", "three, another"]);
    server.wait_event("message-conflict", |event| event["device"] == "card");

    // The server knows nothing of the new stream, and not all of the old one.
    server.kill();
    fs::remove_dir_all(server.data())?;
    files::copy(backup.path(), server.data())?;
    server.run()?;
    archived(&server, &["one", "two", "three, another"]);
    agent.send("after");
    archived(&server, &["one", "two", "three, another", "after"]);
    Ok(())
}

#[test]
fn a_message_larger_than_the_server_takes_holds_up_no_other() -> io::Result<()> {
    let mut server = Server::start()?;
    let agent = Agent::start(&server, "verbose")?;
    let large = "x".repeat(2_000);
    let archived = |server: &Server, expected: &[&str]| {
        wait::until("it is archived", || server.archived("verbose"), |all| *all == expected);
    };
    let shown = |server: &Server| {
        server.device("verbose").map(|device| device["status"]["messages-too-large"].clone())
    };
    let too_large = || {
        let status: Value = serde_json::from_str(&agent.tell(&["status", "--json"])).unwrap_or_default();
        status["outbox"]["too_large"].clone()
    };
    server.terminate();
    for text in ["one", &large, "two"] {
        agent.send(text);
    }
    server.configure("limits.max-frame = 1024\n")?;
    server.run()?;
    archived(&server, &["one", "two"]);
    assert_eq!(too_large(), 1);
    assert!(agent.tell(&["status"]).contains("limits.max-frame"));
    wait::until("the server is told", || shown(&server), |shown| *shown == Some(1.0.into()));
    let refused = agent.command(&["send", &large], LONGEST_WAIT)?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("984 are the most that may go to this server; send it in parts"), "{words}");

    server.terminate();
    server.configure("")?;
    server.run()?;
    archived(&server, &["one", "two", &large]);
    assert_eq!(too_large(), 0);
    wait::until("the server is told", || shown(&server), |shown| *shown == Some(Value::Null));
    Ok(())
}
