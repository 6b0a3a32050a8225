//! Over Ethernet, with TLS.

use std::{io, time::Instant};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    machine::{Machine, from_within},
    proxy::{Break, Network, Proxy},
    server::Server,
    wait,
};
use rustix::process::Signal;

use crate::{
    BOARD, assert_answers, assert_offline_in_time, assert_one_session, counts, texts, wait_counts, wait_told,
};

/// A server, a network that can be cut, and a machine on it.
pub(crate) struct Scene {
    pub(crate) proxy: Proxy,
    pub(crate) server: Server,
    pub(crate) machine: Machine,
}

impl Scene {
    /// All are there, and the machine is online.
    pub(crate) fn new() -> io::Result<Self> {
        let (proxy, server) = network()?;
        let mut machine = Machine::provisioned(&server, BOARD)?;
        machine.run()?;
        server.wait_online(BOARD, true);
        Ok(Self { proxy, server, machine })
    }

    /// Waits until `more` numbers more than now are archived.
    #[track_caller]
    fn wait_counts(&self, more: usize) {
        wait_counts(&self.server, BOARD, more);
    }

    /// How often the machine was started, by its numbers, which are complete.
    #[track_caller]
    fn starts(&self) -> usize {
        counts(&self.server, BOARD).len()
    }
}

/// A server that machines find behind a network.
pub(crate) fn network() -> io::Result<(Proxy, Server)> {
    let proxy = Proxy::start()?;
    let server = Server::configured("", Some(from_within(proxy.address())))?;
    proxy.lead_to(server.address());
    Ok((proxy, server))
}

#[test]
fn a_microcontroller_is_a_device_like_any_other() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, machine, .. } = &scene;
    machine.wait_console(&["started", "PowerOn", "connecting", &format!("online as {BOARD}")]);
    wait_told(server, BOARD, ResetReason::PowerOn);
    scene.wait_counts(2);
    assert_answers(server, BOARD, &texts("set", 3));
    let round_trip = &server.ask(&["ping", BOARD])[0]["round_trip_ms"];
    assert!(round_trip.as_f64().is_some_and(|millis| millis > 0.0), "{round_trip}");
    scene.wait_counts(1);
    assert_eq!(scene.starts(), 1);
    Ok(())
}

#[test]
fn presence_is_true_however_a_microcontroller_stops() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.wait_counts(1);
    for _ in 1..=2 {
        scene.machine.process().signal(Signal::STOP);
        assert_offline_in_time(&scene.server, BOARD, Instant::now());
        scene.machine.process().signal(Signal::CONT);
        scene.server.wait_online(BOARD, true);
        scene.wait_counts(2);
    }
    assert_eq!(scene.starts(), 1, "it was not reset");

    for starts in 2..=3 {
        scene.machine.kill();
        assert_offline_in_time(&scene.server, BOARD, Instant::now());
        scene.machine.run()?;
        scene.server.wait_online(BOARD, true);
        scene.wait_counts(2);
        assert_eq!(scene.starts(), starts);
    }
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

#[test]
fn a_microcontroller_comes_back_over_a_network_that_breaks() -> io::Result<()> {
    let mut scene = Scene::new()?;
    let machine = scene.machine.process().id();
    let Scene { proxy, server, .. } = &scene;
    let sessions = || server.ask(&["sessions", BOARD]).len();
    scene.wait_counts(1);

    for how in [Break::Cut, Break::HalfOpenAtDevice] {
        let before = sessions();
        assert!(proxy.break_all(machine, how) > 0, "{how:?}");
        wait::until(&format!("there is a new session after {how:?}"), sessions, |count| *count > before);
        scene.wait_counts(2);
    }
    // Nobody tells the server that the device is gone, and the device can't come back.
    proxy.set(machine, Network::Refusing);
    assert!(proxy.break_all(machine, Break::HalfOpenAtServer) > 0);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    proxy.set(machine, Network::Good);
    scene.wait_counts(2);

    // No byte passes, and then all of them.
    proxy.set(machine, Network::Stalled);
    assert_offline_in_time(&scene.server, BOARD, Instant::now());
    proxy.set(machine, Network::Good);
    scene.wait_counts(2);

    assert_eq!(scene.starts(), 1, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

#[test]
fn a_microcontroller_comes_back_to_its_server() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.wait_counts(1);
    scene.server.terminate();
    scene.server.run()?;
    scene.wait_counts(2);
    scene.server.kill();
    scene.server.run()?;
    scene.wait_counts(2);
    assert_eq!(scene.starts(), 1, "it was not reset");
    assert_one_session(&scene.server, BOARD);
    Ok(())
}

#[test]
fn a_microcontroller_is_reset_by_a_message() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, machine, .. } = &scene;
    scene.wait_counts(1);
    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    machine.wait_console(&["online as", "resetting", "started", "Software", "online as"]);
    wait_told(server, BOARD, ResetReason::Software);
    wait::until("it counts anew", || scene.starts(), |starts| *starts == 2);
    scene.wait_counts(2);
    let waiting = server.device(BOARD).map(|device| device["queued"].clone());
    assert_eq!(waiting, Some(0.into()), "the message was echoed before the reset");
    assert_eq!(scene.starts(), 2, "it was reset once");
    Ok(())
}
