//! Over Ethernet, with TLS.

use std::{io, time::Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    proxy::{Break, Network},
    scene::{BOARD, OnNetwork, assert_answers, counts, texts, wait_counts},
    wait,
};
use rustix::process::Signal;

use crate::{assert_offline_in_time, assert_one_session, assert_outlives, assert_said_farewell, wait_told};

#[test]
fn a_microcontroller_is_a_device_like_any_other() -> io::Result<()> {
    let scene = OnNetwork::start()?;
    let OnNetwork { server, machine, .. } = &scene;
    machine.wait_console(&["started", "PowerOn", "connecting", &format!("online as {BOARD}")]);
    wait_told(server, BOARD, ResetReason::PowerOn);
    wait_counts(&scene.server, BOARD, 2);
    assert_answers(server, BOARD, &texts("set", 3));
    let round_trip = &server.ask(&["ping", BOARD])[0]["round_trip_ms"];
    assert!(round_trip.as_f64().is_some_and(|millis| millis > 0.0), "{round_trip}");
    wait_counts(&scene.server, BOARD, 1);
    assert_eq!(counts(&scene.server, BOARD).len(), 1);
    Ok(())
}

#[test]
fn presence_is_true_however_a_microcontroller_stops() -> io::Result<()> {
    let mut scene = OnNetwork::start()?;
    wait_counts(&scene.server, BOARD, 1);
    for _ in 1..=2 {
        scene.machine.process().signal(Signal::STOP);
        assert_offline_in_time(&scene.server, BOARD, Instant::now());
        scene.machine.process().signal(Signal::CONT);
        scene.server.wait_online(BOARD, true);
        wait_counts(&scene.server, BOARD, 2);
    }
    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");

    for starts in 2..=3 {
        scene.machine.kill();
        assert_offline_in_time(&scene.server, BOARD, Instant::now());
        scene.machine.run()?;
        scene.server.wait_online(BOARD, true);
        wait_counts(&scene.server, BOARD, 2);
        assert_eq!(counts(&scene.server, BOARD).len(), starts);
    }
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

#[test]
fn a_microcontroller_comes_back_over_a_network_that_breaks() -> io::Result<()> {
    let mut scene = OnNetwork::start()?;
    let machine = scene.machine.process().id();
    let OnNetwork { proxy, server, .. } = &scene;
    let sessions = || server.ask(&["sessions", BOARD]).len();
    wait_counts(&scene.server, BOARD, 1);

    for how in [Break::Cut, Break::HalfOpenAtDevice] {
        let before = sessions();
        assert!(proxy.break_all(machine, how) > 0, "{how:?}");
        wait::until(&format!("there is a new session after {how:?}"), sessions, |count| *count > before);
        wait_counts(&scene.server, BOARD, 2);
    }
    // Nobody tells the server that the device is gone, and the device can't come back.
    proxy.set(machine, Network::Refusing);
    assert!(proxy.break_all(machine, Break::HalfOpenAtServer) > 0);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    proxy.set(machine, Network::Good);
    wait_counts(&scene.server, BOARD, 2);

    // No byte passes, and then all of them.
    proxy.set(machine, Network::Stalled);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    proxy.set(machine, Network::Good);
    wait_counts(&scene.server, BOARD, 2);

    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

#[test]
fn a_microcontroller_comes_back_to_its_server() -> io::Result<()> {
    let mut scene = OnNetwork::start()?;
    wait_counts(&scene.server, BOARD, 1);
    assert_outlives(&mut scene.server, BOARD)
}

#[test]
fn a_microcontroller_is_reset_by_a_message() -> io::Result<()> {
    let scene = OnNetwork::start()?;
    let OnNetwork { server, machine, .. } = &scene;
    wait_counts(&scene.server, BOARD, 1);
    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    machine.wait_console(&["online as", "resetting", "started", "Software", "online as"]);
    wait_told(server, BOARD, ResetReason::Software);
    wait::until("it counts anew", || counts(&scene.server, BOARD).len(), |starts| *starts == 2);
    wait_counts(&scene.server, BOARD, 2);
    let waiting = server.device(BOARD).map(|device| device["queued"].clone());
    assert_eq!(waiting, Some(0.into()), "the message was echoed before the reset");
    assert_eq!(counts(&scene.server, BOARD).len(), 2, "it was reset once");
    assert_said_farewell(server, BOARD);
    Ok(())
}
