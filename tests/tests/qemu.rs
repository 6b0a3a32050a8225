//! Real firmware on emulated microcontrollers, against the real server.

use std::{
    io,
    time::{Duration, Instant},
};

use agent_embedded::board::ResetReason;
use holdfast_tests::{
    machine::{Machine, from_within},
    proxy::{Break, Network, Proxy},
    server::{BOUND, Server},
    wait,
};
use rustix::process::Signal;
use serde_json::Value;

/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(4);

const BOARD: &str = "barometer";

/// Values of the reading `reset-reason`.
const POWER_ON: f64 = ResetReason::PowerOn as u8 as f64;
const SOFTWARE: f64 = ResetReason::Software as u8 as f64;

/// A server, a network that can be cut, and a machine on it.
struct Scene {
    proxy: Proxy,
    server: Server,
    machine: Machine,
}

impl Scene {
    /// All are there, and the machine is online.
    fn new() -> io::Result<Self> {
        let proxy = Proxy::start()?;
        let server = Server::configured("", Some(from_within(proxy.address())))?;
        proxy.lead_to(server.address());
        let mut machine = Machine::provisioned(&server, BOARD)?;
        machine.run()?;
        let scene = Self { proxy, server, machine };
        scene.wait_online();
        Ok(scene)
    }

    #[track_caller]
    fn wait_online(&self) {
        self.server.wait_online(BOARD, true);
    }

    /// Waits until it is shown offline, which the bound allows it to take so long for.
    #[track_caller]
    fn assert_offline_in_time(&self, since: Instant) {
        self.server.wait_online(BOARD, false);
        assert!(since.elapsed() < BOUND + SLACK, "{BOARD} was shown online for {:?}", since.elapsed());
    }

    /// Waits until `more` numbers more than now are archived.
    #[track_caller]
    fn wait_counts(&self, more: usize) {
        wait_counts(&self.server, BOARD, more);
    }

    /// There are no ghosts and no doubles.
    #[track_caller]
    fn assert_one_session(&self) {
        let sessions = self.server.ask(&["sessions", BOARD]);
        let open = sessions.iter().filter(|session| session["ended"].is_null()).count();
        assert_eq!(open, 1, "{sessions:#?}");
    }

    /// What its status says, by a name.
    fn reading(&self, name: &str) -> Option<f64> {
        reading(&self.server, BOARD, name)
    }
}

/// The bodies of the messages of one kind that were archived from a device, in their order.
#[track_caller]
fn archived(server: &Server, device: &str, kind: &str) -> Vec<String> {
    let messages = server.api().list(&format!("/messages?device={device}")).expect("the server tells");
    let of_kind = messages.iter().filter(|message| message["direction"] == "in" && message["kind"] == kind);
    of_kind.map(|message| message["body"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The numbers that a device has sent since each of its starts: they begin with 1, and none is left out or comes twice.
#[track_caller]
fn counts(server: &Server, device: &str) -> Vec<Vec<u64>> {
    let all = archived(server, device, "count");
    let mut starts: Vec<Vec<u64>> = Vec::new();
    for body in &all {
        let number: u64 = body.parse().unwrap_or_else(|_| panic!("expected a number, found {body:?}"));
        match starts.last_mut() {
            Some(start) if number == start.len() as u64 + 1 => start.push(number),
            _ if number == 1 => starts.push(vec![1]),
            _ => panic!("{number} does not follow what is before it: {all:?}"),
        }
    }
    starts
}

/// Waits until `more` numbers more than now are archived.
#[track_caller]
fn wait_counts(server: &Server, device: &str, more: usize) {
    let count = || archived(server, device, "count").len();
    let enough = count() + more;
    wait::until(&format!("{device} has sent {more} numbers more"), count, |now| *now >= enough);
}

fn reading(server: &Server, device: &str, name: &str) -> Option<f64> {
    let device = server.device(device)?;
    device["status"][name].as_f64()
}

#[test]
fn a_microcontroller_is_a_device_like_any_other() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, machine, .. } = &scene;
    machine.wait_console(&["started", "PowerOn", "connecting", &format!("online as {BOARD}")]);
    let told = wait::until("it has said all", || server.device(BOARD), says_all);
    let version = told.map(|device| device["version"].clone());
    assert_eq!(version, Some(env!("CARGO_PKG_VERSION").into()));
    assert_eq!(scene.reading("reset-reason"), Some(POWER_ON));
    assert!(scene.reading("queue-free").is_some_and(|free| free > 0.0));
    assert!(scene.reading("uptime-seconds").is_some_and(|seconds| seconds < 600.0));

    scene.wait_counts(3);
    for number in 1..=3 {
        server.tell(&["send", BOARD, &format!("set {number}")]);
        wait::until("it is answered", || archived(server, BOARD, "answer").len(), |count| *count == number);
    }
    assert_eq!(archived(server, BOARD, "answer"), ["set 1", "set 2", "set 3"]);
    let round_trip = &server.ask(&["ping", BOARD])[0]["round_trip_ms"];
    assert!(round_trip.as_f64().is_some_and(|millis| millis > 0.0), "{round_trip}");
    scene.wait_counts(2);
    assert_eq!(counts(server, BOARD).len(), 1, "it was not reset");
    Ok(())
}

#[test]
fn presence_is_true_however_a_microcontroller_stops() -> io::Result<()> {
    let mut scene = Scene::new()?;
    scene.wait_counts(1);
    for _ in 1..=2 {
        scene.machine.process().signal(Signal::STOP);
        scene.assert_offline_in_time(Instant::now());
        scene.machine.process().signal(Signal::CONT);
        scene.wait_online();
        scene.wait_counts(2);
    }
    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");

    for starts in 2..=3 {
        scene.machine.kill();
        scene.assert_offline_in_time(Instant::now());
        scene.machine.run()?;
        scene.wait_online();
        scene.wait_counts(2);
        assert_eq!(counts(&scene.server, BOARD).len(), starts);
    }
    scene.assert_one_session();
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
    scene.assert_offline_in_time(Instant::now());
    proxy.set(machine, Network::Good);
    scene.wait_counts(2);

    // No byte passes, and then all of them.
    proxy.set(machine, Network::Stalled);
    scene.assert_offline_in_time(Instant::now());
    proxy.set(machine, Network::Good);
    scene.wait_counts(2);

    assert_eq!(counts(server, BOARD).len(), 1, "it was not reset");
    scene.assert_one_session();
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
    assert_eq!(counts(&scene.server, BOARD).len(), 1, "it was not reset");
    scene.assert_one_session();
    Ok(())
}

#[test]
fn a_microcontroller_is_reset_by_a_message() -> io::Result<()> {
    let scene = Scene::new()?;
    let Scene { server, machine, .. } = &scene;
    scene.wait_counts(1);
    server.tell(&["send", BOARD, "--kind", "reset", ""]);
    machine.wait_console(&["online as", "resetting", "started", "Software", "online as"]);
    wait::until("it says why", || scene.reading("reset-reason"), |reason| *reason == Some(SOFTWARE));
    wait::until("it counts anew", || counts(server, BOARD).len(), |starts| *starts == 2);
    scene.wait_counts(2);
    let waiting = server.device(BOARD).map(|device| device["queued"].clone());
    assert_eq!(waiting, Some(0.into()), "the message was echoed before the reset");
    assert_eq!(counts(server, BOARD).len(), 2, "it was reset once");
    Ok(())
}

fn says_all(device: &Option<Value>) -> bool {
    device.as_ref().is_some_and(|device| device["version"].is_string() && device["status"].is_object())
}
