//! A microcontroller that is wired to an agent by a serial line: over a line as bad as they come, and whatever happens
//! to either end, nothing wrong is archived and nothing that was echoed is lost.

use std::{collections::BTreeSet, io, net::TcpListener, sync::Arc, time::Duration};

use holdfast_tests::{
    agent::Agent,
    microcontroller::Microcontroller,
    scene::{BOARD, GATEWAY, assert_gateway_undisturbed, enrol_wired, texts, wiring},
    serial_line::{SerialLine, garbage},
    server::Server,
    wait,
};
use protocol_core::code::CloseReason;
use rustix::process::Signal;
use serde_json::Value;

/// A server, an agent, and a microcontroller that is wired to it.
struct Scene {
    server: Server,
    agent: Agent,
    line: Arc<SerialLine>,
    board: Microcontroller,
}

/// Longer than a device waits that was refused.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

impl Scene {
    /// All are there, and the microcontroller is online.
    fn new() -> io::Result<Self> {
        let scene = Self::prepared(|server, _| enrol_wired(server))?;
        scene.server.wait_online(BOARD, true);
        Ok(scene)
    }

    /// All are there, and the microcontroller starts once server and line are prepared.
    fn prepared(prepare: impl FnOnce(&Server, &SerialLine)) -> io::Result<Self> {
        let server = Server::start()?;
        let line = Arc::new(SerialLine::new()?);
        let mut agent = Agent::enrolled(&server, GATEWAY)?;
        prepare(&server, &line);
        agent.configure(&wiring(&line))?;
        agent.run()?;
        server.wait_online(GATEWAY, true);
        let board = Microcontroller::wired(&line);
        Ok(Self { server, agent, line, board })
    }

    /// What the agent says of its line.
    fn status(&self) -> Value {
        status(&self.agent)
    }

    /// Waits until the line stands so, for a reason with these words in it, and gives what is said of it.
    #[track_caller]
    fn wait_status(&self, state: &str, words: &str) -> Value {
        wait::until(
            &format!("the line is {state}"),
            || self.status(),
            |line| {
                let reason = line["reason"].as_str().unwrap_or_default();
                line["state"] == state && reason.contains(words)
            },
        )
    }

    /// Waits until all of these are archived, each once, and nothing else is.
    #[track_caller]
    fn wait_archived(&self, texts: &[String]) {
        wait::until("all are archived", || self.server.archived(BOARD), |all| all.len() >= texts.len());
        assert_eq!(self.server.archived(BOARD), texts);
    }
}

fn status(agent: &Agent) -> Value {
    let printed = agent.tell(&["status", "--json"]);
    let status: Value = serde_json::from_str(&printed).expect("the status is JSON");
    status["serial"][0].clone()
}

#[test]
fn messages_go_both_ways_through_a_gateway() -> io::Result<()> {
    let scene = Scene::new()?;
    let up = texts("measured", 30);
    up.iter().for_each(|text| scene.board.say(text));
    let down = texts("set", 5);
    down.iter().for_each(|text| drop(scene.server.tell(&["send", BOARD, text])));
    scene.wait_archived(&up);
    scene.board.wait("all are received", |seen| seen.received == down);
    assert_eq!(scene.board.wait_echoed(30).echoed, up);
    let round_trip = &scene.server.ask(&["ping", BOARD])[0]["round_trip_ms"];
    assert!(round_trip.as_f64().is_some_and(|millis| millis > 0.0), "{round_trip}");

    let line = scene.wait_status("connected", "");
    assert_eq!((&line["device"], &line["baud"]), (&BOARD.into(), &115_200.into()), "{line:#}");
    assert!(line["since"].as_u64() > Some(0) && line["reason"].is_null(), "{line:#}");
    let printed = scene.agent.tell(&["status"]);
    assert!(printed.contains("barometer on ") && printed.contains("at 115200 baud: connected"), "{printed}");
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

/// Bytes are damaged, lost and inserted, each way, all the time.
#[test]
fn a_noisy_line_costs_time_and_nothing_else() -> io::Result<()> {
    for seed in 1..=3 {
        let scene = Scene::new()?;
        scene.line.set_noise(seed, 200);
        let up = texts("measured over a bad line", 40);
        up.iter().for_each(|text| scene.board.say(text));
        let down = texts("set", 5);
        down.iter().for_each(|text| drop(scene.server.tell(&["send", BOARD, text])));
        scene.wait_archived(&up);
        scene.board.wait("all are received", |seen| seen.received == down);
        assert_eq!(scene.board.wait_echoed(40).echoed, up, "seed {seed}");
        let hit = scene.line.hit();
        assert!(hit.iter().sum::<usize>() > 20, "the noise of seed {seed} hit {hit:?} bytes");
        assert_gateway_undisturbed(&scene.server);
    }
    Ok(())
}

#[test]
fn a_line_that_is_unplugged_comes_back_when_it_is_plugged_in() -> io::Result<()> {
    let scene = Scene::new()?;
    scene.board.say("before");
    scene.board.wait_echoed(1);
    scene.line.unplug()?;
    scene.server.wait_online(BOARD, false);
    scene.wait_status("no-port", "is it plugged in");
    scene.board.say("while it was unplugged");
    scene.line.plug()?;
    scene.server.wait_online(BOARD, true);
    scene.wait_archived(&["before".into(), "while it was unplugged".into()]);
    scene.wait_status("connected", "");
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

/// The button is pressed while it sends: a part of a packet stands on the line, and all that it had in RAM is gone.
#[test]
fn a_reset_in_the_middle_of_a_frame_is_a_new_session() -> io::Result<()> {
    let scene = Scene::new()?;
    for round in 1..=5 {
        scene.line.break_off(10 * round);
        texts(&format!("perhaps lost in round {round}:"), 10).iter().for_each(|text| scene.board.say(text));
        scene.line.wait_broken_off();
        scene.board.reset();
        scene.line.mend();
        let goes_on = format!("goes on after round {round}");
        scene.board.say(&goes_on);
        scene.board.wait("it goes on", |seen| seen.echoed.last() == Some(&goes_on));
    }
    let (echoed, archived) = (scene.board.seen().echoed, scene.server.archived(BOARD));
    assert!(echoed.iter().all(|text| archived.contains(text)), "{echoed:?} of {archived:?}");
    let different: BTreeSet<_> = archived.iter().collect();
    assert_eq!(different.len(), archived.len(), "nothing is archived twice: {archived:?}");
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

/// What a line says while it is plugged in, or at a wrong speed.
#[test]
fn garbage_is_not_waited_for_and_says_what_it_may_be() -> io::Result<()> {
    let server = Server::start()?;
    let line = Arc::new(SerialLine::new()?);
    let mut agent = Agent::enrolled(&server, GATEWAY)?;
    enrol_wired(&server);
    agent.configure(&wiring(&line))?;
    agent.run()?;
    wait::until("nobody answers", || status(&agent), |line| line["state"] == "silent");
    let garbage = garbage(4_000);
    wait::until(
        "it is told what it may be",
        || {
            line.write(&garbage);
            status(&agent)
        },
        |line| line["reason"].as_str().is_some_and(|reason| reason.contains("baud")),
    );
    let board = Microcontroller::wired(&line);
    line.write(&garbage);
    server.wait_online(BOARD, true);
    line.write(&garbage);
    board.say("heard all the same");
    board.wait_echoed(1);
    assert_eq!(server.archived(BOARD), ["heard all the same"]);
    Ok(())
}

#[test]
fn a_wrong_speed_is_told_and_a_right_one_serves() -> io::Result<()> {
    let scene = Scene::prepared(|server, line| {
        enrol_wired(server);
        // Nothing comes through as it was sent.
        line.set_noise(1, 1);
    })?;
    scene.board.say("at the wrong speed");
    scene.wait_status("silent", "baud");
    assert!(scene.board.seen().echoed.is_empty() && !scene.server.shows_online(BOARD));
    scene.line.set_noise(0, 0);
    scene.wait_archived(&["at the wrong speed".into()]);

    // And while it is connected.
    scene.line.set_noise(2, 1);
    scene.server.wait_online(BOARD, false);
    scene.board.say("at the wrong speed again");
    scene.line.set_noise(0, 0);
    scene.wait_archived(&["at the wrong speed".into(), "at the wrong speed again".into()]);
    assert_gateway_undisturbed(&scene.server);
    Ok(())
}

#[test]
fn a_server_that_restarts_or_dies_is_come_back_to() -> io::Result<()> {
    let mut scene = Scene::new()?;
    let mut sent = Vec::new();
    for round in 1..=2 {
        let farewells = scene.board.seen().farewells.len();
        if round == 1 {
            scene.server.terminate();
            // The server's own words have come through to the end.
            scene.board.wait("it is told", |seen| seen.farewells.len() > farewells);
            assert_eq!(scene.board.seen().farewells[farewells], CloseReason::Draining);
        } else {
            scene.server.kill();
        }
        sent.push(format!("while it was down for the {round}. time"));
        scene.board.say(&sent[round - 1]);
        scene.server.run()?;
        scene.server.wait_online(BOARD, true);
        scene.wait_archived(&sent);
    }
    assert_eq!(scene.board.wait_echoed(2).echoed, sent);
    Ok(())
}

/// Bytes pile up on the way, as far as they may, and the device finds out by itself that nobody answers.
#[test]
fn a_server_that_is_held_up_is_given_up_and_found_again() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.server.process().signal(Signal::STOP);
    let sent = texts("while it was held up", 30);
    sent.iter().for_each(|text| scene.board.say(text));
    wait::until("the device begins anew", || scene.status(), |line| line["state"] != "connected");
    scene.server.process().signal(Signal::CONT);
    scene.wait_archived(&sent);
    assert_eq!(scene.board.wait_echoed(30).echoed, sent);
    Ok(())
}

#[test]
fn a_gateway_that_dies_takes_its_devices_with_it_and_brings_them_back() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.board.say("before");
    scene.board.wait_echoed(1);
    scene.agent.kill();
    scene.server.wait_online(BOARD, false);
    scene.board.say("while it was gone");
    scene.agent.run()?;
    scene.server.wait_online(BOARD, true);
    scene.wait_archived(&["before".into(), "while it was gone".into()]);

    scene.agent.terminate();
    scene.server.wait_online(BOARD, false);
    scene.agent.run()?;
    scene.server.wait_online(BOARD, true);
    // What is left on the line of the session before is no sign of a wrong speed.
    assert!(!scene.agent.log().contains("baud)"), "{}", scene.agent.log());
    Ok(())
}

/// Wires that are cut, or a device that is off: nobody is told that it would come back by itself.
#[test]
fn a_device_that_falls_silent_is_not_said_to_ask_again() -> io::Result<()> {
    let Scene { server, agent, board, line: _line } = Scene::new()?;
    drop(board);
    server.wait_online(BOARD, false);
    let mut promised = Vec::new();
    wait::until(
        "the wire is to be looked at",
        || {
            let line = status(&agent);
            promised.extend(line["asks_again_within_seconds"].as_u64().filter(|wait| *wait > 0));
            line
        },
        |line| line["reason"].as_str().is_some_and(|reason| reason.starts_with("nothing comes")),
    );
    assert!(promised.is_empty(), "{promised:?}");
    assert_gateway_undisturbed(&server);
    Ok(())
}

/// It says farewell before it resets: nothing of that is a fault.
#[test]
fn a_reset_that_was_asked_for_is_no_warning() -> io::Result<()> {
    let scene = Scene::new()?;
    for round in 1..=3 {
        scene.server.tell(&["send", BOARD, "--kind", "reset", "now"]);
        scene.board.wait("it has reset", |seen| seen.starts > round);
        scene.server.wait_online(BOARD, true);
    }
    scene.wait_status("connected", "");
    let warned = scene.agent.log().lines().filter(|line| line.contains("WARN")).count();
    assert_eq!(warned, 0, "{}", scene.agent.log());
    Ok(())
}

/// It may be configured before it is enrolled; then nothing is wrong with the line.
#[test]
fn a_gateway_that_is_not_enrolled_says_so_of_its_lines() -> io::Result<()> {
    let server = Server::start()?;
    let line = Arc::new(SerialLine::new()?);
    let mut agent = Agent::new(GATEWAY)?;
    agent.configure(&wiring(&line))?;
    agent.run()?;
    // It has no state directory at first, and nobody to ask.
    wait::until_true("it runs", || agent.state().join("agent.sock").exists());
    let told =
        |line: &Value| line["reason"].as_str().is_some_and(|reason| reason.contains("not enrolled itself"));
    wait::until("it says why", || status(&agent), told);
    agent.tell(&["enroll", &server.invite(&["--name", GATEWAY])]);
    wait::until("that is no reason any longer", || status(&agent), |line| !told(line));
    Ok(())
}

/// Who does not know which of the names belongs there is told.
#[test]
fn a_gateway_that_has_its_own_name_for_a_line_is_told_what_belongs_there() -> io::Result<()> {
    let server = Server::start()?;
    let line = Arc::new(SerialLine::new()?);
    let mut agent = Agent::enrolled(&server, GATEWAY)?;
    agent.configure(&format!("[[serial]]\npath = '{}'\ndevice = '{GATEWAY}'\n", line.path().display()))?;
    agent.run()?;
    let _board = Microcontroller::wired(&line);
    wait::until(
        "it is told",
        || status(&agent),
        |line| {
            line["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("[[serial]] device is what is wired"))
        },
    );
    Ok(())
}

/// The gateway has found out which address serves; each session of the device is carried there at once, and does not wait
/// for the first in vain.
#[test]
fn an_address_that_never_answers_does_not_keep_a_wired_device_offline() -> io::Result<()> {
    let mut server = Server::start()?;
    // The system accepts for it; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    silent.set_nonblocking(true)?;
    let (nowhere, somewhere) = (silent.local_addr()?, server.address());
    server.terminate();
    server.configure(&format!("advertise = ['{nowhere}', '{somewhere}']\n"))?;
    server.run()?;
    let line = Arc::new(SerialLine::new()?);
    let mut agent = Agent::new(GATEWAY)?;
    agent.configure(&wiring(&line))?;
    agent.tell(&["enroll", &server.invite(&["--name", GATEWAY])]);
    enrol_wired(&server);
    agent.run()?;
    server.wait_online(GATEWAY, true);
    while silent.accept().is_ok() {}

    let board = Microcontroller::wired(&line);
    for round in 1..=3 {
        board.say(&format!("after start {round}"));
        board.wait("it is heard", |seen| seen.echoed.len() == round);
        board.reset();
    }
    server.wait_online(BOARD, true);
    let asked = std::iter::from_fn(|| silent.accept().ok()).count();
    assert_eq!(asked, 0, "connections for the device to the address that does not answer");
    Ok(())
}

/// The server refuses, the device is told so by the server itself, and the agent shows it.
#[test]
fn a_device_that_is_not_enrolled_is_told_so_and_comes_in_once_it_is() -> io::Result<()> {
    let scene = Scene::prepared(|_, _| ())?;
    let seen = scene.board.wait("it is refused", |seen| !seen.farewells.is_empty());
    assert_eq!(seen.farewells, [CloseReason::UnknownKey]);
    let shown = scene.wait_status("up", "holdfast enroll --name barometer --gateway pi");
    assert!(
        shown["reason"].as_str().is_some_and(|reason| reason.starts_with("the server refuses it")),
        "{shown:#}"
    );
    assert!((1..=40).contains(&shown["asks_again_within_seconds"].as_u64().unwrap_or(0)), "{shown:#}");
    let shown = scene.agent.tell(&["status"]);
    assert!(shown.contains("(unknown-key); it asks again by itself within "), "{shown}");
    enrol_wired(&scene.server);
    // It would wait for as long.
    scene.board.turn_clock(REFUSED_WAIT);
    scene.server.wait_online(BOARD, true);
    let shown = scene.wait_status("connected", "");
    assert!(shown["reason"].is_null() && shown["asks_again_within_seconds"].is_null(), "{shown:#}");

    scene.server.tell(&["revoke", BOARD]);
    scene.board.wait("it is told", |seen| seen.farewells.last() == Some(&CloseReason::Revoked));
    scene.server.wait_online(BOARD, false);
    scene.wait_status("up", "`holdfast enroll --name barometer --gateway pi` (revoked)");
    // It is told to wait, and is silent as long as it does: why it has to is still shown.
    let Scene { server, agent, board, line, .. } = scene;
    drop(board);
    let mut heard = 0;
    // More packets than a link sends until it gives up, of 14 bytes each.
    wait::until_true("the agent has tried for long", || {
        heard += line.read(Duration::from_millis(20)).len();
        heard > 25 * 14
    });
    let shown = status(&agent);
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("revoked")), "{shown:#}");
    assert_gateway_undisturbed(&server);
    Ok(())
}

#[test]
fn a_port_that_is_none_is_named() -> io::Result<()> {
    let server = Server::start()?;
    let mut agent = Agent::enrolled(&server, GATEWAY)?;
    for (path, words) in [("/nonexistent/tty", "is it plugged in"), ("/dev/null", "expected a serial port")] {
        agent.configure(&format!("[[serial]]\npath = '{path}'\ndevice = '{BOARD}'\n"))?;
        agent.run()?;
        server.wait_online(GATEWAY, true);
        let line = wait::until("it is told why", || status(&agent), |line| line["reason"].is_string());
        assert_eq!(line["state"], "no-port", "{line:#}");
        assert!(line["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{line:#}");
        agent.terminate();
    }
    // Two agents on one line would each lose half of it.
    let wire = Arc::new(SerialLine::new()?);
    agent.configure(&wiring(&wire))?;
    agent.run()?;
    let mut second = Agent::enrolled(&server, "second")?;
    wait::until("the port is open", || status(&agent), |line| line["state"] == "silent");
    second.configure(&wiring(&wire))?;
    second.run()?;
    let line = wait::until("it is told why", || status(&second), |line| line["reason"].is_string());
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("another program")), "{line:#}");
    Ok(())
}
